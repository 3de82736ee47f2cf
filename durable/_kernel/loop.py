"""
The deterministic event loop of one process: a queue of callbacks and nothing else.

No selector, no clock, no thread. Time is the time of the last record, timers are commands, and whatever would reach
the outside is refused. Each process has a loop object of its own, so that asyncio objects shared between processes
fail instead of joining them; its queue exists only while it is stepped, so a callback from anywhere else is caught.

Its callbacks, futures and tasks are in `futures`; what of asyncio would not keep an order is in `order`.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, NoReturn

from durable._kernel.futures import Callback, CountingLoop, Owner, ProcessFuture, ProcessTask, TimerCallback
from durable._kernel.order import WAIT, AsCompleted, check_order, find_as_completed
from durable.errors import IOOutsideCheckpoint


class ProcessLoop(CountingLoop):
    """The loop of one process. `step` runs it until nothing is ready."""

    __slots__ = ("_as_completed", "_lengths", "_orphans", "_ready", "now")

    def __init__(self, owner: Owner, salt: int, started: int) -> None:
        super().__init__(owner, salt, started)
        self.now = started
        self._orphans = 0
        self._ready: deque[Callback] | None = None
        self._lengths: dict[tuple[str, int], int] | None = None
        self._as_completed: AsCompleted | None = None

    # stepping

    def step(self, function: Callable[..., object], *args: Any) -> None:
        """
        Call *function* and then callbacks until none is ready, as the running loop of this thread.

        Raises:
            KeyboardInterrupt, SystemExit: Out of process code; the step is broken off where it was.
        """
        ready = self._ready = deque()
        outer = events._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        # No generator of a process is ever known to the host's loop, whose shutdown would run `finally` blocks.
        sys.set_asyncgen_hooks(self.owner.generator_started, _forget)
        try:
            function(*args)
            while ready:
                callback = ready.popleft()
                if not callback._cancelled:
                    try:
                        callback._context.run(callback._function, *callback._args)
                    except (KeyboardInterrupt, SystemExit):
                        raise
                    except BaseException as error:
                        self.owner.unhandled({"message": "callback failed", "exception": error})
        finally:
            self._ready = None
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)

    def idle(self) -> bool:
        """Whether nothing is ready behind the callback that runs."""
        return not self._ready

    def halt(self) -> None:
        """Drop everything that is ready: the process does not run any further."""
        if self._ready:
            self._ready.clear()

    # callbacks and timers

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        if self._ready is None or events._get_running_loop() is not self:  # the latter: from another thread
            raise IOOutsideCheckpoint(
                f"A future, task or lock of process {self.owner.process_id!r} was touched from outside that process",
                fix="send an event (`host.raise_event`) or a result of an action; share no asyncio object",
            )
        handle = Callback(callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        return self._set_timer(_microseconds(delay), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Callback:
        return self._set_timer(_microseconds(when - self.time()), callback, args, context)

    def _set_timer(
        self, length: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> Callback:
        if length <= 0:
            return self.call_soon(callback, *args, context=context)
        # Found again by its task, its length and its ordinal among equals, never by a global count: inserting or
        # swapping sleeps of different lengths must not make a long one fire early.
        if self._lengths is None:
            self._lengths = {}
        task = asyncio.current_task(self)
        path = task.path if isinstance(task, ProcessTask) else "?"
        ordinal = self._lengths[path, length] = self._lengths.get((path, length), 0) + 1
        alarm = TimerCallback(self, f"{path}|{length}|{ordinal}", self.now + length, callback, args, context)
        self.owner.set_alarm(alarm)
        return alarm

    def has_set(self, name: str) -> bool:
        """Whether the alarm of this name was set at some time in this run."""
        path, length, ordinal = name.rsplit("|", 2)
        return self._lengths is not None and self._lengths.get((path, int(length)), 0) >= int(ordinal)

    def fire(self, alarm: TimerCallback) -> None:
        """Queue the callback of an alarm that went off."""
        assert self._ready is not None
        self._ready.append(alarm)

    def time(self) -> float:
        """Seconds from the start of the process to its last record."""
        return self.seconds(self.now)

    # futures and tasks

    def create_future(self) -> ProcessFuture:
        caller = sys._getframe(1)
        if caller.f_code is WAIT:
            check_order(caller.f_locals["fs"])
        return ProcessFuture(self)

    def create_task(  # type: ignore[override, unused-ignore]  # needed below 3.13
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, context: Context | None = None, **_eager: Any
    ) -> ProcessTask:
        if self._ready is None or events._get_running_loop() is not self:
            coro.close()
            raise IOOutsideCheckpoint(
                f"A task was created in process {self.owner.process_id!r} from outside that process",
                fix="send an event (`host.raise_event`) and create the task in the process",
            )
        parent = asyncio.current_task(self)
        context = copy_context() if context is None else context
        if not isinstance(parent, ProcessTask):  # made by a callback, or by the kernel to close a generator
            self._orphans += 1
            task = ProcessTask(self, coro, f"?{self._orphans}", context)
        elif (frame := find_as_completed(sys._getframe(1))) is not None:
            task = self._create_in_order(frame, coro, parent, context)
        else:
            parent.children += 1
            path = f"{parent.path}.{parent.children}" if parent.path else str(parent.children)
            task = ProcessTask(self, coro, path, context)
        if name is not None:
            task.set_name(name)
        self.owner.task_created(task, context)
        return task

    def create_main_task(self, coro: Coroutine[Any, Any, Any]) -> ProcessTask:
        """The task of the process function, in a context of its own that holds nothing."""
        return ProcessTask(self, coro, "", Context())

    def _create_in_order(
        self, frame: FrameType, coro: Coroutine[Any, Any, Any], parent: ProcessTask, context: Context
    ) -> ProcessTask:
        if self._as_completed is None or self._as_completed.frame is not frame:
            self._as_completed = AsCompleted(self, frame)
        wrapping = self._as_completed
        assert self._ready is not None
        task = wrapping.create(self, self._ready, coro, parent, context)
        if not wrapping.remaining:
            self._as_completed = None
        return task

    # small answers asyncio asks for

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._ready is not None

    def is_closed(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.owner.unhandled(context)

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Part of what asyncio expects of a loop; our timers tell their owner themselves."""


def _microseconds(seconds: float) -> int:
    return round(min(seconds, _LONGEST) * 1_000_000)


_LONGEST = 100_000 * 366 * 86_400.0  # seconds; what is longer (`math.inf` too) still fits 64 bits when added to a time


def _forget(_generator: object) -> None:
    """Finalizer hook: the execution holds every started generator, so none is ever finalized while it could run."""


def _refuse(method: str) -> Callable[..., NoReturn]:
    def refused(self: ProcessLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise IOOutsideCheckpoint(
            f"Process code called {method!r} of its event loop: input and output happen inside a checkpoint only",
            fix='move it into an action: `await proc.do(lambda: the_call(…), "a name")`',
        )

    refused.__name__ = method
    return refused


# Everything asyncio's loops can do that ours does not: sockets, servers, subprocesses, executors, signals, threads.
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and getattr(ProcessLoop, _name) is getattr(asyncio.AbstractEventLoop, _name):
        setattr(ProcessLoop, _name, _refuse(_name))
