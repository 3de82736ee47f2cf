"""A store that counts what is asked of it, and that a test can break or freeze."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from durable import StorageError
from durable.storage import ProcessRow, open_storage
from durable.testing.storage_proxy import StorageProxy


class Counted(StorageProxy):
    """Counts what is read; looks at processes fail while it is broken, and wait while it does not answer."""

    def __init__(self, url: str) -> None:
        super().__init__(open_storage(url))
        self.reads = 0
        self.journals = 0  # of these: how many were of a journal
        self.broken = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def row(self, id: str) -> ProcessRow | None:
        await self._look()
        return await super().row(id)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        await self._look()
        return await super().rows_by_id(ids)

    async def _look(self) -> None:
        self.reads += 1
        await self.answers.wait()
        if self.broken:
            raise StorageError("The store is away")

    async def rows(self, **which: Any) -> Any:
        self.reads += 1
        return await super().rows(**which)

    async def journal(self, key: int, after: int = 0) -> Any:
        self.reads += 1
        self.journals += 1
        return await super().journal(key, after)
