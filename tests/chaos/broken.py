"""A store with fencing switched off: what a dead session writes, wins. For the test of the checker."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Any

import asyncpg

from durable.errors import SessionLost
from durable.storage import Batch, BatchResult, Claim
from durable.testing.storage_proxy import StorageProxy

_Row = tuple[Any, ...]


class DoesNotFence(StorageProxy):
    """A store that looks at nothing but keys, as one without sessions does: the later writer overwrites the earlier."""

    async def commit(self, batch: Batch) -> BatchResult:
        try:
            return await super().commit(batch)
        except SessionLost:
            await self._write([(key, *record) for key, record in batch.records])
            return BatchResult()

    async def renew(self, session: int, lease: float) -> bool:
        await super().renew(session, lease)
        return True

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        try:
            return await super().claim(session, queues, limit, now)
        except SessionLost:
            return []

    async def _write(self, rows: list[_Row]) -> None:
        address: Any = self.storage._address  # type: ignore[attr-defined]
        if hasattr(address, "dsn"):
            await _write_to_postgres(address.dsn, rows)
        else:
            _write_to_sqlite(address.path, rows)


def _write_to_sqlite(path: str, rows: list[_Row]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT OR REPLACE INTO record (key, seq, kind, name, payload, time) VALUES (?, ?, ?, ?, ?, ?)", rows
        )


async def _write_to_postgres(dsn: str, rows: list[_Row]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            "INSERT INTO durable.record (key, seq, kind, name, payload, time) VALUES ($1, $2, $3, $4, $5, $6) "
            "ON CONFLICT (key, seq) DO UPDATE SET kind = $3, name = $4, payload = $5, time = $6",
            rows,
        )
    finally:
        await connection.close()
