"""
What a move leaves at the source while a process is on its way, so that whoever finds it after a crash can go on.

Two marks, both of which only a move writes. First a RESUME mail named "moved": it makes a parked or stalled process
claimable, and says how it stood before (a store forgets `wake_at` and the reason when a process is claimed). It means
nothing to a host, so a process whose move never went further just goes on at the source. Then the end of the process
there: a TERMINATED record named "moved", whose payload names the destination and, on a second line, has the inbox as it
was, for an inbox goes with the end. From that record on the process cannot run at the source any more, and its journal
holds everything it takes to create it elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from durable._kernel.started import read_lineage
from durable.codec import Codec
from durable.journal import Kind, Record
from durable.storage import Claim, End, InboxItem, Mail, MailKind, ProcessRow, Status
from durable.transfer import entries
from durable.transfer.snapshot import Snapshot

MARK = "moved"
_REASON = "moved to "
_WAKES_STALLED = frozenset({MailKind.CANCEL, MailKind.TERMINATE, MailKind.RESUME})


class Standing(NamedTuple):
    """How a process stood before it was touched."""

    status: Status
    wake_at: int | None
    reason: str | None


def has_kin(records: Sequence[Record], codec: Codec) -> bool:
    """Whether a process has started others, or was started by one, as its journal says."""
    if any(record.kind is Kind.CHILD for record in records):
        return True
    return bool(records) and read_lineage(codec, records[0].payload).parent is not None


def moved_to(destination: str) -> str:
    """The reason with which a process ends at the source."""
    return f"{_REASON}{destination}"


def mark(row: ProcessRow, now: int) -> Mail:
    """The mail that makes the process of *row* claimable and remembers how it stands."""
    standing = {"status": row.status.value, "wake_at": row.wake_at, "reason": row.reason}
    return Mail(row.id, MailKind.RESUME, MARK, None, json.dumps(standing).encode(), now)


def standing(inbox: Sequence[InboxItem], now: int) -> Standing:
    """How a process stands whose *inbox* this is: as its first mark says, and as mail since then has changed it."""
    marks = [item for item in inbox if _is_mark(item)]
    if not marks:
        return Standing(Status.RUNNING, now, None)  # it was due, or its host has died
    stood = json.loads(marks[0].payload)
    status, wake_at, reason = Status(stood["status"]), stood["wake_at"], stood["reason"]
    for item in inbox:
        if item.number < marks[0].number or _is_mark(item):
            continue
        if status is Status.RUNNING:
            wake_at = item.time if wake_at is None else min(wake_at, item.time)
        elif item.kind in _WAKES_STALLED:
            status, wake_at, reason = Status.RUNNING, item.time, None
    return Standing(status, wake_at, reason)


def end_at_source(claim: Claim, destination: str, codec: Codec, now: int) -> End:
    """What ends a claimed process at the source."""
    last, reason = claim.records[-1], moved_to(destination)
    inbox = json.dumps([entries.of_mail(item) for item in claim.inbox])
    record = Record(last.seq + 1, Kind.TERMINATED, MARK, codec.encode(f"{reason}\n{inbox}"), max(last.time, now))
    return End(claim.row.key, Status.TERMINATED, reason, record, claim.row.mail)


def may_be_moved(row: ProcessRow) -> bool:
    """Whether a move may have ended this process; its journal knows."""
    return row.status is Status.TERMINATED and (row.reason or "").startswith(_REASON)


def was_moved(row: ProcessRow, records: Sequence[Record]) -> bool:
    """Whether a move ended this process, and not somebody who terminated it."""
    if not may_be_moved(row) or not records:  # none: somebody has deleted it since its row was read
        return False
    return records[-1].kind is Kind.TERMINATED and records[-1].name == MARK


def snapshot_of(claim: Claim, now: int) -> Snapshot:
    """The process of *claim* as it was before it was marked and claimed."""
    stood = standing(claim.inbox, now)
    row = claim.row._replace(status=stood.status, wake_at=stood.wake_at, reason=stood.reason)
    return Snapshot.of(row, claim.records, [item for item in claim.inbox if not _is_mark(item)])


def snapshot_after_end(row: ProcessRow, records: Sequence[Record], codec: Codec, now: int) -> Snapshot:
    """The same for a process that a move has ended at the source."""
    *own, end = records
    _reason, _, inbox = str(codec.decode(end.payload)).partition("\n")
    return snapshot_of(Claim(row, own, [entries.to_mail(entry, row.key) for entry in json.loads(inbox)]), now)


def _is_mark(item: InboxItem) -> bool:
    return item.kind is MailKind.RESUME and item.name == MARK
