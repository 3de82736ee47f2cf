"""
One process in memory: carries out what its kernel asks for, and moves to its journal what comes from outside.

Belongs here: the way of a record to the kernel, of its commands to those who carry them out, and of mail and events.
How records are written stands in `appending`, timers in `timing`, actions in `acting`, its end in `leaving`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from durable._host.residents.absent import read_reason
from durable._host.residents.appending import Surroundings
from durable._host.residents.leaving import Leaving
from durable._kernel import problems
from durable._kernel.commands import (
    Alarm,
    CancelAction,
    CancelChild,
    CancelTimer,
    Command,
    Deadline,
    End,
    RecordIntent,
    Report,
    Restart,
    RunAction,
    SetTimer,
    Stall,
    StartChild,
    Take,
    TakeValue,
    Wake,
)
from durable._kernel.execution import Execution
from durable.journal import OF_CHILDREN, Kind, Record
from durable.storage import InboxItem, MailKind


class Resident(Leaving):
    """A process this host owns and holds in memory."""

    __slots__ = ("_arriving", "_last_item", "_taking")

    def __init__(self, engine: Surroundings, key: int, id: str, execution: Execution) -> None:
        super().__init__(engine, key, id, execution)
        self._taking: dict[str, int] | None = None  # TAKEN records on their way
        self._arriving: Counter[str] | None = None  # EVENT records on their way, by event
        self._last_item = 0

    # --- records ---

    def follow(self, before: Resident) -> None:
        """It is the next life of *before*, and goes on with the mail of it."""
        self._last_item = before._last_item
        self.mail = before.mail

    def begin(self, record: Record) -> None:
        """Its creation is durable: run it."""
        self._seq, self._time = record.seq, record.time
        self._step(record)

    def recover(self, records: Sequence[Record], mail: int) -> list[Command]:
        """Replay a journal; what is outstanding. *mail*: how much of its mail that journal already holds."""
        self.mail = mail
        self._seq, self._time = records[-1].seq, records[-1].time
        return self.execution.replay(records)

    def feed(self, record: Record) -> None:
        """A record of ours is durable: let the process see it."""
        self.pending -= 1
        if record.kind is Kind.TAKEN and self._taking:
            self._taking.pop(record.name, None)
        elif record.kind is Kind.EVENT and self._arriving:
            self._arriving[record.name] -= 1
        if self.departed:
            if record.kind in OF_CHILDREN:
                self.execution.count_child(record)
            self.try_leave()
        else:
            self._step(record)

    def _step(self, record: Record) -> None:
        engine = self.engine
        try:
            engine.watchdog.begin(self.id)
            commands = self.execution.feed(record)
            engine.watchdog.end()
        except (KeyboardInterrupt, SystemExit):
            self.release()  # the step is void; its journal knows how to go on
            raise
        except Exception as error:
            engine.discard(self, problems.step_failed(self.id, error))
            return
        if commands:
            self.carry_out(commands)
        if self._end is not None:
            self.try_leave()
        engine.consider(self)

    # --- commands ---

    def carry_out(self, commands: Sequence[Command]) -> None:
        """Do what the kernel asks; a function given to `get` may interrupt it, a codec may refuse even a failure."""
        try:
            for command in commands:
                _CARRY_OUT[type(command)](self, command)
        except (KeyboardInterrupt, SystemExit):
            self.release()
            raise
        except Exception as error:
            self.engine.discard(self, problems.step_failed(self.id, error))

    def _take(self, command: Take) -> None:
        if self._taking is None:
            self._taking = {}
        if self._taking.get(command.name) != command.event:
            self._taking[command.name] = command.event
            self.append(Kind.TAKEN, command.name, self.engine.codec.encode(command.event))

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
            if item.kind is MailKind.TERMINATE:  # it goes with the end: until that is durable, a crash must not lose it
                reason = reason or read_reason(self.engine.codec, item.payload)
                continue
            self.engine.writer.take(self.key, item.number)
            match item.kind:
                case MailKind.EVENT:
                    self.raise_event(item.name, item.payload, item.event_key)
                case MailKind.CANCEL:
                    self.cancel(item.payload)
                case MailKind.RETURN:
                    self.append(Kind.RETURNED, item.name, item.payload)
                case MailKind.RESUME:
                    pass
        return reason


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
    StartChild: Resident._start_child,
    CancelChild: Resident._cancel_child,
    Report: Resident._report,
    End: Resident._finish,
    Restart: Resident._finish,
    Stall: Resident._stall,
}
