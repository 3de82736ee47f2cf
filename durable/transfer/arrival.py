"""How processes arrive in a store: several in one batch of a session, each completely or not at all."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace

from durable.errors import ProcessExists, StorageError
from durable.journal import Record
from durable.storage import Batch, Delivery, JournalStorage, ProcessRow, Status
from durable.transfer import marks
from durable.transfer.snapshot import Snapshot, batch_of

_LEASE = 60.0  # seconds a session lives without being renewed
_PAGE = 500


class Side:
    """An open store with a session of ours in it; counts its batches."""

    def __init__(self, storage: JournalStorage, session: int) -> None:
        self.storage = storage
        self.session = session
        self._batches = 0

    @classmethod
    async def begin(cls, storage: JournalStorage) -> Side:
        """Begin a session of ours in *storage*."""
        return cls(storage, await storage.begin_session(f"durable transfer on {socket.gethostname()}", _LEASE))

    async def renew(self) -> None:
        """Keep the session alive. If that is too late, the next batch says so."""
        await self.storage.renew(self.session, _LEASE)

    def batch(self) -> Batch:
        """The next batch of the session, empty."""
        self._batches += 1
        return Batch(self.session, self._batches)

    async def pages(self, status: Collection[Status]) -> AsyncIterator[Sequence[ProcessRow]]:
        """Pages of a listing, newest first, which is not shifted by what is deleted meanwhile."""
        before: int | None = None
        while page := await self.storage.rows(status=status, limit=_PAGE, before=before):
            yield page
            before = page[-1].key

    async def create(self, snapshots: Iterable[Snapshot]) -> dict[str, ProcessRow]:
        """
        Create *snapshots* in one batch, but for those whose ids are taken: by which rows, is returned.

        Each keeps its key, which is its place in listings, or gets the next one that is free.
        """
        taken: dict[str, ProcessRow] = {}
        coming = list(snapshots)
        while coming:
            batch = batch_of(self.batch(), coming)
            try:
                result = await self.storage.commit(batch)
            except StorageError:
                # An id or a key that is taken is one reason for this, and then the next batch differs from this one.
                again = [snapshot for snapshot in coming if not await self._is_taken(snapshot, taken)]
                again = [replace(snapshot, key=await self._free_key(snapshot.key)) for snapshot in again]
                if again == coming:
                    raise
                coming = again
                continue
            if any(delivery is not Delivery.DELIVERED for delivery in result.deliveries):
                raise StorageError("The store lost mail of a process it has just created, and is not to be trusted")
            break
        return taken

    async def has_arrived(self, records: Sequence[Record], there: ProcessRow) -> bool:
        """Whether the process of row *there* is the one that had *records*, which may have gone on here since."""
        journal = await self.storage.journal(there.key)
        return list(journal[: len(records)]) == list(records) and not marks.was_moved(there, journal)

    async def _is_taken(self, snapshot: Snapshot, taken: dict[str, ProcessRow]) -> bool:
        row = await self.storage.row(snapshot.id)
        if row is not None:
            taken[snapshot.id] = row
        return row is not None

    async def _free_key(self, key: int) -> int:
        while (below := await self.storage.rows(limit=1, before=key + 1)) and below[0].key == key:
            key += 1
        return key


async def put(storage: JournalStorage, snapshot: Snapshot) -> None:
    """
    Write one process into a store that does not have it. If it is unfinished, a host of this store may run it at once.

    Durability: It is on storage at return; if this fails it is there completely or not at all.
    Raises:
        ProcessExists: Its id is taken.
    """
    if await storage.row(snapshot.id) is not None:
        raise _exists(snapshot)
    side = await Side.begin(storage)
    try:
        taken = await side.create([snapshot])
    finally:
        await storage.end_session(side.session)
    if taken:
        raise _exists(snapshot)


def _exists(snapshot: Snapshot) -> ProcessExists:
    return ProcessExists(
        f"Process {snapshot.id!r} exists already in this store",
        fix="an id cannot change, since idempotency keys are made of it: put the process into another store",
    )
