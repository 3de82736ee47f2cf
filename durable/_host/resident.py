"""
One process in memory: carries out what its kernel asks for, and turns every outcome into a record.

A record is made here (sequence number, time, payload), becomes durable in the writer, and comes back through `feed`.
Nothing else reaches the kernel, so a process never sees what a crash could take back.
"""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from random import random
from typing import Any, Protocol

from durable._host import letting_go
from durable._host.actions import Actions, Attempt
from durable._host.clock import Clock, to_microseconds
from durable._host.timers import Timer, Timers
from durable._host.watchdog import Watchdog
from durable._host.writer import Writer
from durable._kernel.commands import (
    Alarm,
    CancelAction,
    CancelTimer,
    Command,
    Deadline,
    End,
    RecordIntent,
    Report,
    RunAction,
    SetTimer,
    Stall,
    Take,
    TakeValue,
    Wake,
)
from durable._kernel.execution import Execution
from durable.codec import Codec, describe_error, encode_error
from durable.errors import DurableError, InvalidAction, StepInterrupted
from durable.journal import Kind, Record
from durable.storage import End as EndChange
from durable.storage import InboxItem, MailKind, Park, Status
from durable.storage import Stall as StallChange

logger = logging.getLogger("durable.host")

_LAST_MOMENT = 2**63 - 1  # microseconds; what stores can keep

STATUS = {
    Kind.COMPLETED: Status.COMPLETED,
    Kind.ERRED: Status.FAILED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.TERMINATED: Status.TERMINATED,
}


def read_reason(codec: Codec, payload: bytes) -> str:
    """Why a process is to be terminated. If that was sent with another codec, it is terminated all the same."""
    try:
        return str(codec.decode(payload))
    except DurableError:
        return "for a reason that this host cannot read"


class Engine(Protocol):
    """What a resident needs of the engine it lives in."""

    clock: Clock
    codec: Codec
    writer: Writer
    timers: Timers
    actions: Actions
    watchdog: Watchdog

    def encode(self, value: Any, process_id: str, checkpoint: str) -> bytes: ...
    def within_limit(self, end: End, process_id: str) -> End: ...
    def may_start(self, resident: Resident) -> bool: ...
    def consider(self, resident: Resident) -> None: ...
    def report(self, resident: Resident, done: float, total: float | None, message: str) -> None: ...
    def show_last(self, resident: Resident) -> None: ...
    def ended(self, resident: Resident, record: Record, held: bool) -> None: ...
    def stalled(self, resident: Resident, held: bool) -> None: ...
    def released(self, resident: Resident, held: bool) -> None: ...
    def discard(self, resident: Resident, error: DurableError) -> None: ...


class Resident:
    """
    A process this host owns and holds in memory.

    ``pending``: records on their way to storage. ``mail``: how much of its mail has been moved to the journal.
    ``leaving``: a park, stall or end is on its way; until that is settled nothing else may be written for it.
    ``flagged``: there is mail in its inbox that has not been collected yet; what comes later must not overtake it.
    ``departed``: none of its code may run any more here; it waits to be terminated or given back.
    """

    __slots__ = (
        "_arriving",
        "_attempts",
        "_end",
        "_gone_wanted",
        "_last_item",
        "_missed",
        "_queued",
        "_reason",
        "_seq",
        "_taking",
        "_time",
        "_timers",
        "definition",
        "departed",
        "engine",
        "execution",
        "flagged",
        "id",
        "key",
        "leaving",
        "mail",
        "pending",
    )

    def __init__(self, engine: Engine, key: int, id: str, definition: str, execution: Execution) -> None:
        self.engine = engine
        self.key = key
        self.id = id
        self.definition = definition
        self.execution = execution
        self.pending = 0
        self.mail = 0
        self.leaving = False
        self.flagged = False
        self.departed = False
        self._reason: str | None = None
        self._seq = 0
        self._time = 0
        self._timers: dict[tuple[str, bool], Timer] | None = None
        self._attempts: dict[str, Attempt] | None = None
        self._gone_wanted = 0  # attempts that were let go and have not ended yet
        self._queued: list[RunAction] | None = None
        self._taking: dict[str, int] | None = None  # TAKEN records on their way
        self._arriving: Counter[str] | None = None  # EVENT records on their way, by event
        self._missed: list[tuple[Kind, str]] | None = None  # timers that fired while leaving
        self._end: End | None = None
        self._last_item = 0

    # --- records ---

    def begin(self, record: Record) -> None:
        """Its creation is durable: run it."""
        self._seq, self._time = record.seq, record.time
        self._step(record)

    def recover(self, records: Sequence[Record], mail: int) -> list[Command]:
        """Replay a journal; what is outstanding. *mail*: how much of its mail that journal already holds."""
        self.mail = mail
        self._seq, self._time = records[-1].seq, records[-1].time
        return self.execution.replay(records)

    def append(self, kind: Kind, name: str, payload: bytes = b"") -> int:
        """Write one record; it is fed when durable. Its sequence number."""
        self._seq += 1
        self._time = max(self._time, self.engine.clock.now())
        self.pending += 1
        self.engine.writer.append(self, Record(self._seq, kind, name, payload, self._time))
        return self._seq

    def feed(self, record: Record) -> None:
        """A record of ours is durable: let the process see it."""
        self.pending -= 1
        if record.kind is Kind.TAKEN and self._taking:
            self._taking.pop(record.name, None)
        elif record.kind is Kind.EVENT and self._arriving:
            self._arriving[record.name] -= 1
        if self.departed:
            self.try_leave()
        else:
            self._step(record)

    def refused(self, error: DurableError) -> None:
        """The store will not have our records: this process cannot go on here, and nothing of it is lost."""
        self.engine.discard(self, error)

    def _step(self, record: Record) -> None:
        engine = self.engine
        try:
            engine.watchdog.begin(self.id)
            commands = self.execution.feed(record)
            engine.watchdog.end()
        except (KeyboardInterrupt, SystemExit):
            self.release()  # the step is void; its journal knows how to go on
            raise
        if commands:
            self.carry_out(commands)
        if self._end is not None:
            self.try_leave()
        engine.consider(self)

    # --- commands ---

    def carry_out(self, commands: Sequence[Command]) -> None:
        """Do what the kernel asks."""
        for command in commands:
            _CARRY_OUT[type(command)](self, command)

    def _take_value(self, command: TakeValue) -> None:
        try:
            value = command.factory()
            if inspect.isawaitable(value):
                raise InvalidAction(
                    f"`get` {command.name!r} of process {self.id!r} was given a function that has to be awaited",
                    fix=f"write `await proc.do(lambda: the_call(…), {command.name!r})`",
                )
            payload = self.engine.encode(value, self.id, command.name)
        except Exception as error:
            self.append(Kind.FAILED, command.name, encode_error(self.engine.codec, error))
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
        if self._gone_wanted or not self.engine.may_start(self):
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
            self._gone_wanted += 1
            self.engine.actions.let_go(attempt)

    def _set_timer(self, command: SetTimer) -> None:
        if isinstance(command.length, timedelta):
            due = max(self._time, self.engine.clock.now()) + command.length // timedelta(microseconds=1)
        else:
            due = to_microseconds(command.length)
        due = min(due, _LAST_MOMENT)
        self.append(Kind.TIMER, command.name, self.engine.codec.encode((command.what, due)))

    def _wake(self, command: Wake) -> None:
        self._set((command.name, False), command.due, self._ring, Kind.FIRED, command.name)

    def _alarm(self, command: Alarm) -> None:
        self._set((command.name, True), command.due, self._ring, Kind.ALARM, command.name)

    def _deadline(self, command: Deadline) -> None:
        self._set(("", True), command.due, self._ring, Kind.CANCEL, "deadline")

    def _cancel_timer(self, command: CancelTimer) -> None:
        if self._timers and (timer := self._timers.pop((command.name, command.alarm), None)):
            timer.cancel()

    def _take(self, command: Take) -> None:
        if self._taking is None:
            self._taking = {}
        if self._taking.get(command.name) != command.event:
            self._taking[command.name] = command.event
            self.append(Kind.TAKEN, command.name, self.engine.codec.encode(command.event))

    def _report(self, command: Report) -> None:
        self.report(command.done, command.total, command.message)

    def report(self, done: float, total: float | None, message: str) -> None:
        """Progress, from the process or from an action of it."""
        self.engine.report(self, done, total, message)

    # --- actions ---

    def action_ended(self, attempt: Attempt, result: Any, error: BaseException | None) -> None:
        command = attempt.command
        if self._attempts:
            self._attempts.pop(command.name, None)
        if attempt.let_go:
            self._gone_wanted += 1  # it timed out and may still be running
        options = command.options
        codec = self.engine.codec
        if error is None:
            try:
                self.append(Kind.DONE, command.name, self.engine.encode(result, self.id, command.name))
            except Exception as refused:
                # The effect has happened: trying again would repeat it, so this is how the action ended.
                self.append(Kind.FAILED, command.name, encode_error(codec, refused))
        elif attempt.let_go and options.at_most_once:
            self._interrupted(command.name, f"it took longer than {options.timeout}")
        else:
            self._action_failed(command, error)

    def _action_failed(self, command: RunAction, error: BaseException) -> None:
        retry = command.options.retry if command.options is not None else None
        codec = self.engine.codec
        if retry is not None and isinstance(error, Exception):
            try:
                pause = retry.next_delay(command.attempt, error, random())
            except Exception as broken:
                broken.__cause__ = error
                error, pause = broken, None
            if pause is not None:
                now = max(self._time, self.engine.clock.now())
                due = min(now + pause // timedelta(microseconds=1), _LAST_MOMENT)
                payload = codec.encode((command.attempt, due, describe_error(codec, error)))
                self.append(Kind.ATTEMPT, command.name, payload)
                return
        self.append(Kind.FAILED, command.name, encode_error(codec, error))

    def action_gone(self) -> None:
        self._gone_wanted -= 1
        if not self._gone_wanted:
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
        self.append(Kind.FAILED, name, encode_error(self.engine.codec, error))

    # --- timers ---

    def _set(self, name: tuple[str, bool], due: int, function: Any, *args: Any) -> None:
        if self._timers is None:
            self._timers = {}
        if old := self._timers.get(name):
            old.cancel()
        self._timers[name] = self.engine.timers.add(due, function, *args)

    def _ring(self, kind: Kind, name: str) -> None:
        if self._timers:
            self._timers.pop(("", True) if kind is Kind.CANCEL else (name, kind is Kind.ALARM), None)
        if self.leaving:
            self._missed = [*(self._missed or ()), (kind, name)]
        elif kind is Kind.CANCEL:
            self.append(kind, name, self.engine.codec.encode("its time was over"))
        else:
            self.append(kind, name)

    def wake_at(self) -> int | None:
        """When it wants to run again by itself."""
        return min((timer.due for timer in (self._timers or {}).values()), default=None)

    # --- from outside ---

    def raise_event(self, name: str, payload: bytes, key: str | None) -> None:
        """Record an event, and who takes it if somebody waits: one commit for both."""
        if key is not None and self.execution.has_event_key(name, key):
            return
        number = self.append(Kind.EVENT, name, payload)
        if self._arriving is None:
            self._arriving = Counter()
        self._arriving[name] += 1
        # An older event of this name that is on its way comes first; then the kernel says who takes which.
        waiter = self.execution.next_waiter(name) if self._arriving[name] == 1 else None
        if waiter is not None and waiter not in (self._taking or ()):
            if self._taking is None:
                self._taking = {}
            self._taking[waiter] = number
            self.append(Kind.TAKEN, waiter, self.engine.codec.encode(number))

    def cancel(self, payload: bytes) -> None:
        """Record a request to cancel."""
        self.append(Kind.CANCEL, "request", payload)

    def receive(self, items: Sequence[InboxItem]) -> str | None:
        """Move mail from the inbox to the journal, in one batch, all of it. A reason if it says to terminate."""
        reason: str | None = None
        for item in items:
            if item.number <= self._last_item:
                continue
            self._last_item = item.number
            self.mail += 1
            self.engine.writer.take(self.key, item.number)
            match item.kind:
                case MailKind.EVENT:
                    self.raise_event(item.name, item.payload, item.event_key)
                case MailKind.CANCEL:
                    self.cancel(item.payload)
                case MailKind.TERMINATE:
                    reason = reason or read_reason(self.engine.codec, item.payload)
                case MailKind.RESUME:
                    pass
        return reason

    # --- leaving ---

    def is_waiting(self) -> bool:
        """Whether only the outside can bring it on: nothing of it runs or is being written."""
        return not (
            self.pending
            or self.leaving
            or self._attempts
            or self._gone_wanted
            or self._queued
            or self._end is not None
            or self.departed
        )

    def accepts_records(self) -> bool:
        """Whether an event or a request from this host may go straight into the journal, past the inbox."""
        return not (self.leaving or self.flagged or self.departed)

    def settled_back(self) -> None:
        """Mail kept it from leaving: catch up on what came meanwhile."""
        self.leaving = False
        missed, self._missed = self._missed or (), None
        for kind, name in missed:
            self._ring(kind, name)

    def try_leave(self) -> None:
        """End, or leave as was decided, if nothing is in the way any more."""
        # What is on its way to the journal must come first, and what was let go must have ended.
        if self.leaving or self.flagged or self.pending:
            return
        if self._reason is not None:
            self._write_end(Kind.TERMINATED, self._reason, self.engine.codec.encode(self._reason))
        elif self.departed:
            self.leaving = True
            change = Park(self.key, self.engine.clock.now(), self.mail)
            self.engine.writer.settle(change, lambda held: self.engine.released(self, held))
        elif self._end is not None and not self._gone_wanted:
            reason = self.execution.cancel_reason if self._end.kind is Kind.CANCELLED else None
            self._write_end(self._end.kind, reason, self._end.payload)

    def terminate(self, reason: str) -> None:
        """End it without running any of its code. A second request changes nothing."""
        if self._reason is None:
            self._reason = reason
        self.release()

    def obstacle(self) -> str | None:
        """What would notice if it were freed now, as a sentence; None if nothing would."""
        execution = self.execution
        return letting_go.obstacle(execution.tasks(), execution.generators(), execution.alarms())

    def let_go(self) -> None:
        """None of its code runs any more, ever; its memory is freed unless something would notice."""
        execution = self.execution
        letting_go.let_go(execution.tasks(), execution.generators(), execution.alarms())

    def release(self) -> None:
        """Drop what is in memory without running any of its code, and give it back, to be claimed afresh."""
        self.departed = True
        self.stop_actions()
        self.let_go()
        self.try_leave()

    def stop_actions(self) -> None:
        """Tell every action to stop and hear nothing of it any more; forget timers and what was queued."""
        for attempt in (self._attempts or {}).values():
            self.engine.actions.forget(attempt)
        for timer in (self._timers or {}).values():
            timer.cancel()
        self._attempts = self._timers = self._queued = None

    def notes(self) -> tuple[str, ...]:
        """What the end record notes: drift, failures nobody saw, events nobody took."""
        return self._end.notes if self._end is not None else ()

    def _stall(self, command: Stall) -> None:
        self.leaving = True
        facts = {"process_id": self.id, "reason": str(command.error)}
        logger.error("Process %r is stalled: %s", self.id, command.error, extra=facts)
        self.stop_actions()
        change = StallChange(self.key, str(command.error), self.mail)
        self.engine.writer.settle(change, lambda held: self.engine.stalled(self, held))

    def _finish(self, command: End) -> None:
        self._end = self.engine.within_limit(command, self.id)
        for timer in (self._timers or {}).values():
            timer.cancel()
        self._timers = None
        self.try_leave()

    def _write_end(self, kind: Kind, reason: str | None, payload: bytes) -> None:
        self.leaving = True
        self.engine.show_last(self)
        record = Record(self._seq + 1, kind, "", payload, max(self._time, self.engine.clock.now()))
        change = EndChange(self.key, STATUS[kind], reason, record, self.mail)
        self.engine.writer.settle(change, lambda held: self.engine.ended(self, record, held))


_CARRY_OUT: dict[type, Any] = {
    TakeValue: Resident._take_value,
    RecordIntent: Resident._record_intent,
    RunAction: Resident._run_action,
    CancelAction: Resident._cancel_action,
    SetTimer: Resident._set_timer,
    Wake: Resident._wake,
    Alarm: Resident._alarm,
    Deadline: Resident._deadline,
    CancelTimer: Resident._cancel_timer,
    Take: Resident._take,
    Report: Resident._report,
    End: Resident._finish,
    Stall: Resident._stall,
}
