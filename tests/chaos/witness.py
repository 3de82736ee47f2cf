"""
What the store has acknowledged, noted by every host as it hears of it: the testimony the checker compares with the end.

A record is surely durable from the moment at which a commit that holds it was answered, or at which a claim gave it
back. Each line is written before the host gets that answer, so nothing that follows from it can come before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Claim, JournalStorage
from durable.testing.storage_proxy import StorageProxy
from tests.chaos.lines import Lines, now


class Witness(StorageProxy):
    """
    Notes what *storage* acknowledges to one host.

    Args:
        lines: Where.
        host: Name of the host.
    """

    def __init__(self, storage: JournalStorage, lines: Lines, host: str) -> None:
        super().__init__(storage)
        self._lines = lines
        self._host = host
        self._doubtful: tuple[Batch, float] | None = None  # its answer was an error

    async def begin_session(self, host: str, lease: float) -> int:
        session = await super().begin_session(host, lease)
        self._lines.write(what="session", session=session, host=self._host)
        return session

    async def commit(self, batch: Batch) -> BatchResult:
        asked = now()
        try:
            result = await super().commit(batch)
        except StorageError:
            self._doubtful = batch, asked
            raise
        self._doubtful = None
        self._note(batch, asked, result)
        return result

    async def last_batch(self, session: int) -> int:
        last = await super().last_batch(session)
        if self._doubtful is not None and self._doubtful[0].number == last:
            batch, asked = self._doubtful
            self._doubtful = None
            # It was applied. Which creations and ends held is not known, so only its records are testified.
            self._note(Batch(batch.session, batch.number, records=batch.records), asked, BatchResult())
        return last

    async def claim(self, session: int, queues: Collection[str], limit: int, now_: int) -> Sequence[Claim]:
        asked = now()
        claims = await super().claim(session, queues, limit, now_)
        if claims:
            self._lines.write(
                what="claim",
                session=session,
                asked=asked,
                answered=now(),
                claims=[[claim.row.key, len(claim.records), digest(*claim.records)] for claim in claims],
            )
        return claims

    def _note(self, batch: Batch, asked: float, result: BatchResult) -> None:
        created = [
            creation
            for creation in batch.creations
            if creation.id not in result.taken_ids or result.taken_ids[creation.id].key == creation.key
        ]
        ended = [(end.key, end.record) for end in batch.ends if end.key not in result.held]
        first = [(creation.key, creation.record) for creation in created]
        records = [[key, record.seq, digest(record)] for key, record in (*first, *batch.records, *ended)]
        if records:
            self._lines.write(
                what="commit",
                session=batch.session,
                asked=asked,
                answered=now(),
                owned=[creation.key for creation in created if creation.owned],
                records=records,
            )


def digest(*records: Record) -> str:
    """Tells journals, and single records, apart by all they say."""
    found = blake2b(digest_size=8)
    for record in records:
        found.update(repr(tuple(record)).encode())
    return found.hexdigest()
