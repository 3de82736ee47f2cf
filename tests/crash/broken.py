"""Stores with a fault that a crash test must find: each breaks one promise on which everything else is built."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from durable.errors import SessionLost
from durable.journal import Kind
from durable.storage import Batch, BatchResult, Claim, Delivery, JournalStorage
from durable.testing.storage_proxy import Operation, StorageProxy

T = TypeVar("T")


class AcknowledgesEarly(StorageProxy):
    """Says that records are durable and writes them afterwards, as a store without fsync does."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self._late: asyncio.Future[Any] | None = None

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        batch = operation.batch
        if batch is None or batch.creations or batch.mails or batch.parks or batch.ends:
            await self._written()
            return await call()
        before = self._late

        async def write() -> None:
            if before is not None:
                await before
            await call()

        self._late = asyncio.ensure_future(write())
        return cast(T, BatchResult())

    async def _written(self) -> None:
        if self._late is not None:
            await self._late


class SkipsOneRecord(StorageProxy):
    """Leaves out the first DONE it is given, once in the life of a store, and says it was written."""

    async def commit(self, batch: Batch) -> BatchResult:
        skipped = Path(f"{_path(self)}-skipped")
        done = [entry for entry in batch.records if entry[1].kind is Kind.DONE]
        if done and not skipped.exists():
            skipped.touch()
            batch = replace(batch, records=[entry for entry in batch.records if entry is not done[0]])
        return await super().commit(batch)


class ForgetsEvents(StorageProxy):
    """Acknowledges mail and throws it away."""

    async def commit(self, batch: Batch) -> BatchResult:
        result = await super().commit(replace(batch, mails=[]))
        return replace(result, deliveries=[Delivery.DELIVERED] * len(batch.mails))


class DoesNotFence(StorageProxy):
    """Lets a session that was declared dead write on, as a store that looks at nothing but keys does."""

    async def commit(self, batch: Batch) -> BatchResult:
        try:
            return await super().commit(batch)
        except SessionLost:
            with closing(sqlite3.connect(_path(self))) as connection, connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO record (key, seq, kind, name, payload, time) VALUES (?, ?, ?, ?, ?, ?)",
                    [(key, *record) for key, record in batch.records],
                )
            return BatchResult()

    async def renew(self, session: int, lease: float) -> bool:
        await super().renew(session, lease)
        return True

    async def claim(self, *which: Any) -> Sequence[Claim]:
        try:
            return await super().claim(*which)
        except SessionLost:
            return []


def _path(proxy: StorageProxy) -> str:
    return str(proxy.storage._address.path)  # type: ignore[attr-defined]
