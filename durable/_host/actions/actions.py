"""
Running actions: where each runs, how it is told to stop, and what its end means.

An async action runs as a task of the host's loop, a sync one in a thread; which it is, is found out by `calling`.

An action nobody waits for any more is told, and until it has really ended no other action of its process starts.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from datetime import timedelta
from functools import partial
from types import CoroutineType
from typing import Any, Protocol

from durable._host.actions.calling import needs_the_loop, remember, runs_on_loop
from durable._host.actions.threads import Threads
from durable._host.tasks import start_task
from durable._host.timers import Timer, Timers
from durable._kernel.commands import RunAction
from durable.observer import Observed, Observer, Outcome
from durable.step import Step, _current

logger = logging.getLogger("durable.host")

_PATIENCE = 10_000_000  # microseconds until an action that was told to stop, and has not, is named in a warning


class Owner(Observed, Protocol):
    """The resident whose actions these are."""

    def life(self) -> int:
        """Which life of the process it is; each has its own idempotency keys."""
        ...

    def action_ended(self, attempt: Attempt, result: Any, error: BaseException | None) -> object:
        """The attempt is over and its end counts."""
        ...

    def action_gone(self) -> object:
        """An attempt that was let go has really ended."""
        ...

    def action_held_back(self, attempt: Attempt) -> object:
        """The attempt was not begun: by the time there was a thread for it, the host might not start anything."""
        ...

    def action_reports(self, attempt: Attempt, done: float, total: float | None, message: str) -> object:
        """It says how far it is."""
        ...

    def action_silent(self, attempt: Attempt) -> object:
        """An attempt that has reported has ended, or nobody waits for it any more."""
        ...

    def release(self) -> object:
        """The program was interrupted in an attempt: the process goes on from its journal."""
        ...


class Attempt:
    """One try of one action."""

    __slots__ = ("awaitable", "command", "is_telling", "let_go", "owner", "report", "step", "task", "timer")

    step: Step

    def __init__(self, owner: Owner, command: RunAction) -> None:
        self.owner = owner
        self.command = command
        self.let_go = False
        self.report: tuple[float, float | None, str] | None = None  # the last one
        self.is_telling = False  # the loop has been asked to look at it
        self.awaitable: Awaitable[Any] | None = None  # until its task has taken its first step
        self.task: asyncio.Future[Any] | None = None
        self.timer: Timer | None = None


class Actions:
    """
    Starts attempts and hears how they end.

    Args:
        may_start: Asked once more, on the thread, when an attempt that had to wait for one is about to begin.
        is_torn_down: Whether asyncio has cancelled all tasks of this loop, those of actions among them, as it does
            where a program ends by an interrupt. How they end then says nothing about them.
    """

    def __init__(
        self,
        timers: Timers,
        now: Callable[[], int],
        may_start: Callable[[], bool],
        is_torn_down: Callable[[], bool],
        threads: int,
        name: str,
        observer: Observer | None,
    ) -> None:
        self._observer = observer
        self._timers = timers
        self._now = now
        self._may_start = may_start
        self._is_torn_down = is_torn_down
        self._threads = Threads(threads, name)
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # what was set around the host is seen by its actions
        self.running: set[Attempt] = set()
        self._waiting: list[asyncio.Future[None]] = []

    def start(self, owner: Owner, command: RunAction) -> Attempt:
        """Start the attempt *command* asks for; `Owner.action_ended` hears of its end, unless it is let go before."""
        attempt = Attempt(owner, command)
        report = partial(self._report, attempt)
        step = attempt.step = Step(owner.id, command.name, command.attempt, report, owner.life())
        self.running.add(attempt)
        context = self._context.copy()
        context.run(_current.set, step)
        if self._observer is not None:
            context.run(self._observer.action_started, owner, step)
        if runs_on_loop(command.action):
            if _timeout(command) is not None:
                self._set_timer(attempt)
            self._call_on_loop(attempt, context)
        else:
            self._threads.run(context, partial(self._begin, attempt), partial(self._answered, attempt, context))
        return attempt

    def let_go(self, attempt: Attempt) -> None:
        """Nobody waits for it any more: tell it to stop; its end will not count."""
        self._silence(attempt)
        attempt.let_go = True
        attempt.step.cancelled = True
        if attempt.timer is not None:
            attempt.timer.cancel()
        self._stop(attempt)
        attempt.timer = self._timers.add(self._now() + _PATIENCE, self._warn, attempt)

    def forget(self, attempt: Attempt) -> None:
        """Tell it to stop, and hear nothing of it any more: the host is leaving or has lost its session."""
        attempt.let_go = True
        attempt.step.cancelled = True
        attempt.owner = _NOBODY
        if attempt.timer is not None:
            attempt.timer.cancel()
        self._stop(attempt)

    async def drain(self, seconds: float) -> None:
        """Wait until nothing runs, *seconds* at most."""
        try:
            async with asyncio.timeout(seconds):
                while self.running:
                    waiter: asyncio.Future[None] = self._loop.create_future()
                    self._waiting.append(waiter)
                    await waiter
        except TimeoutError:
            pass

    def close(self) -> None:
        """Let go of every attempt and free the threads that have nothing to do."""
        for attempt in self.running:
            self.forget(attempt)
        self._threads.close()

    # calling

    def _call_on_loop(self, attempt: Attempt, context: Context) -> None:
        try:
            result = context.run(self._call, attempt)
        except (KeyboardInterrupt, SystemExit):
            self._interrupted(attempt)
            raise
        except BaseException as error:
            self._ended(attempt, None, error)
            return
        if type(result) is CoroutineType or inspect.isawaitable(result):
            self._await(attempt, context, result)
        else:
            remember(attempt.command.action, on_loop=False)  # it may block: the next time in a thread
            self._ended(attempt, result, None)

    def _begin(self, attempt: Attempt) -> Any:
        """On a thread, which may have come free long after the attempt was wanted."""
        if attempt.step.cancelled or not self._may_start():
            raise _NotBegun
        if _timeout(attempt.command) is not None:  # the wait for a thread is not the action's
            self._loop.call_soon_threadsafe(self._set_timer, attempt)
        return self._call(attempt)

    def _call(self, attempt: Attempt) -> Any:
        return attempt.command.action()

    def _set_timer(self, attempt: Attempt) -> None:
        timeout = _timeout(attempt.command)
        if timeout is not None and attempt in self.running and not attempt.let_go:
            due = self._now() + timeout // timedelta(microseconds=1)
            attempt.timer = self._timers.add(due, self._timed_out, attempt)

    def _answered(self, attempt: Attempt, context: Context, result: Any, error: BaseException | None) -> None:
        if error is None and inspect.isawaitable(result):
            remember(attempt.command.action, on_loop=True)
            if attempt.let_go:
                if inspect.iscoroutine(result):
                    result.close()
                self._ended(attempt, None, None)
            else:
                self._await(attempt, context, result)
        elif needs_the_loop(error) and not attempt.let_go and not _at_most_once(attempt.command):
            remember(attempt.command.action, on_loop=True)  # it wants to be called on the loop itself
            self._call_on_loop(attempt, context)
        else:
            self._ended(attempt, result, error)

    def _await(self, attempt: Attempt, context: Context, awaitable: Awaitable[Any]) -> None:
        if type(awaitable) is not CoroutineType and isinstance(awaitable, asyncio.Future):
            attempt.task = awaitable
            awaitable.add_done_callback(partial(self._future_done, attempt))
        else:
            attempt.awaitable = awaitable
            attempt.task = start_task(self._loop, self._drive(attempt, awaitable), context)

    async def _drive(self, attempt: Attempt, awaitable: Awaitable[Any]) -> None:
        attempt.awaitable = None
        try:
            result = await awaitable
        except (KeyboardInterrupt, SystemExit):
            self._interrupted(attempt)
            raise
        except BaseException as error:
            self._ended(attempt, None, error)
        else:
            self._ended(attempt, result, None)

    def _stop(self, attempt: Attempt) -> None:
        if attempt.task is None:
            return
        attempt.task.cancel()
        if attempt.awaitable is not None:  # before 3.12: a task that is cancelled before its first step runs none of it
            attempt.task.add_done_callback(partial(self._never_began, attempt, attempt.awaitable))

    def _never_began(self, attempt: Attempt, awaitable: Awaitable[Any], _task: asyncio.Future[Any]) -> None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        if attempt in self.running:  # and not forgotten meanwhile
            self._ended(attempt, None, asyncio.CancelledError())

    def _future_done(self, attempt: Attempt, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self._ended(attempt, None, asyncio.CancelledError())
        elif (error := future.exception()) is not None:
            self._ended(attempt, None, error)
        else:
            self._ended(attempt, future.result(), None)

    # ending

    def _ended(self, attempt: Attempt, result: Any, error: BaseException | None) -> None:
        if error is not None and not attempt.let_go and self._is_torn_down():
            self._interrupted(attempt)
            return
        if attempt.report is not None:
            self._silence(attempt)
        self.running.discard(attempt)
        attempt.step._end()
        if attempt.timer is not None:
            attempt.timer.cancel()
        if self._observer is not None:
            self._observer.action_ended(attempt.step, _outcome(attempt, error), error)
        if attempt.let_go:
            attempt.owner.action_gone()
        elif type(error) is _NotBegun:
            attempt.owner.action_held_back(attempt)
        else:
            attempt.owner.action_ended(attempt, result, error)
        if not self.running:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()

    def _interrupted(self, attempt: Attempt) -> None:
        """The whole program is; the action runs again where the process goes on."""
        owner, attempt.owner = attempt.owner, _NOBODY
        self._ended(attempt, None, None)
        self._loop.call_soon(owner.release)

    def _timed_out(self, attempt: Attempt) -> None:
        attempt.timer = None
        owner, timeout = attempt.owner, attempt.command.options.timeout
        error = TimeoutError(f"Action {attempt.command.name!r} of process {owner.id!r} took longer than {timeout}")
        self.let_go(attempt)
        owner.action_ended(attempt, None, error)

    def _warn(self, attempt: Attempt) -> None:
        attempt.timer = None
        logger.warning(
            "Action %r of process %r was told to stop and has not ended; no other action of this process starts before",
            attempt.command.name,
            attempt.owner.id,
            extra={"process_id": attempt.owner.id, "checkpoint": attempt.command.name},
        )

    # progress

    def _report(self, attempt: Attempt, done: float, total: float | None, message: str) -> None:
        """On any thread, and as often as it likes: the loop is asked once, and finds the last one."""
        attempt.report = (done, total, message)
        if not attempt.is_telling:
            attempt.is_telling = True
            self._loop.call_soon_threadsafe(self._tell, attempt)

    def _tell(self, attempt: Attempt) -> None:
        attempt.is_telling = False  # before it is read: what comes from here on asks again
        if attempt.report is not None and not attempt.let_go and attempt in self.running:
            attempt.owner.action_reports(attempt, *attempt.report)

    def _silence(self, attempt: Attempt) -> None:
        if attempt.report is not None and not attempt.let_go:
            self._tell(attempt)  # the last one, if there was no time to tell it
            attempt.report = None
            attempt.owner.action_silent(attempt)


class _NotBegun(BaseException):
    """Instead of an answer: the action was not called."""


class _Nobody:
    key = 0
    id = definition = "(let go)"

    def life(self) -> int:
        return 1

    def action_ended(self, attempt: Attempt, result: Any, error: BaseException | None) -> None: ...
    def action_gone(self) -> None: ...
    def action_held_back(self, attempt: Attempt) -> None: ...
    def action_reports(self, attempt: Attempt, done: float, total: float | None, message: str) -> None: ...
    def action_silent(self, attempt: Attempt) -> None: ...
    def release(self) -> None: ...


_NOBODY = _Nobody()


def _outcome(attempt: Attempt, error: BaseException | None) -> Outcome:
    if type(error) is _NotBegun:
        return Outcome.NOT_BEGUN
    if attempt.let_go or attempt.owner is _NOBODY:
        return Outcome.LET_GO
    return Outcome.DONE if error is None else Outcome.FAILED


def _timeout(command: RunAction) -> timedelta | None:
    return None if command.options is None else command.options.timeout


def _at_most_once(command: RunAction) -> bool:
    return command.options is not None and command.options.at_most_once
