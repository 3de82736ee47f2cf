"""
The deterministic event loop of one process: a queue of callbacks and nothing else.

No selector, no clock, no thread. Time is the time of the last record, timers are commands, and whatever would reach
the outside is refused. Each process has a loop object of its own, so that asyncio objects shared between processes
fail instead of joining them; its queue exists only while it is stepped, so a callback from anywhere else is caught.

Tasks and futures hash by a counter per process, because `asyncio.wait`, `as_completed` and `TaskGroup` iterate sets:
with the default hash, a memory address, a task group would cancel its children in another order on every run.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from asyncio.tasks import _unregister_task
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, NoReturn, Protocol

from durable.errors import InvalidAction, IOOutsideCheckpoint

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
        loop: ProcessLoop,
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

    def __init__(self, loop: ProcessLoop) -> None:
        self.ordinal = loop.next_ordinal()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.ordinal


class ProcessTask(asyncio.Task[Any]):
    """A task that hashes by its number, and knows its *path*: its place in the tree of tasks, "" for the function."""

    __slots__ = ("children", "ordinal", "path")

    def __init__(
        self, loop: ProcessLoop, coro: Coroutine[Any, Any, Any], path: str, context: Context, ordinal: int | None = None
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


class ProcessLoop(asyncio.AbstractEventLoop):
    """
    The loop of one process. `step` runs it until nothing is ready.

    Args:
        owner: The execution; told of alarms, tasks, generators and errors nobody handles.
        salt: Where this process starts to count its tasks and futures.
    """

    __slots__ = ("_as_completed", "_lengths", "_ordinal", "_orphans", "_ready", "_started", "now", "owner")

    def __init__(self, owner: Owner, salt: int, started: int) -> None:
        self.owner = owner
        self.now = started
        self._started = started
        self._ordinal = salt << SALT_SHIFT
        self._orphans = 0
        self._ready: deque[Callback] | None = None
        self._lengths: dict[tuple[str, int], int] | None = None
        self._as_completed: _AsCompleted | None = None

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
        return (self.now - self._started) / 1_000_000

    def seconds(self, moment: int) -> float:
        return (moment - self._started) / 1_000_000

    # futures and tasks

    def next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    def create_future(self) -> ProcessFuture:
        caller = sys._getframe(1)
        if caller.f_code is _WAIT:
            _check_order(caller.f_locals["fs"])
        return ProcessFuture(self)

    def create_task(  # type: ignore[override]
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
        elif (place := self._place_in_as_completed(coro, sys._getframe(1))) is not None:
            parent.children += 1
            task = place.create(self, coro, parent, context)
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

    def _place_in_as_completed(self, coro: Coroutine[Any, Any, Any], frame: FrameType) -> _AsCompleted | None:
        # `as_completed` wraps bare coroutines in tasks in the order of a set of coroutines, which hash by address.
        # Its argument still has the order the user wrote: give the tasks paths, numbers and turns by that.
        if frame.f_code is not _ENSURE_FUTURE:
            return None
        caller = frame.f_back
        while caller is not None and caller.f_code.co_filename == _TASKS_FILE:
            if caller.f_code in _AS_COMPLETED:
                if self._as_completed is None or self._as_completed.frame is not caller:
                    self._as_completed = _AsCompleted(self, caller)
                place = self._as_completed
                place.remaining -= 1
                if not place.remaining:
                    self._as_completed = None
                return place
            caller = caller.f_back
        return None

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


class _AsCompleted:
    """One call of `as_completed` while it wraps its bare coroutines."""

    def __init__(self, loop: ProcessLoop, frame: FrameType) -> None:
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
        self._first = loop._ordinal + 1
        loop._ordinal += self.remaining
        ready = loop._ready
        assert ready is not None
        self._turns: list[Callback | None] = [None] * self.remaining
        self._base = len(ready)
        self._children: int | None = None

    def create(
        self, loop: ProcessLoop, coro: Coroutine[Any, Any, Any], parent: ProcessTask, context: Context
    ) -> ProcessTask:
        if self._children is None:
            self._children = parent.children
            parent.children += len(self._order) - 1
        else:
            parent.children -= 1  # counted once for all of them above
        place = self._order[id(coro)]
        number = self._children + place
        path = f"{parent.path}.{number}" if parent.path else str(number)
        task = ProcessTask(loop, coro, path, context, ordinal=self._first + place)
        ready = loop._ready
        assert ready is not None
        self._turns[place] = ready.pop()
        if not self.remaining:
            ready.extend(turn for turn in self._turns if turn is not None)
        return task


def _microseconds(seconds: float) -> int:
    return round(min(seconds, _LONGEST) * 1_000_000)


_LONGEST = 100_000 * 366 * 86_400.0  # seconds; what is longer (`math.inf` too) still fits 64 bits when added to a time
_TASKS_FILE = asyncio.ensure_future.__code__.co_filename
_ENSURE_FUTURE = getattr(asyncio.tasks, "_ensure_future", asyncio.ensure_future).__code__
_WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
_AS_COMPLETED = {asyncio.as_completed.__code__}
if (_iterator := getattr(asyncio.tasks, "_AsCompletedIterator", None)) is not None:  # since 3.13
    _AS_COMPLETED.add(_iterator.__init__.__code__)


def _check_order(futures: Collection[Any]) -> None:
    # The sets that `wait` gives back are iterated by hash, and what `gather` returns hashes by its address.
    strangers = [future for future in futures if not isinstance(future, ProcessTask | ProcessFuture)]
    if strangers and len(futures) > 1:
        raise InvalidAction(
            f"`wait` was given a {type(strangers[0]).__name__}, whose place in the sets it returns would change",
            fix="wrap what calls `gather` in `asyncio.create_task`, and make futures with `loop.create_future()`",
        )


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
