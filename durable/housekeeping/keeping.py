"""
Keeping house once: everything that is old enough is archived and purged, batch by batch.

The order is all there is to it: read, put, purge, and purged is only what was put. A host that dies between leaves
processes that the next one archives again, under the same name if they are the same. Two hosts at once do double work
and no harm: what has ended never changes, and each purges by key what it has itself archived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from durable import times
from durable.codec import Codec, MessagePackCodec, Reader
from durable.errors import CorruptJournal
from durable.housekeeping.archive import Archive
from durable.housekeeping.bundle import Bundle, day_of
from durable.housekeeping.form import dump, reader_of
from durable.housekeeping.retention import Report, Retention
from durable.storage import JournalStorage, ProcessRow, open_storage
from durable.transfer import marks
from durable.transfer.snapshot import Snapshot, is_complete

logger = logging.getLogger("durable.housekeeping")

_MOVING = "it is on its way to another store: call that `durable copy` again, to the same destination"
_LARGEST = 8 << 20  # bytes, compressed: an object that has so many is put though the batch is not full


async def keep_house(
    storage: str | JournalStorage, retention: Retention, *, codec: Codec | None = None, now: int | None = None
) -> Report:
    """
    Archive and purge everything that is old enough now, and return.

    Any number of these, and of hosts with a retention, may work on one store at the same time.

    Args:
        storage: A URL, or a store that is open.
        codec: That of the hosts, so that the archive is readable; exact bytes are archived with any.
        now: What time it is, in microseconds since 1970 UTC; the clock of this machine if not given.

    Durability: What is purged is in the archive for good.
    Raises:
        StorageError: The store or the archive fails. What was done so far stays done.
        MissingExtra: An archive is wanted, and the extra ``objects`` is not installed.
    """
    if isinstance(storage, str):
        opened = open_storage(storage)
        await opened.open()
        try:
            return await keep_house(opened, retention, codec=codec, now=now)
        finally:
            await opened.close()
    report = Report()
    async for batch in batches(storage, retention, codec, times.now() if now is None else now):
        report += batch
    return report


async def batches(
    storage: JournalStorage, retention: Retention, codec: Codec | None, now: int
) -> AsyncIterator[Report]:
    """Keep house one batch at a time: each is done when it is reported, and the next begins when it is asked for."""
    before = now - retention.keep // timedelta(microseconds=1)
    archiving = (
        None if retention.archive is None else _Archiving(storage, Archive(retention.archive, create=True), codec)
    )
    left: dict[int, str] = {}  # these stay at the head of what has ended, so ask for as many more
    while rows := await storage.ended(before, retention.batch + len(left)):
        rows = [row for row in rows if row.key not in left]
        if not rows:
            return
        if staying := await _not_to_be_purged(storage, rows):
            left |= {row.key: row.id for row in rows if row.id in staying}
            yield Report(left=staying)
            rows = [row for row in rows if row.id not in staying]
        if not rows:
            continue
        if archiving is None:
            yield Report(purged=await storage.purge([row.key for row in rows]))
            continue
        report = await archiving.take(rows)
        left |= {row.key: row.id for row in rows if row.id in report.left}
        yield report


async def _not_to_be_purged(storage: JournalStorage, rows: Sequence[ProcessRow]) -> dict[str, str]:
    """
    Those that a move between stores has ended here, and perhaps not created at its destination yet; and why they stay.

    What is here may be all there is of them; the move itself deletes them.
    """
    staying = {}
    for row in rows:
        if not marks.may_be_moved(row):
            continue
        try:
            if marks.was_moved(row, await storage.journal(row.key)):
                staying[row.id] = _MOVING
        except CorruptJournal as error:
            staying[row.id] = f"whether it is on its way to another store cannot be read: {error.args[0]}"
        if why := staying.get(row.id):
            logger.warning("Process %r stays in the store: %s", row.id, why)
    return staying


class _Archiving:
    """Takes ended processes out of a store, into an archive."""

    def __init__(self, storage: JournalStorage, archive: Archive, codec: Codec | None) -> None:
        self._storage = storage
        self._archive = archive
        self._read = reader_of(MessagePackCodec() if codec is None else codec)

    async def take(self, rows: Sequence[ProcessRow]) -> Report:
        """Archive and purge the first of *rows*: those of one day, as many as one object holds."""
        bundle, left = Bundle(), {}
        for row in rows:
            if day_of(row) != day_of(rows[0]) or len(bundle.content) >= _LARGEST:
                break
            try:
                snapshot = await self._snapshot(row)
            except CorruptJournal as error:
                left[row.id] = str(error.args[0])
                logger.error("Process %r stays in the store, it cannot be archived: %s", row.id, error)
                continue
            if snapshot is not None:
                await asyncio.to_thread(_add, bundle, row, snapshot, self._read)
        if not bundle.rows:
            return Report(left=left)
        await self._archive.put(bundle)
        purged = await self._storage.purge([row.key for row in bundle.rows])
        return Report(len(bundle.rows), purged, 1, len(bundle.content), left)

    async def _snapshot(self, row: ProcessRow) -> Snapshot | None:
        """The process of *row* as a whole; None if another host has purged it meanwhile."""
        # The inbox first: a purge takes all at once, so who still has a journal had the whole inbox a moment ago.
        inbox = await self._storage.inbox(row.key) if row.mail else ()
        records = await self._storage.journal(row.key)
        if not records and await self._storage.row(row.id) != row:
            return None
        snapshot = Snapshot.of(row, records, inbox)
        if not records or not is_complete(snapshot):
            raise CorruptJournal(f"Process {row.id!r} has ended, and its journal has no end")
        return snapshot


def _add(bundle: Bundle, row: ProcessRow, snapshot: Snapshot, read: Reader | None) -> None:
    bundle.add(row, dump(snapshot, read))
