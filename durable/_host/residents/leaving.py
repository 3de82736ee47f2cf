"""How a process leaves memory: it ends, stalls, is given back, or is let go; and what is in the way of that."""

from __future__ import annotations

import logging

from durable._host.freeing import letting_go
from durable._host.residents.appending import Surroundings
from durable._host.residents.parenting import Parenting
from durable._kernel.commands import End, Restart, Stall
from durable._kernel.execution import Execution
from durable.journal import Kind, Record
from durable.storage import End as EndChange
from durable.storage import Park, Status
from durable.storage import Restart as RestartChange
from durable.storage import Stall as StallChange

logger = logging.getLogger("durable.host")

STATUS = {
    Kind.COMPLETED: Status.COMPLETED,
    Kind.ERRED: Status.FAILED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.TERMINATED: Status.TERMINATED,
}


class Leaving(Parenting):
    """
    The end of a stay in memory; `Resident` builds on it.

    ``mail``: how much of its mail has been moved to the journal. ``flagged``: there is mail in its inbox that has not
    been collected yet; what comes later must not overtake it.
    """

    __slots__ = ("_end", "_reason", "flagged", "mail")

    def __init__(self, engine: Surroundings, key: int, id: str, execution: Execution) -> None:
        super().__init__(engine, key, id, execution)
        self.mail = 0
        self.flagged = False
        self._reason: str | None = None
        self._end: End | Restart | None = None

    # --- may it leave? ---

    def is_waiting(self) -> bool:
        """Whether only the outside can bring it on: nothing of it runs or is being written."""
        return not (
            self.pending
            or self.leaving
            or self._attempts
            or self._lingering
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
        self._ring_missed()
        self.start_queued()

    def obstacle(self) -> str | None:
        """What would notice if it were freed now, as a sentence; None if nothing would."""
        execution = self.execution
        return letting_go.obstacle(execution.tasks(), execution.generators(), execution.alarms())

    def notes(self) -> tuple[str, ...]:
        """What the end record notes: drift, failures nobody saw, events nobody took."""
        return self._end.notes if self._end is not None else ()

    # --- leaving ---

    def try_leave(self) -> None:
        """End, or leave as was decided, if nothing is in the way any more."""
        # What is on its way to the journal must come first, and what was let go must have ended.
        if self.leaving or self.flagged or self.pending:
            return
        if self._reason is not None:
            self._write_end(Kind.TERMINATED, self._reason, self.engine.codec.encode(self._reason))
        elif self.departed:
            self._begin_to_leave()
            change = Park(self.key, self.engine.clock.now(), self.mail)
            self.engine.writer.settle(change, lambda held: self.engine.released(self, held), self.refused)
        elif self._end is None or self._lingering:
            return
        elif isinstance(self._end, Restart):
            self._write_restart(self._end)
        else:
            reason = self.execution.cancel_reason if self._end.kind is Kind.CANCELLED else None
            self._write_end(self._end.kind, reason, self._end.payload)

    def terminate(self, reason: str) -> None:
        """End it without running any of its code. A second request changes nothing."""
        if self._reason is None:
            self._reason = reason
        self.release()

    def release(self) -> None:
        """Drop what is in memory without running any of its code, and give it back, to be claimed afresh."""
        self.departed = True
        self.stop_actions()
        self.let_go()
        self.try_leave()

    def let_go(self, limit: int = letting_go.AT_LENGTH) -> None:
        """None of its code runs any more, ever; its memory is freed unless that would be noticed, or it is too much."""
        execution = self.execution
        letting_go.let_go(execution.tasks(), execution.generators(), execution.alarms(), limit)

    def _begin_to_leave(self) -> None:
        self.leaving = True
        self.engine.reports.write_last(self.key)

    def _stall(self, command: Stall) -> None:
        self._begin_to_leave()
        facts = {"process_id": self.id, "reason": str(command.error)}
        logger.error("Process %r is stalled: %s", self.id, command.error, extra=facts)
        self.stop_actions()
        change = StallChange(self.key, str(command.error), self.mail)
        self.engine.writer.settle(change, lambda held: self.engine.stalled(self, change.reason, held), self.refused)

    def _finish(self, command: End | Restart) -> None:
        self._end = self.engine.payloads.within_limit(command, self.id)
        self._cancel_timers()
        self.try_leave()

    def _write_end(self, kind: Kind, reason: str | None, payload: bytes) -> None:
        self._begin_to_leave()
        record = Record(self._seq + 1, kind, "", payload, self._now())
        change = EndChange(self.key, STATUS[kind], reason, record, self.mail)
        mails = self._mails_of_end(kind, payload, record.time)
        self.engine.writer.settle(change, lambda held: self.engine.ended(self, record, held), self.refused, mails)

    def _write_restart(self, restart: Restart) -> None:
        self._begin_to_leave()
        time = self._now()
        records = [Record(1, Kind.STARTED, restart.definition, restart.payload, time)]
        records += [
            Record(number, Kind.EVENT, name, payload, time)
            for number, (name, payload) in enumerate(restart.events, start=2)
        ]
        change = RestartChange(self.key, restart.definition, restart.queue, records)
        self.engine.writer.settle(change, lambda _held: self.engine.restarted(self, change), self.refused)
