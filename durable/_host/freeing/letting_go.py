"""
Letting go of a waiting process without running one line of it: to park it, or because its host stops.

Belongs here: whether freeing a process would be noticed, and the freeing. A suspended frame is called finished before
it is freed (`frame_state`), so no ``finally``, ``with`` or ``except`` runs, whichever handlers are active and whatever
frames of asyncio are in between. What is left to look for is what notices being freed by itself (`noticing`), and what
somebody outside could resume. Such a process stays resident, `obstacle` says why; when its host stops, it is kept alive
for ever, so that nothing of it is finalized either.

The host calls these from a plain callback while the process waits, and gives its execution up right after.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from durable._host.freeing import frame_state
from durable._host.freeing.frame_state import Suspendable, is_suspendable
from durable._host.freeing.noticing import class_name, why_noticed
from durable._host.freeing.reachability import LIMIT, Reach, TooMuch, reach
from durable._host.freeing.whereabouts import location, place
from durable._kernel.futures import Callback
from durable._kernel.loop import ProcessLoop

Tasks: TypeAlias = Collection[asyncio.Task[Any]]
Generators: TypeAlias = Collection[AsyncGenerator[Any, Any]]

AT_LENGTH = 500_000
"""Objects looked at of what is let go of while its host goes on: up to a second, or its memory would never be freed."""


def can_drop() -> bool:
    """Tell whether this interpreter lets go of a suspended process without running it."""
    return frame_state.offset() is not None


def obstacle(tasks: Tasks, generators: Generators, held: Collection[object] = ()) -> str | None:
    """
    Say in one sentence what would notice if this process were freed now; None if nothing would.

    Args:
        tasks: All its unfinished tasks.
        generators: All its unfinished async generators; its execution may hold each of them once more.
        held: More that is the process's own and that only its execution holds, as its timers.
    """
    return _examine(tasks, generators, held).obstacle


def drop(tasks: Tasks, generators: Generators, held: Collection[object] = ()) -> None:
    """
    Free a process that has no `obstacle`; arguments as there. No line of user code runs, now or later.

    Raises:
        ValueError: There is an obstacle; nothing was touched.
    """
    findings = _examine(tasks, generators, held)
    if findings.obstacle is not None:
        raise ValueError(findings.obstacle)
    _free(findings)


def let_go(tasks: Tasks, generators: Generators, held: Collection[object] = (), limit: int = LIMIT) -> bool:
    """
    Never run or finalize this process again; arguments as for `obstacle`. True: it was freed.

    What cannot be freed unnoticed stays in memory to the end, and the exit of the interpreter does not finalize it. So
    does what holds more than *limit* objects.
    """
    findings = _examine(tasks, generators, held, limit)
    if findings.obstacle is None:
        _free(findings)
    else:
        for root in (*tasks, *generators, *held):
            frame_state.keep_for_ever(root)
    return findings.obstacle is None


# --- what would notice ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Findings:
    obstacle: str | None = None
    suspended: list[Suspendable] = field(default_factory=list)
    pending: list[asyncio.Future[Any]] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)
    loops: set[ProcessLoop] = field(default_factory=set)


def _examine(tasks: Tasks, generators: Generators, held: Collection[object], limit: int = LIMIT) -> _Findings:
    findings = _Findings(loops={loop for task in tasks if isinstance(loop := task.get_loop(), ProcessLoop)})
    if not can_drop():
        findings.obstacle = "This interpreter cannot free a suspended function without running it"
        return findings
    try:
        found = reach(tasks, generators, held, limit)
    except TooMuch:
        findings.obstacle = f"The process holds more than {limit} objects, too much to look at"
        return findings
    if (noticed := _sort(found, findings)) is not None:
        node, reason = noticed
        findings.obstacle = f"{_name(node)} {reason}; it is held by {place(node, (*tasks, *generators, *held))}"
    return findings


def _sort(found: Reach, findings: _Findings) -> tuple[object, str] | None:
    """Put what has to be finished and emptied into *findings*; stop at the first object that would notice."""
    for owner in found.leaving:
        if frame_state.is_suspended(owner):
            return owner, "is also held outside of the process, where it could be resumed"
        if frame_state.is_executing(owner):
            return owner, _RUNNING
    for node in found.dying:
        if is_suspendable(node):
            if frame_state.is_suspended(node):
                findings.suspended.append(node)
            elif frame_state.is_executing(node):
                return node, _RUNNING
        elif issubclass(type(node), asyncio.Future):
            future = cast("asyncio.Future[Any]", node)
            if not asyncio.Future.done(future):
                findings.pending.append(future)
        elif issubclass(type(node), Callback):
            findings.callbacks.append(cast(Callback, node))
        if (reason := why_noticed(node)) is not None:
            return node, reason
    return None


_RUNNING = "is running at this moment"


def _name(node: object) -> str:
    kind = type(node)
    if is_suspendable(node):
        return f"{kind.__name__.replace('_', ' ').capitalize()} {location(node)}"
    return f"An object of {class_name(kind)}"


# --- freeing -------------------------------------------------------------------------------------------------


class _Nowhere:
    """The loop of emptied futures and the owner of abandoned loops: whatever it is told, it does nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _ignore


def _ignore(*_args: object, **_options: object) -> None: ...


async def _ended() -> None: ...


_NOWHERE: Any = _Nowhere()
_ENDED = _ended()
_ENDED.close()
_EMPTY = Context()


def _free(findings: _Findings) -> None:
    """
    Finish all frames, then break the cycles of tasks, futures, timers, the loop and its execution.

    Otherwise the memory would wait for a collection of the oldest generation, which may be hours away.
    """
    for owner in findings.suspended:  # all of them before the first is freed
        frame_state.finish(owner)
    for future in findings.pending:
        _empty(future)
    for callback in findings.callbacks:
        callback._function, callback._args = _ignore, ()
    for loop in findings.loops:
        loop.owner = _NOWHERE  # which also swallows complaints of failed futures that nobody looked at


def _empty(future: asyncio.Future[Any]) -> None:
    """
    Part a pending future from its coroutine, from what it waits for and from who waits for it, and silence it.

    Making it anew breaks every cycle through it without touching the insides of asyncio.
    """
    if isinstance(future, asyncio.Task):
        # Not `context=_EMPTY`: made anew with one given, a task of 3.11 to 3.13 forgets to release its old context.
        _EMPTY.run(asyncio.Task.__init__, future, _ENDED, loop=_NOWHERE, name=asyncio.Task.get_name(future))
    else:
        asyncio.Future.__init__(future, loop=_NOWHERE)
