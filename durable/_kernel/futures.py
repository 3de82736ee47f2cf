"""
Callbacks, futures and tasks of one process, each known by its number there, never by its address.

Tasks and futures hash by a counter per process, because `asyncio.wait`, `as_completed` and `TaskGroup` iterate sets:
with the default hash, a memory address, a task group would cancel its children in another order on every run.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _unregister_task
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Protocol

# Counters of different processes must differ in their upper bits: asyncio keeps all tasks of the OS process in one
# set, where equal hashes would collide. The lower bits alone decide the order within a small set.
SALT_SHIFT = 20


class Owner(Protocol):
    """What the loop needs from the execution it belongs to."""

    process_id: str

    def set_alarm(self, alarm: TimerCallback) -> None: ...
    def cancel_alarm(self, alarm: TimerCallback) -> None: ...
    def withdraw(self, ask: Any) -> None: ...
    def task_created(self, task: ProcessTask, context: Context) -> None: ...
    def generator_started(self, generator: AsyncGenerator[Any, Any]) -> None: ...
    def unhandled(self, context: dict[str, Any]) -> None: ...


class CountingLoop(asyncio.AbstractEventLoop):
    """
    The part of a process's loop that its callbacks, futures and tasks know.

    Args:
        owner: The execution; told of alarms, tasks, generators and errors nobody handles.
        salt: Where this process starts to count its tasks and futures.
    """

    __slots__ = ("_ordinal", "_started", "owner")

    def __init__(self, owner: Owner, salt: int, started: int) -> None:
        self.owner = owner
        self._started = started
        self._ordinal = salt << SALT_SHIFT

    def next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    def take_ordinals(self, count: int) -> int:
        """Set the next *count* numbers aside; the first of them."""
        self._ordinal += count
        return self._ordinal - count + 1

    def seconds(self, moment: int) -> float:
        """*moment* as seconds from the start of the process."""
        return (moment - self._started) / 1_000_000


class Callback:
    """One entry of the queue; what asyncio calls a handle."""

    __slots__ = ("_args", "_cancelled", "_context", "_function")

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self._function = function
        self._args = args
        self._context = copy_context() if context is None else context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class TimerCallback(Callback):
    """A callback that waits for the alarm of its *name*; *due* in microseconds since 1970."""

    __slots__ = ("_loop", "due", "name")

    def __init__(
        self,
        loop: CountingLoop,
        name: str,
        due: int,
        function: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        super().__init__(function, args, context)
        self._loop = loop
        self.name = name
        self.due = due

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._loop.owner.cancel_alarm(self)

    def when(self) -> float:
        return self._loop.seconds(self.due)


class ProcessFuture(asyncio.Future[Any]):
    """A future that hashes by its number in the process."""

    __slots__ = ("ordinal",)

    def __init__(self, loop: CountingLoop) -> None:
        self.ordinal = loop.next_ordinal()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.ordinal


class ProcessTask(asyncio.Task[Any]):
    """A task that hashes by its number, and knows its *path*: its place in the tree of tasks, "" for the function."""

    __slots__ = ("children", "ordinal", "path")

    def __init__(
        self,
        loop: CountingLoop,
        coro: Coroutine[Any, Any, Any],
        path: str,
        context: Context,
        ordinal: int | None = None,
    ) -> None:
        self.ordinal = loop.next_ordinal() if ordinal is None else ordinal
        self.path = path
        self.children = 0
        super().__init__(coro, loop=loop, name=path or "process", context=context)
        # The execution holds its tasks. An entry in asyncio's set of all tasks, for `all_tasks()`, would cost a tenth
        # of the memory of a waiting process.
        _unregister_task(self)

    def __hash__(self) -> int:
        return self.ordinal
