"""The actions of a process in memory: started when its kernel asks, and a record when they end, or are tried again."""

from __future__ import annotations

import inspect
from datetime import timedelta
from random import random
from typing import Any

from durable._host.actions.actions import Attempt
from durable._host.residents.appending import Surroundings
from durable._host.residents.timing import LAST_MOMENT, Timing
from durable._kernel import problems
from durable._kernel.commands import CancelAction, RecordIntent, Report, RunAction, TakeValue
from durable._kernel.execution import Execution
from durable.errors import InvalidAction, StepInterrupted
from durable.journal import Kind


class Acting(Timing):
    """The attempts that run or wait for their turn; `Leaving` builds on it."""

    __slots__ = ("_attempts", "_lingering", "_queued")

    def __init__(self, engine: Surroundings, key: int, id: str, execution: Execution) -> None:
        super().__init__(engine, key, id, execution)
        self._attempts: dict[str, Attempt] | None = None
        self._lingering = 0  # attempts that were let go and have not ended yet
        self._queued: list[RunAction] | None = None

    # --- commands ---

    def _take_value(self, command: TakeValue) -> None:
        try:
            value = command.factory()
            if inspect.isawaitable(value):
                raise InvalidAction(
                    f"`get` {command.name!r} of process {self.id!r} was given a function that has to be awaited",
                    fix=f"write `await proc.do(lambda: the_call(…), {command.name!r})`",
                )
            payload = self.engine.payloads.encode(value, self.id, command.name)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.append(Kind.FAILED, command.name, self.engine.payloads.encode_error(error))
        else:
            self.append(Kind.VALUE, command.name, payload)

    def _record_intent(self, command: RecordIntent) -> None:
        self.append(Kind.INTENT, command.name)

    def _run_action(self, command: RunAction) -> None:
        if command.interrupted:
            self._interrupted(command.name, "a crash came between its start and its record")
        elif command.due is not None and command.due > self.engine.clock.now():
            self._set((command.name, False), command.due, self._start_action, command)
        else:
            self._start_action(command)

    def _start_action(self, command: RunAction) -> None:
        if self._timers:
            self._timers.pop((command.name, False), None)
        # What is on its way out may run elsewhere the moment it is gone: its attempts start there, or when it is back.
        if self.leaving or self._lingering or not self.engine.may_start(self):
            self._queued = [*(self._queued or ()), command]
            return
        if self._attempts is None:
            self._attempts = {}
        attempt = self.engine.actions.start(self, command)
        if attempt in self.engine.actions.running:
            self._attempts[command.name] = attempt

    def start_queued(self) -> None:
        """Start what had to wait for an action that would not end, or for the lease."""
        queued, self._queued = self._queued or (), None
        for command in queued:
            self._start_action(command)

    def _cancel_action(self, command: CancelAction) -> None:
        if self._timers and (timer := self._timers.pop((command.name, False), None)):
            timer.cancel()
        if self._queued:
            self._queued = [queued for queued in self._queued if queued.name != command.name]
        if self._attempts and (attempt := self._attempts.pop(command.name, None)):
            self._lingering += 1
            self.engine.actions.let_go(attempt)

    # --- how an attempt ends ---

    def action_ended(self, attempt: Attempt, result: Any, error: BaseException | None) -> None:
        if self._attempts:
            self._attempts.pop(attempt.command.name, None)
        if attempt.let_go:
            self._lingering += 1  # it timed out and may still be running
        try:
            self._record_end(attempt, result, error)
        except Exception as problem:  # not even the failure could be encoded
            self.engine.discard(self, problems.step_failed(self.id, problem))

    def _record_end(self, attempt: Attempt, result: Any, error: BaseException | None) -> None:
        command = attempt.command
        options = command.options
        if error is None:
            try:
                self.append(Kind.DONE, command.name, self.engine.payloads.encode(result, self.id, command.name))
            except Exception as refused:
                # The effect has happened: trying again would repeat it, so this is how the action ended.
                self.append(Kind.FAILED, command.name, self.engine.payloads.encode_error(refused))
        elif attempt.let_go and options.at_most_once:
            self._interrupted(command.name, f"it took longer than {options.timeout}")
        else:
            self._action_failed(command, error)

    def _action_failed(self, command: RunAction, error: BaseException) -> None:
        retry = command.options.retry if command.options is not None else None
        if retry is not None and isinstance(error, Exception):
            try:
                pause = retry.next_delay(command.attempt, error, random())
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as broken:
                broken.__cause__ = error
                error, pause = broken, None
            if pause is not None:
                now = self._now()
                due = min(now + pause // timedelta(microseconds=1), LAST_MOMENT)
                payload = self.engine.payloads.encode_error(error, command.attempt, due)
                self.append(Kind.ATTEMPT, command.name, payload)
                return
        self.append(Kind.FAILED, command.name, self.engine.payloads.encode_error(error))

    def action_gone(self) -> None:
        self._lingering -= 1
        if not self._lingering:
            self.start_queued()
            self.try_leave()
        self.engine.consider(self)

    def action_held_back(self, attempt: Attempt) -> None:
        if self._attempts:
            self._attempts.pop(attempt.command.name, None)
        self._start_action(attempt.command)

    def _interrupted(self, name: str, why: str) -> None:
        error = StepInterrupted(
            f"How action {name!r} of process {self.id!r} ended is not known: {why}",
            fix="find out whether its effect happened, then go on; it will not be started a second time",
        )
        self.append(Kind.FAILED, name, self.engine.payloads.encode_error(error))

    def stop_actions(self) -> None:
        """Tell every action to stop and hear nothing of it any more; forget timers and what was queued."""
        for attempt in (self._attempts or {}).values():
            self.engine.actions.forget(attempt)
        self._cancel_timers()
        self._attempts = self._queued = None

    # --- progress ---

    def _report(self, command: Report) -> None:
        self.engine.reports.report(self.key, self.id, None, (command.done, command.total, command.message))

    def action_reports(self, attempt: Attempt, done: float, total: float | None, message: str) -> None:
        if not (self.departed or self.leaving):  # what leaves has had its last report written
            self.engine.reports.report(self.key, self.id, attempt.command.name, (done, total, message))

    def action_silent(self, attempt: Attempt) -> None:
        if not (self.departed or self.leaving):
            self.engine.reports.end_step(self.key, attempt.command.name)
