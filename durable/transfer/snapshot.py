"""
One process complete: what stands on its row, its journal, its inbox.

Times stay what they were: a store takes the time of the end from the last record. That of the creation is told, since
the journal of a process that has restarted begins with its last life.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from durable.errors import ProcessNotFound, StorageError
from durable.journal import ENDS, ID_LIMIT, Record, check_name
from durable.storage import (
    ENDED,
    Batch,
    Creation,
    End,
    InboxItem,
    JournalStorage,
    Mail,
    Park,
    ProcessRow,
    Stall,
    Status,
)
from durable.times import now

_LOOKS = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    A process as it was at one moment.

    Attributes:
        key: Its key in the store it comes from; the order of listings.
        status: Running, stalled, or how it ended.
        wake_at: When it wants to run by itself (None: mail or nothing wakes it). Microseconds since 1970 UTC, as all
            times here.
        created_at: When its first life began.
    """

    key: int
    id: str
    definition: str
    queue: str
    status: Status
    wake_at: int | None
    created_at: int
    reason: str | None
    progress: bytes | None
    records: tuple[Record, ...]
    inbox: tuple[InboxItem, ...]

    @classmethod
    def of(cls, row: ProcessRow, records: Iterable[Record], inbox: Iterable[InboxItem]) -> Snapshot:
        """The process of *row*, with nothing of it changed. An ended one has no inbox: nobody takes what is left."""
        return cls(
            row.key,
            row.id,
            row.definition,
            row.queue,
            row.status,
            row.wake_at,
            row.created_at,
            row.reason,
            row.progress,
            tuple(records),
            () if row.status in ENDED else tuple(inbox),
        )


async def take(storage: JournalStorage, id: str) -> Snapshot:
    """
    Read one process as it is, also while a host runs it. Nothing is changed: it goes on where it is.

    Raises:
        ProcessNotFound: There is no process with this id.
        StorageError: It writes so fast that no two looks agree.
    """
    check_name(id, "process id", ID_LIMIT)
    for _ in range(_LOOKS):
        row = await storage.row(id)
        if row is None:
            raise ProcessNotFound(f"There is no process {id!r} in this store")
        records = await storage.journal(row.key)
        inbox = await storage.inbox(row.key)
        # Mail moves from the inbox into the journal in one transaction: if the journal is still as long as it was, no
        # event was missed or seen twice.
        if await storage.row(id) == row and not await storage.journal(row.key, after=records[-1].seq):
            if row.owner is not None:  # whoever held it knew what it waits for; nobody does where it goes
                row = row._replace(wake_at=now())
            return Snapshot.of(row, records, inbox)
    raise StorageError(f"Process {id!r} changes too fast to be read as a whole", fix="try again while it waits")


def batch_of(batch: Batch, snapshots: Iterable[Snapshot]) -> Batch:
    """*batch* with all that creates *snapshots* as they are: created, filled, and let go of."""
    for snapshot in snapshots:
        key, (first, *others) = snapshot.key, snapshot.records
        row = (key, snapshot.id, snapshot.definition, snapshot.queue)
        batch.creations.append(Creation(*row, True, None, first, snapshot.created_at))
        batch.mails += [_mail(snapshot.id, item) for item in snapshot.inbox]
        if snapshot.progress is not None:
            batch.progress[key] = snapshot.progress
        mail = len(snapshot.inbox)
        if snapshot.status in ENDED:
            batch.ends.append(End(key, snapshot.status, snapshot.reason, others.pop(), mail))
        elif snapshot.status is Status.STALLED:
            batch.stalls.append(Stall(key, snapshot.reason or "", mail))
        else:
            batch.parks.append(Park(key, snapshot.wake_at, mail))
        batch.records += [(key, record) for record in others]
    return batch


def is_complete(snapshot: Snapshot) -> bool:
    """Whether journal and status agree: an ended process has an end record, an unfinished one has none."""
    return (snapshot.records[-1].kind in ENDS) == (snapshot.status in ENDED)


def _mail(id: str, item: InboxItem) -> Mail:
    return Mail(id, item.kind, item.name, item.event_key, item.payload, item.time)
