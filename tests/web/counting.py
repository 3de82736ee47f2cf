"""A store that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from durable import StorageError
from durable.storage import ProcessRow, open_storage
from durable.testing.storage_proxy import StorageProxy


class Counted(StorageProxy):
    """Counts what is read, and fails where a test wants it to."""

    def __init__(self, url: str) -> None:
        super().__init__(open_storage(url))
        self.reads = 0
        self.journals = 0  # of these: how many were of a journal
        self.broken = False

    async def row(self, id: str) -> ProcessRow | None:
        self.reads += 1
        if self.broken:
            raise StorageError("The store is away")
        return await super().row(id)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        self.reads += 1
        if self.broken:
            raise StorageError("The store is away")
        return await super().rows_by_id(ids)

    async def rows(self, **which: Any) -> Any:
        self.reads += 1
        return await super().rows(**which)

    async def journal(self, key: int, after: int = 0) -> Any:
        self.reads += 1
        self.journals += 1
        return await super().journal(key, after)
