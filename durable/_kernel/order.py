"""
What asyncio would iterate in an order that no two runs share, put in the order in which the user wrote it, or refused.

Belongs here: `as_completed`, which wraps bare coroutines in tasks in the order of a set of coroutines, and `wait`,
whose sets hold what hashes by its address. Both are recognised by their code objects; nothing of asyncio is patched.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextvars import Context
from types import CodeType, FrameType
from typing import Any

from durable._kernel.futures import Callback, CountingLoop, ProcessFuture, ProcessTask
from durable.errors import InvalidAction

_TASKS_FILE = asyncio.ensure_future.__code__.co_filename
_ENSURE_FUTURE = getattr(asyncio.tasks, "_ensure_future", asyncio.ensure_future).__code__
_AS_COMPLETED: set[CodeType] = {asyncio.as_completed.__code__}
if (_iterator := getattr(asyncio.tasks, "_AsCompletedIterator", None)) is not None:  # since 3.13
    _AS_COMPLETED.add(_iterator.__init__.__code__)
WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]


def find_as_completed(frame: FrameType) -> FrameType | None:
    """The frame of the `as_completed` that makes a task by way of *frame*, which called `create_task`; None if none."""
    if frame.f_code is not _ENSURE_FUTURE:
        return None
    caller = frame.f_back
    while caller is not None and caller.f_code.co_filename == _TASKS_FILE:
        if caller.f_code in _AS_COMPLETED:
            return caller
        caller = caller.f_back
    return None


class AsCompleted:
    """
    One call of `as_completed` while it wraps its bare coroutines.

    Its argument still has the order the user wrote: the tasks get paths, numbers and turns by that.
    """

    def __init__(self, loop: CountingLoop, frame: FrameType) -> None:
        self.frame = frame
        awaitables = frame.f_locals["fs" if "fs" in frame.f_locals else "aws"]
        if not isinstance(awaitables, (Sequence, Mapping)):
            raise InvalidAction(
                f"`as_completed` was given coroutines in a {type(awaitables).__name__}, whose order is not known",
                fix="pass a list, or tasks made with `asyncio.create_task`",
            )
        self._order: dict[int, int] = {}
        for awaitable in awaitables:
            if asyncio.iscoroutine(awaitable):
                self._order.setdefault(id(awaitable), len(self._order))
        self.remaining = len(self._order)
        self._first = loop.take_ordinals(self.remaining)
        self._turns: list[Callback | None] = [None] * self.remaining
        self._children: int | None = None

    def create(
        self,
        loop: CountingLoop,
        ready: deque[Callback],
        coro: Coroutine[Any, Any, Any],
        parent: ProcessTask,
        context: Context,
    ) -> ProcessTask:
        """The task of *coro*, a child of *parent*; *ready* is the queue in which it waits for its first step."""
        if self._children is None:
            self._children = parent.children + 1
            parent.children += len(self._order)
        place = self._order[id(coro)]
        number = self._children + place
        path = f"{parent.path}.{number}" if parent.path else str(number)
        task = ProcessTask(loop, coro, path, context, ordinal=self._first + place)
        self._turns[place] = ready.pop()
        self.remaining -= 1
        if not self.remaining:
            ready.extend(turn for turn in self._turns if turn is not None)
        return task


def check_order(futures: Collection[Any]) -> None:
    """
    Refuse what `wait` would give back in sets whose order is not known.

    Raises:
        InvalidAction: One of *futures* does not hash by its number, as what `gather` returns.
    """
    strangers = [future for future in futures if not isinstance(future, ProcessTask | ProcessFuture)]
    if strangers and len(futures) > 1:
        raise InvalidAction(
            f"`wait` was given a {type(strangers[0]).__name__}, whose place in the sets it returns would change",
            fix="wrap what calls `gather` in `asyncio.create_task`, and make futures with `loop.create_future()`",
        )
