"""A process that waits, on the real loop of a process, without journal or host; and a witness of what must not run."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from durable._host.freeing import letting_go
from durable._host.freeing.reachability import LIMIT
from durable._kernel.futures import ProcessTask, TimerCallback
from durable._kernel.loop import ProcessLoop


class Local:
    """A value in a variable of a process."""


class Witness:
    """Notes every exit it sees, and knows which of the locals it gave out are still alive."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._locals: list[weakref.ref[Local]] = []

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self.ran.append("exit")

    def local(self) -> Local:
        value = Local()
        self._locals.append(weakref.ref(value))
        return value

    @property
    def given(self) -> int:
        return len(self._locals)

    @property
    def alive(self) -> int:
        return sum(local() is not None for local in self._locals)


class Waiting:
    """Runs a coroutine as a process until it waits; holds its tasks, generators and timers as an execution does."""

    def __init__(self, body: Callable[[], Coroutine[Any, Any, Any]] | None = None) -> None:
        self.loop = ProcessLoop(self, salt=1, started=0)  # type: ignore[abstract]
        self.process_id = "waiting"
        self.alarms: list[TimerCallback] = []
        self.unhandled_contexts: list[dict[str, Any]] = []
        self._tasks: dict[ProcessTask, None] = {}
        self._generators: list[AsyncGenerator[Any, Any]] = []
        if body is not None:
            self.loop.step(self._begin, body)

    def _begin(self, body: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._tasks[self.loop.create_main_task(body())] = None

    def tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in self._tasks if not task.done()]

    def generators(self) -> list[AsyncGenerator[Any, Any]]:
        return [generator for generator in self._generators if generator.ag_frame]  # type: ignore[attr-defined]

    def obstacle(self) -> str | None:
        return letting_go.obstacle(self.tasks(), self.generators(), self.alarms)

    def drop(self) -> None:
        letting_go.drop(self.tasks(), self.generators(), self.alarms)

    def let_go(self, limit: int = LIMIT) -> bool:
        return letting_go.let_go(self.tasks(), self.generators(), self.alarms, limit)

    # what the loop tells its owner

    def set_alarm(self, alarm: TimerCallback) -> None:
        self.alarms.append(alarm)

    def cancel_alarm(self, alarm: TimerCallback) -> None:
        self.alarms.remove(alarm)

    def withdraw(self, ask: object) -> None: ...

    def task_created(self, task: ProcessTask, *_more: object) -> None:
        self._tasks[task] = None

    def give_up(self) -> None:
        """Do as a host that has let go of a process: forget its execution."""
        self._tasks.clear()
        self._generators.clear()
        self.alarms.clear()

    def generator_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.append(generator)

    def unhandled(self, context: dict[str, Any]) -> None:
        self.unhandled_contexts.append(context)
