"""
A `JournalStorage` around another one: the base of everything that steps between a host and its store in tests.

Every method that may write goes through `around`; a subclass overrides that one method. Reads are passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from durable.journal import Record
from durable.storage import Batch, BatchResult, Claim, InboxItem, JournalStorage, ProcessRow, Status

T = TypeVar("T")


class Operation(NamedTuple):
    """One call that may write: the method's name, and the batch if it is a commit."""

    name: str
    batch: Batch | None = None


class StorageProxy:
    """
    Passes every call on to *storage*.

    Args:
        storage: The store that really keeps things; opened and closed with this object.
    """

    def __init__(self, storage: JournalStorage) -> None:
        self.storage = storage

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        """Do *operation* by awaiting ``call()``; override it to do something before, after, or instead."""
        return await call()

    # what may write

    async def open(self) -> None:
        await self.around(Operation("open"), self.storage.open)

    async def close(self) -> None:
        await self.around(Operation("close"), self.storage.close)

    async def begin_session(self, host: str, lease: float) -> int:
        return await self.around(Operation("begin_session"), lambda: self.storage.begin_session(host, lease))

    async def renew(self, session: int, lease: float) -> bool:
        return await self.around(Operation("renew"), lambda: self.storage.renew(session, lease))

    async def end_session(self, session: int) -> None:
        await self.around(Operation("end_session"), lambda: self.storage.end_session(session))

    async def bury(self) -> int:
        return await self.around(Operation("bury"), self.storage.bury)

    async def commit(self, batch: Batch) -> BatchResult:
        return await self.around(Operation("commit", batch), lambda: self.storage.commit(batch))

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        return await self.around(Operation("claim"), lambda: self.storage.claim(session, queues, limit, now))

    async def collect(self, session: int) -> Sequence[InboxItem]:
        return await self.around(Operation("collect"), lambda: self.storage.collect(session))

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        return await self.around(Operation("resume_stalled"), lambda: self.storage.resume_stalled(queues, now))

    async def purge(self, keys: Collection[int]) -> int:
        return await self.around(Operation("purge"), lambda: self.storage.purge(keys))

    # what only reads

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        return await self.storage.ended(before, limit)

    async def last_batch(self, session: int) -> int:
        return await self.storage.last_batch(session)

    async def next_wake(self, queues: Collection[str]) -> int | None:
        return await self.storage.next_wake(queues)

    async def wait_for_change(self, timeout: float) -> None:
        await self.storage.wait_for_change(timeout)

    async def row(self, id: str) -> ProcessRow | None:
        return await self.storage.row(id)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        return await self.storage.rows_by_id(ids)

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        return await self.storage.journal(key, after)

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        return await self.storage.inbox(key)

    async def rows(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[ProcessRow]:
        return await self.storage.rows(status=status, definition=definition, limit=limit, before=before)

    async def count(self, **which: Any) -> int:
        return await self.storage.count(**which)
