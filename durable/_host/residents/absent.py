"""
Processes this session owns and does not hold in memory: they are marked, ended or given back as they are.

Those whose definition it was not given, those it could not take in, and those whose records the store refuses. None of
their code runs; nothing of them is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from durable._host.clock import Clock
from durable._host.residents.parenting import attached_children, mails_of_end
from durable._host.writing.writer import Writer
from durable._kernel.started import read_lineage
from durable.codec import Codec
from durable.errors import DurableError
from durable.journal import Kind, Record
from durable.observer import Observed, Observer
from durable.storage import Claim, End, MailKind, Park, Stall, Status

logger = logging.getLogger("durable.host")


def read_reason(codec: Codec, payload: bytes) -> str:
    """Why a process is to be terminated. If that was sent with another codec, it is terminated all the same."""
    try:
        return str(codec.decode(payload))
    except DurableError:
        return "for a reason that this host cannot read"


def reason_to_terminate(codec: Codec, claim: Claim) -> str | None:
    """Why a claimed process is to be terminated, if its mail says so."""
    for item in claim.inbox:
        if item.kind is MailKind.TERMINATE:
            return read_reason(codec, item.payload)
    return None


class Absent:
    """
    Settles what is not in memory.

    Args:
        changed: Called with the id of a process that was settled, and its last record if it has ended.
        wanted: Called when there may be something to claim.
        observer: Hears what becomes of them; must not raise.
    """

    def __init__(
        self,
        codec: Codec,
        clock: Clock,
        writer: Writer,
        changed: Callable[[str, Record | None], object],
        wanted: Callable[[], object],
        observer: Observer | None,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._writer = writer
        self._changed = changed
        self._wanted = wanted
        self._observer = observer

    def terminate(self, claim: Claim, reason: str) -> None:
        """End it as it is; what is in its inbox goes with it."""
        row, last = claim.row, claim.records[-1]
        time = max(last.time, self._clock.now())
        record = Record(last.seq + 1, Kind.TERMINATED, "", self._codec.encode(reason), time)
        change = End(row.key, Status.TERMINATED, reason, record, row.mail)
        left = attached_children(self._codec, claim.records)
        lineage = read_lineage(self._codec, claim.records[0].payload)
        mails = mails_of_end(self._codec, row.id, lineage, record.kind, record.payload, left, time)

        def settled(held: bool) -> None:
            if held:  # mail came meanwhile: look at all of it, with the process claimed afresh
                self.give_back(row.key, row.mail + 1)
                return
            if self._observer is not None:
                self._observer.process_resumed(row, claim.records)
                self._observer.process_ended(row, record)
            self._changed(row.id, record)

        self._writer.settle(change, settled, self._left, mails)

    def stall(self, process: Observed, mail: int, error: DurableError) -> None:
        """Mark it as stalled; its journal and its inbox stay as they are. *mail*: how much of it is known."""
        key, id, reason = process.key, process.id, str(error)
        logger.error("Process %r is stalled: %s", id, reason, extra={"process_id": id, "reason": reason})

        def settled(held: bool) -> None:
            if held:  # perhaps the request to try again
                self.give_back(key, mail + 1)
                return
            if self._observer is not None:
                self._observer.process_stalled(process, reason)
            self._changed(id, None)

        self._writer.settle(Stall(key, reason, mail), settled, self._left)

    def give_back(self, key: int, mail: int) -> None:
        """Let go of it, to be claimed afresh. How much mail came is not known: count on until it is right."""
        change = Park(key, self._clock.now(), mail)

        def settled(held: bool) -> None:
            if held:
                self.give_back(key, mail + 1)
            else:
                self._wanted()

        self._writer.settle(change, settled, self._left)

    def _left(self, error: DurableError) -> None:
        """The store does not even let it be marked, and the writer has said so: it is claimed by the next session."""
