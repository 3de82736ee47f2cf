"""
The tasks and generators of one process, from its first step to its last.

As `asyncio.run` does it: when the function is over, what it left behind is cancelled and awaited, then generators are
closed; each in rounds, since a `finally` may leave something behind in its turn. Every point of it is fixed by the
journal, and nothing is left to the garbage collector.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextvars import Context
from operator import attrgetter
from types import AsyncGeneratorType
from typing import Any

from durable._kernel.futures import ProcessTask
from durable._kernel.loop import ProcessLoop


class Lifetime:
    """What runs in a process; `Execution` builds on it."""

    __slots__ = ("_closing", "_failed", "_generators", "_loop", "_main", "_notes", "_tasks")

    def __init__(self) -> None:
        self._loop: ProcessLoop = None  # type: ignore[assignment]  # made by STARTED, the first record
        self._main: ProcessTask = None  # type: ignore[assignment]
        self._tasks: dict[ProcessTask, None] | None = None
        self._failed: list[ProcessTask] | None = None
        self._generators: list[AsyncGeneratorType[Any, Any]] | None = None
        self._closing: Sequence[asyncio.Future[Any]] = ()
        self._notes: tuple[str, ...] = ()

    # --- what the loop tells ---

    def task_created(self, task: ProcessTask, context: Context) -> None:
        """A task of process code; held until it is done, because asyncio holds it only weakly."""
        if self._tasks is None:
            self._tasks = {}
        self._tasks[task] = None
        task.add_done_callback(self._task_done, context=context)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        assert isinstance(task, ProcessTask)
        if self._tasks is not None:
            self._tasks.pop(task, None)
        if not task.cancelled() and task._log_traceback:
            self._failed = [failed for failed in self._failed or () if failed._log_traceback]
            self._failed.append(task)

    def generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Held until the process ends: an abandoned one is closed there, not whenever the collector finds it."""
        assert isinstance(generator, AsyncGeneratorType)
        self._generators = [known for known in self._generators or () if known.ag_frame is not None]
        self._generators.append(generator)

    def unhandled(self, context: dict[str, Any]) -> None:
        """An error nobody handles, as asyncio tells a loop of it."""
        self._notes += (f"{context.get('message', 'error')}: {context.get('exception')!r}",)

    # --- what there is ---

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Every task of the process that has not finished."""
        if self._main is None:
            return []
        return [task for task in (self._main, *(self._tasks or ())) if not task.done()]

    def generators(self) -> list[AsyncGeneratorType[Any, Any]]:
        """Every async generator that was started and has not finished."""
        return [generator for generator in self._generators or () if generator.ag_frame is not None]

    def _failures(self) -> list[str]:
        """What was noted, and the tasks that failed and that nobody awaited."""
        for task in self._failed or ():
            if task._log_traceback:
                self._notes += (f"task {task.get_name()!r} failed and was never awaited: {task.exception()!r}",)
        self._failed = None
        return list(self._notes)

    # --- how it ends ---

    def _is_round_over(self) -> bool:
        """Whether the function has returned and all that was cancelled or closed since is done."""
        return self._main.done() and all(task.done() for task in self._closing)

    def _close_what_is_left(self) -> bool:
        """Cancel the tasks that are left, or else close the generators. False: nothing was left."""
        if self._tasks:
            # By number, not in the order made: `as_completed` makes its tasks in the order of a set.
            self._closing = sorted(self._tasks, key=attrgetter("ordinal"))
            self._loop.step(self._deliver_cancellation, self._closing)
        elif self.generators():
            self._loop.step(self._close_generators)
        else:
            return False
        return True

    def _close_generators(self) -> None:
        generators, self._generators = self.generators(), None
        self._closing = [self._loop.create_task(_close(generator), context=Context()) for generator in generators]

    def _deliver_cancellation(self, cancelled: Sequence[ProcessTask], reason: str | None = None) -> None:
        """
        Cancel tasks, and take it back as delivered: `timeout` and `TaskGroup` in what they do now count from zero.

        Raises:
            RecursionError: The tasks wait for each other in a circle. No code of the process has run yet.
        """
        tasks = [self._main, *(self._tasks or ())]
        before = [task.cancelling() for task in tasks]
        for task in cancelled:
            task.cancel(reason)
        for task, count in zip(tasks, before, strict=True):
            while task.cancelling() > count:
                task.uncancel()


async def _close(generator: AsyncGeneratorType[Any, Any]) -> None:
    await generator.aclose()
