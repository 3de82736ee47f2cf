"""
One byte of CPython: the state of a suspended frame, and how to call the frame finished without running it.

Belongs here: all that depends on the memory of the interpreter, and the proof that it holds on this very interpreter.
Why: closing a suspended coroutine, generator or async generator raises ``GeneratorExit`` in it, and its ``finally``
runs; merely forgetting it does the same. A host must be able to forget a process without running a line of it.

What CPython does (``Objects/genobject.c``; 3.12 and 3.14 read in source, 3.11 and 3.13 in machine code): all three
types begin with ``_PyGenObject_HEAD``, whose signed byte ``gi_frame_state`` is negative before the start and while
suspended, 0 while executing, ``FRAME_COMPLETED`` (1) and ``FRAME_CLEARED`` (4) afterwards.

- ``_PyGen_Finalize`` returns at once for a state above 0: no ``close()``, no hook, no warning "never awaited".
- ``gen_dealloc`` clears the frame in every state but ``FRAME_CLEARED``, so locals, value stack and ``gi_exc_state`` are
  released as usual; a frame object that a traceback holds takes the locals over, as after a return.
- ``gen_traverse`` visits the frame until it is cleared, so the garbage collector still sees through it.
- ``send``, ``throw`` and ``close`` treat the object as exhausted; ``cr_frame`` and its like give None.

``FRAME_COMPLETED`` with a frame not yet cleared is no foreign state: most releases of 3.12 to 3.14 leave it behind
themselves when a generator that never started is closed (python/cpython issue 142766). Should an interpreter differ,
`offset` is None and nothing is ever touched. One shape is never freed: a generator that refers to itself through locals
of generators only, because these types have no ``tp_clear`` and the collector counts on closing them.
"""

from __future__ import annotations

import sys
import sysconfig
import types
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from functools import cache
from importlib import import_module
from typing import Any, TypeAlias, TypeGuard

Suspendable: TypeAlias = (
    "types.CoroutineType[Any, Any, Any] | types.GeneratorType[Any, Any, Any] | types.AsyncGeneratorType[Any, Any]"
)


def _import_ctypes() -> Any:
    try:
        return import_module("ctypes")
    except ImportError:  # an interpreter built without libffi
        return None


ctypes = _import_ctypes()

SUSPENDABLE = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
"""The types that hold a suspended frame."""

_EXECUTING = 0
_COMPLETED = 1
_CLEARED = 4


def is_suspendable(node: object) -> TypeGuard[Suspendable]:
    """Tell whether *node* is of one of the three types; no set or dict is asked, it would call a user's metaclass."""
    kind = type(node)
    return kind is types.CoroutineType or kind is types.GeneratorType or kind is types.AsyncGeneratorType


def is_suspended(owner: Suspendable) -> bool:
    """Tell whether the frame of *owner* could still run: it waits somewhere, or has not started."""
    return _state(owner) < _EXECUTING


def is_executing(owner: Suspendable) -> bool:
    """Tell whether the frame of *owner* is running at this moment."""
    return _state(owner) == _EXECUTING


def finish(owner: Suspendable) -> None:
    """Call the suspended frame of *owner* finished: when freed it releases what it holds and runs nothing."""
    _set_completed(owner, _known_offset())


def _state(owner: object) -> int:
    return int(ctypes.c_int8.from_address(id(owner) + _known_offset()).value)


def _set_completed(owner: object, at: int) -> None:
    ctypes.c_int8.from_address(id(owner) + at).value = _COMPLETED


def _known_offset() -> int:
    at = offset()
    assert at is not None, "the frame state was asked for on an interpreter where it is not known"
    return at


_kept: list[object] = []


def keep_for_ever(root: object) -> None:
    """Keep *root* and what it holds alive until the process of the interpreter is gone, unfinalized by its exit."""
    if ctypes is not None and hasattr(ctypes, "pythonapi"):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(root))  # a list would be emptied at the exit
    else:
        _kept.append(root)


@cache
def offset() -> int | None:
    """Return where the state is in the three types; None where it was not found or finishing a frame does not work."""
    at = _find()
    return at if at is not None and _finishing_works(at) and _finishing_works(at) else None


# --- finding the byte ----------------------------------------------------------------------------------------


def _find() -> int | None:
    """Find the one byte that tells created, suspended, executing and finished coroutines and generators apart."""
    if ctypes is None or sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return None  # without a GIL another thread may look at the byte, and reference counts mean something else
    histories = [_history(_watched_coroutine), _history(_watched_generator)]
    size = min(kind.__basicsize__ for kind in SUSPENDABLE)
    places = [at for at in range(object.__basicsize__, size) if all(_is_state(moments, at) for moments in histories)]
    return places[0] if len(places) == 1 else None


def _is_state(moments: list[bytes], at: int) -> bool:
    created, executing, suspended, cleared = (int.from_bytes(memory[at : at + 1], signed=True) for memory in moments)
    return created < suspended < _EXECUTING == executing and cleared == _CLEARED


def _history(function: Callable[[Callable[[], None]], Any]) -> list[bytes]:
    """Return the memory of one coroutine or generator when created, executing, suspended and finished."""

    def look() -> None:
        moments.append(ctypes.string_at(id(watched), type(watched).__basicsize__))

    moments: list[bytes] = []
    watched = function(look)
    look()
    watched.send(None)
    look()
    try:
        watched.send(None)
    except StopIteration:
        look()
    return moments


async def _watched_coroutine(look: Callable[[], None]) -> None:
    look()
    await _halt()


def _watched_generator(look: Callable[[], None]) -> Generator[None, None, None]:
    look()
    yield


@types.coroutine
def _halt() -> Generator[None, None, None]:
    yield


# --- proving it ----------------------------------------------------------------------------------------------


def _finishing_works(at: int) -> bool:
    """Finish a sample of every kind, free it, and see that nothing ran, nobody complained and its local is gone."""
    noticed: list[object] = []
    unraisable, hooks = sys.unraisablehook, sys.get_asyncgen_hooks()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sys.unraisablehook = noticed.append
        sys.set_asyncgen_hooks(firstiter=None, finalizer=noticed.append)
        try:
            local = _finish_sample(at, noticed)
        finally:
            sys.set_asyncgen_hooks(*hooks)
            sys.unraisablehook = unraisable
    return local() is None and not noticed and not warned


def _finish_sample(at: int, noticed: list[object]) -> weakref.ref[_Noticing]:
    local = _Noticing(noticed)
    numbers, items, inner, unstarted = _numbers(local), _items(local), _inner(local), _inner(local)
    outer = _outer(local, numbers, items, inner)
    outer.send(None)
    for owner in (outer, numbers, items, inner, unstarted):
        _set_completed(owner, at)
    return weakref.ref(local)


class _Noticing:
    """The local of a sample, a context manager too; everything that must not happen is noted in it."""

    def __init__(self, noticed: list[object]) -> None:
        self.noticed = noticed

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.noticed.append("exit")


async def _outer(local: _Noticing, numbers: Any, items: Any, inner: Any) -> None:
    try:
        for _ in numbers:
            async for _ in items:
                await inner
    finally:
        local.noticed.append("outer")


async def _inner(local: _Noticing) -> None:
    try:
        raise LookupError  # suspended in a handler: the exception being handled is released as well
    except LookupError:
        with local:
            await _halt()


async def _items(local: _Noticing) -> AsyncGenerator[int, None]:
    try:
        yield 1
    finally:
        local.noticed.append("items")


def _numbers(local: _Noticing) -> Generator[int, None, None]:
    try:
        yield 1
    finally:
        local.noticed.append("numbers")
