"""
What would be freed together with a process, found the way the garbage collector finds it: by trial deletion.

Belongs here: the walk over everything a process can reach, the count of who else holds it, and the place of an object
for a message. Not here: what is harmless to free (`letting_go`) and how a frame is finished (`frame_state`).

`gc.get_referents` sees what locals do not show: the iterator of a running ``for`` and the ``__aexit__`` of an open
``async with`` are on the value stack only. An object whose references do not all come from within the walk is held
outside; it and what it refers to survive. Tasks, futures, timers and commands of the process are its own whoever holds
them, because the host gives them up next. The walk stops at modules, classes, loops, futures of other loops and at the
objects of this library: behind them is the world that all processes share. It is read-only and calls no user code.
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
from itertools import pairwise
from typing import cast

from durable._host.frame_state import SUSPENDABLE
from durable._kernel.commands import RecordIntent, RunAction, TakeValue
from durable._kernel.loop import Callback

LIMIT = 10_000
"""Objects looked at before the walk gives up: about 5 ms of the host's event loop."""

_LEAVES: frozenset[type] = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, range, date, datetime, time, timedelta}
    | {type, types.CodeType, types.ModuleType, type(Ellipsis), type(NotImplemented)}
)
_SHARED = (type, types.ModuleType, asyncio.AbstractEventLoop, logging.Logger, logging.Handler)
_COMMANDS = (Callback, RunAction, RecordIntent, TakeValue)


class TooMuch(Exception):
    """More than `LIMIT` objects are reachable."""


@dataclass(slots=True)
class Reach:
    """
    What a process reaches.

    ``dying`` would be freed with it. ``surviving`` is held outside as well; of these, ``leaving`` are the coroutines,
    generators and async generators that a frame of the process holds, so that freeing it lets go of them.
    """

    dying: list[object]
    surviving: list[object]
    leaving: list[object]


def reach(
    tasks: Collection[asyncio.Task[object]], generators: Collection[object], held: Collection[object] = ()
) -> Reach:
    """
    Find what would be freed with a process.

    Args:
        tasks: Its unfinished tasks: its own, whoever else holds them.
        generators: Its async generators. Beside this collection the execution may hold each of them once.
        held: More that is its own and that only the kernel holds, as its timers.

    Raises:
        TooMuch: More than `LIMIT` objects are reachable.
    """
    walk = _Walk(tasks, generators, held)
    surviving = _survivors(walk, allowed={id(generator) for generator in generators})
    found = Reach([], [], [])
    for key, node in walk.nodes.items():
        if key:
            (found.surviving if key in surviving else found.dying).append(node)
    if any(type(node) in SUSPENDABLE for node in found.surviving):
        found.leaving = list(_leaving(found, generators))
    return found


class _Walk:
    """All objects within reach by id, and how many references each has from within."""

    __slots__ = ("_loops", "_shared", "inner", "nodes", "owned")

    def __init__(
        self, tasks: Collection[asyncio.Task[object]], generators: Collection[object], held: Collection[object]
    ) -> None:
        self._loops = {id(task._loop) for task in tasks}
        self._shared: dict[type, bool] = {}
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
                elif type(referent) not in _LEAVES and not self._is_shared(referent):
                    inner[key] = 1
                    nodes[key] = referent
                    pending.append(referent)
            if len(nodes) > LIMIT:
                raise TooMuch

    def _is_shared(self, node: object) -> bool:
        """Tell whether *node* belongs to the world outside; notes what is the process's own."""
        kind = type(node)
        if issubclass(kind, asyncio.Future):
            if id(node._loop) not in self._loops:  # type: ignore[attr-defined]
                return True
            self.owned.add(id(node))
            return False
        if issubclass(kind, _COMMANDS):
            self.owned.add(id(node))
            return False
        if kind is types.FunctionType:  # without variables of its own it holds nothing: the usual function of a module
            return _holds_nothing(cast(types.FunctionType, node))
        if kind is dict:
            return "__builtins__" in node  # type: ignore[operator]  # a module's, reached through a frame of its body
        shared = self._shared.get(kind)
        if shared is None:
            shared = self._shared[kind] = issubclass(kind, _SHARED) or _is_of_this_library(kind)
        return shared


def _holds_nothing(function: types.FunctionType) -> bool:
    variables = (function.__closure__, function.__defaults__, function.__kwdefaults__)
    return variables == (None, None, None) and not weakref.getweakrefcount(function)


def _is_of_this_library(kind: type) -> bool:
    module = type.__getattribute__(kind, "__module__")
    return isinstance(module, str) and module.partition(".")[0] == "durable"


def referents(holder: object) -> Iterable[object]:
    """Return what *holder* refers to, without the globals of a function."""
    found = gc.get_referents(holder)
    if type(holder) is types.FunctionType:
        globals_, builtins = holder.__globals__, holder.__builtins__
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


def _leaving(found: Reach, generators: Collection[object]) -> Iterator[object]:
    surviving = {id(node): node for node in found.surviving}
    holders = [*found.dying, generators]
    seen: set[int] = set()
    while holders:
        for referent in referents(holders.pop()):
            key = id(referent)
            if key in surviving and key not in seen:
                seen.add(key)
                if type(referent) in SUSPENDABLE:
                    yield referent
                elif type(referent) is types.CellType:  # a variable of the process, shared with one of its functions
                    holders.append(referent)


# --- where is it ---------------------------------------------------------------------------------------------


def place(target: object, roots: Iterable[object]) -> str:
    """Say which variable of which suspended function holds *target*, as found on the shortest way from *roots*."""
    path = _path(target, roots)
    for position, (node, holder) in enumerate(pairwise(path)):
        if type(holder) in SUSPENDABLE:
            below = {id(step) for step in path[: position + 1]}
            return f"{_variable(holder, below) or f'the stack, under {type(node).__name__},'} of {location(holder)}"
    return "an object of its event loop"


def _path(target: object, roots: Iterable[object]) -> list[object]:
    """Return *target*, its holder, the holder of that, and so on up to a root."""
    holders: dict[int, object | None] = {}
    pending = list(roots)
    holders.update((id(root), None) for root in pending)
    for holder in pending:  # grows while it is walked: breadth first
        if holder is target or len(holders) > LIMIT:
            break
        for referent in referents(holder):
            if id(referent) not in holders and type(referent) not in _LEAVES:
                holders[id(referent)] = holder
                pending.append(referent)
    path = [target]
    while (above := holders.get(id(path[-1]))) is not None:
        path.append(above)
    return path


def _variable(owner: object, values: set[int]) -> str | None:
    frame = getattr(owner, f"{SUSPENDABLE[type(owner)]}frame")
    variables = frame.f_locals
    names = [name for name, value in variables.items() if id(value) in values]
    if type(variables) is dict:  # before 3.13 a copy that stays with the frame, and would keep old values alive
        variables.clear()
    return f"variable {names[0]!r}" if names else None


def location(owner: object) -> str:
    """Return name, file and current line of a coroutine, generator or async generator."""
    prefix = SUSPENDABLE[type(owner)]
    frame, code = getattr(owner, f"{prefix}frame"), getattr(owner, f"{prefix}code")
    line = code.co_firstlineno if frame is None else frame.f_lineno
    return f"{owner.__qualname__} ({code.co_filename}:{line})"  # type: ignore[attr-defined]
