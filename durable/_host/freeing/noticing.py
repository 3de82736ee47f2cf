"""
What notices being freed by itself: finalizers, callbacks of weak references, files that flush.

Belongs here: the judgement of one object. Which objects are freed is found by `reachability`.
"""

from __future__ import annotations

import asyncio
import io
import types
import weakref
from collections.abc import AsyncGenerator, Iterator
from typing import cast

from durable._host.freeing.frame_state import SUSPENDABLE


def why_noticed(node: object) -> str | None:
    """Say why freeing *node* would not go unnoticed, as the end of a sentence; None if it would."""
    finalizer = _finalizer(type(node))
    if finalizer is not None and finalizer not in _HARMLESS_FINALIZERS and not _is_closed_file(node):
        return "is an open file" if issubclass(type(node), _FILE) else "has a `__del__` that would run"
    if weakref.getweakrefcount(node):
        for reference in weakref.getweakrefs(node):
            if not _is_bookkeeping(reference.__callback__):
                return f"has a weak reference whose callback would run, {_callback_name(reference.__callback__)}"
    return None


def _finalizer(kind: type) -> object:
    """Return the ``__del__`` of a class, the one of C types included, without asking a metaclass of the user."""
    if type(kind) is type:
        return getattr(kind, "__del__", None)
    try:
        return type.__getattribute__(kind, "__del__")
    except AttributeError:
        return None


def class_name(kind: type) -> str:
    """Return module and name of a class, without asking a metaclass of the user."""
    return ".".join(str(type.__getattribute__(kind, name)) for name in ("__module__", "__qualname__"))


def _callback_name(callback: object) -> str:
    if type(callback) is types.FunctionType:
        return f"{callback.__module__}.{callback.__qualname__}"
    return class_name(type(callback))


def _awaitables_of_async_generators() -> Iterator[type]:
    async def nothing() -> AsyncGenerator[None, None]:
        yield

    for awaitable in (nothing().asend(None), nothing().athrow(GeneratorExit)):
        yield type(awaitable)
        awaitable.close()


# Suspended frames are finished before they are freed, pending tasks and failed futures are silenced. The awaitables of
# async generators have a finalizer from 3.13 on; it only warns.
_HARMLESS_FINALIZERS: frozenset[object] = frozenset(
    _finalizer(kind) for kind in (*SUSPENDABLE, asyncio.Future, asyncio.Task, *_awaitables_of_async_generators())
)
_FILE = io.IOBase.__mro__[1]  # the class behind the abstract one, which would ask the user's `__subclasshook__`
_WRAPPERS = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)


def _is_closed_file(node: object) -> bool:
    """Tell whether *node* is a file already closed, or one in memory; a user's subclass never is."""
    kind = type(node)
    while kind in _WRAPPERS:
        try:
            node = node.buffer if kind is io.TextIOWrapper else node.raw  # type: ignore[attr-defined]
        except ValueError:  # detached: nothing to flush into
            return True
        kind = type(node)
    return kind is io.BytesIO or kind is io.StringIO or (kind is io.FileIO and cast(io.FileIO, node).closed)


def _codes_of_bookkeeping() -> Iterator[types.CodeType]:
    value = _Referent()
    containers = (
        weakref.WeakSet([value]),
        weakref.WeakKeyDictionary({value: 0}),
        weakref.WeakValueDictionary({0: value}),
    )
    assert len(containers) == weakref.getweakrefcount(value)
    for reference in weakref.getweakrefs(value):
        callback = reference.__callback__
        assert isinstance(callback, types.FunctionType)
        yield callback.__code__


class _Referent:
    """Something to be held weakly."""


# The weak containers of the standard library only forget an entry. asyncio knows every task by a `WeakSet`.
_BOOKKEEPING = list(_codes_of_bookkeeping())


def _is_bookkeeping(callback: object) -> bool:
    return callback is None or (
        type(callback) is types.FunctionType and any(callback.__code__ is code for code in _BOOKKEEPING)
    )
