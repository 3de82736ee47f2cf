"""
What would be freed together with a process, found the way the garbage collector finds it: by trial deletion.

Belongs here: the walk over everything a process can reach, and the count of who else holds it. Not here: what is
harmless to free (`noticing`), and how a frame is finished (`frame_state`).

`gc.get_referents` sees what locals do not show: the iterator of a running ``for`` and the ``__aexit__`` of an open
``async with`` are on the value stack only. An object whose references do not all come from within the walk is held
outside; it and what it refers to survive. Tasks, futures, timers and commands of the process are its own whoever holds
them, because the host gives them up next. The walk stops at modules, classes, loops, futures of other loops and at the
objects of this library: behind them is the world that all processes share. So are the variables that the process
function has from the function around it, often services that lead to thousands of objects: its definition holds it.
The walk is read-only and calls no user code.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import types
import weakref
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import cast

from durable._host.freeing.frame_state import SUSPENDABLE, Suspendable, is_suspendable
from durable._kernel.commands import RecordIntent, RunAction, TakeValue
from durable._kernel.futures import Callback, ProcessTask

LIMIT = 10_000
"""Objects looked at before the walk gives up: up to 10 ms of the host's event loop."""

# Classes are compared by identity: a set of them would call the `__hash__` of a user's metaclass.
LEAVES = frozenset(
    map(id, (type(None), bool, int, float, complex, str, bytes, bytearray, range, date, datetime, time, timedelta))
) | frozenset(map(id, (type, types.CodeType, types.ModuleType, type(Ellipsis), type(NotImplemented))))
_CONTAINERS = frozenset(
    map(id, (list, tuple, set, frozenset, types.CellType, types.MethodType, types.BuiltinMethodType, *SUSPENDABLE))
)
_SHARED = (type, types.ModuleType, asyncio.AbstractEventLoop, logging.Logger, logging.Handler)
_COMMANDS = (Callback, RunAction, RecordIntent, TakeValue)


class TooMuch(Exception):
    """More objects are reachable than may be looked at."""


@dataclass(slots=True)
class Reach:
    """
    What a process reaches.

    ``dying`` would be freed with it. ``surviving`` is held outside as well; of these, ``leaving`` are the coroutines,
    generators and async generators that a frame of the process holds, so that freeing it lets go of them.
    """

    dying: list[object]
    surviving: list[object]
    leaving: list[Suspendable]


def reach(
    tasks: Collection[asyncio.Task[object]],
    generators: Collection[object],
    held: Collection[object] = (),
    limit: int = LIMIT,
) -> Reach:
    """
    Find what would be freed with a process.

    Args:
        tasks: Its unfinished tasks: its own, whoever else holds them.
        generators: Its async generators. Beside this collection the execution may hold each of them once.
        held: More that is its own and that only the kernel holds, as its timers.
        limit: Most objects to look at.

    Raises:
        TooMuch: More than *limit* objects are reachable.
    """
    walk = _Walk(tasks, generators, held, limit)
    surviving = _survivors(walk, allowed={id(generator) for generator in generators})
    found = Reach([], [], [])
    for key, node in walk.nodes.items():
        if key:
            (found.surviving if key in surviving else found.dying).append(node)
    if any(map(is_suspendable, found.surviving)):
        found.leaving = list(_leaving(found, generators))
    return found


class _Walk:
    """All objects within reach by id, and how many references each has from within."""

    __slots__ = ("_limit", "_loops", "_outside", "inner", "nodes", "owned")

    def __init__(
        self,
        tasks: Collection[asyncio.Task[object]],
        generators: Collection[object],
        held: Collection[object],
        limit: int,
    ) -> None:
        self._limit = limit
        self._loops = {id(task._loop) for task in tasks}
        self._outside = {id(value) for task in tasks for value in _variables_from_around(task)}
        self.nodes: dict[int, object] = {0: object()}  # 0 shows how many references the bookkeeping itself makes
        self.inner: dict[int, int] = {}
        self.owned: set[int] = set()
        self._follow([*tasks, *held, generators])

    def _follow(self, pending: list[object]) -> None:
        nodes, inner = self.nodes, self.inner
        for root in pending:
            nodes[id(root)] = root
            inner[id(root)] = 0
            self.owned.add(id(root))
        while pending:
            for referent in referents(pending.pop()):
                key = id(referent)
                if key in inner:
                    inner[key] += 1
                elif id(type(referent)) not in LEAVES and key not in self._outside and not self._is_shared(referent):
                    inner[key] = 1
                    nodes[key] = referent
                    pending.append(referent)
            if len(nodes) > self._limit:
                raise TooMuch

    def _is_shared(self, node: object) -> bool:
        """Tell whether *node* belongs to the world outside; notes what is the process's own."""
        kind = type(node)
        if id(kind) in _CONTAINERS:
            return False
        if kind is dict:
            return "__builtins__" in node  # type: ignore[operator]  # a module's, reached through a frame of its body
        if kind is types.FunctionType:
            return _holds_nothing(cast(types.FunctionType, node))
        if issubclass(kind, asyncio.Future):
            own = id(node._loop) in self._loops  # type: ignore[attr-defined]
        elif issubclass(kind, _COMMANDS):
            own = True
        else:
            return issubclass(kind, _SHARED) or _is_of_this_library(kind)
        if own:
            self.owned.add(id(node))
        return not own


def _variables_from_around(task: asyncio.Task[object]) -> Iterator[object]:
    """Yield the cells that the process function has from around it, with their contents, if *task* runs it."""
    if not isinstance(task, ProcessTask) or task.path:
        return
    for referent in gc.get_referents(task.get_coro()):
        if type(referent) is types.FunctionType:
            for cell in referent.__closure__ or ():
                yield cell
                yield from gc.get_referents(cell)


def _holds_nothing(function: types.FunctionType) -> bool:
    """Tell whether a function has no variables of its own and nobody watches it: the usual function of a module."""
    variables = (function.__closure__, function.__defaults__, function.__kwdefaults__)
    return variables == (None, None, None) and not weakref.getweakrefcount(function)


def _is_of_this_library(kind: type) -> bool:
    module = type.__getattribute__(kind, "__module__")
    return isinstance(module, str) and module.partition(".")[0] == "durable"


def referents(holder: object) -> Iterable[object]:
    """Return what *holder* refers to, without the globals of a function."""
    found = gc.get_referents(holder)
    if type(holder) is types.FunctionType:
        globals_, builtins = holder.__globals__, getattr(holder, "__builtins__", None)
        return [referent for referent in found if referent is not globals_ and referent is not builtins]
    return found


def _survivors(walk: _Walk, allowed: set[int]) -> set[int]:
    surviving = set(_held_outside(walk, allowed))
    pending = list(surviving)
    while pending:
        for referent in referents(walk.nodes[pending.pop()]):
            key = id(referent)
            if key in walk.inner and key not in walk.owned and key not in surviving:
                surviving.add(key)
                pending.append(key)
    return surviving


def _held_outside(walk: _Walk, allowed: set[int]) -> Iterator[int]:
    inner, owned, count = walk.inner, walk.owned, sys.getrefcount
    ours = None
    for node in walk.nodes.values():
        if ours is None:
            ours = count(node)  # of the object that nobody but the bookkeeping refers to
            continue
        key = id(node)
        if count(node) - ours > inner[key] + (key in allowed) and key not in owned:
            yield key


def _leaving(found: Reach, generators: Collection[object]) -> Iterator[Suspendable]:
    surviving = {id(node): node for node in found.surviving}
    holders = [*found.dying, generators]
    seen: set[int] = set()
    while holders:
        for referent in referents(holders.pop()):
            key = id(referent)
            if key in surviving and key not in seen:
                seen.add(key)
                if is_suspendable(referent):
                    yield referent
                elif type(referent) is types.CellType:  # a variable of the process, shared with one of its functions
                    holders.append(referent)
