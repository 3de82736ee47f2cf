"""
Reads for people: rows, journals, inboxes and listings, through SQLAlchemy async on a few connections of their own.

They never write (``query_only``), so they need no lock and never hold up a commit; each sees what was committed before
it began. The connections are opened with the first read, while the writer's is open, and closed before it: so none of
them is ever the last one, whose closing would checkpoint.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Select, event, func, literal_column, select, union_all
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import InboxItem, ProcessRow, Status
from durable_storage.schema import STATUSES, inbox, inbox_item, journal_record, process, process_row, record, status_is
from durable_storage.sqlite import statements
from durable_storage.sqlite.failures import translate


class Reader:
    """A small pool of reading connections to the store at *path*."""

    def __init__(self, path: str, connections: int, busy_timeout: float) -> None:
        self._path = path
        self._connections = connections
        self._busy_timeout = busy_timeout
        self._engine: AsyncEngine | None = None
        self._reads: set[asyncio.Task[list[Any]]] = set()

    async def close(self) -> None:
        """
        Wait for what is being read, also for those who were cancelled, and close the connections.

        Whoever is cancelled here waits all the same, for the reason given at `_fetch`, and since the writer comes next.
        """
        closing = asyncio.create_task(self._close())
        cancelled: asyncio.CancelledError | None = None
        while not closing.done():
            try:
                await asyncio.wait([closing])
            except asyncio.CancelledError as error:
                cancelled = error
        closing.result()
        if cancelled is not None:
            raise cancelled

    async def _close(self) -> None:
        while self._reads:
            await asyncio.wait(self._reads)
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    async def row(self, process_id: str) -> ProcessRow | None:
        """The process with this id."""
        rows = await self._fetch(select(process).where(process.c.id == process_id))
        return process_row(rows[0]) if rows else None

    async def rows_by_id(self, ids: Collection[str]) -> list[ProcessRow]:
        """Those of *ids* that exist."""
        found = await self._fetch(statements.rows_by_id.params(**statements.wanted(set(ids))))
        return [process_row(values) for values in found]

    async def journal(self, key: int, after: int) -> list[Record]:
        """Records of one process with ``seq > after``."""
        columns = [column for column in record.c if column is not record.c.key]
        of_process = select(*columns).where(record.c.key == key, record.c.seq > after)
        return [journal_record(values) for values in await self._fetch(of_process.order_by(record.c.seq))]

    async def inbox(self, key: int) -> list[InboxItem]:
        """The inbox of one process."""
        of_process = select(inbox).where(inbox.c.key == key).order_by(inbox.c.number)
        return [inbox_item(values) for values in await self._fetch(of_process)]

    async def rows(
        self, status: Collection[Status] | None, definition: str | None, limit: int, before: int | None
    ) -> list[ProcessRow]:
        """
        A page of a listing, newest key first.

        Each status is a range of an index that is in the order of keys already; so a page is merged from the heads of
        these ranges, and its cost does not depend on how many processes there are.
        """
        if status is None and definition is None:
            page = _before(select(process), before).order_by(process.c.key.desc()).limit(limit)
            return [process_row(values) for values in await self._fetch(page)]
        if not (statuses := _statuses(status)):
            return []
        heads = [
            select(
                _before(_narrowed(select(process), one, definition), before)
                .order_by(process.c.key.desc())
                .limit(limit)
                .subquery()
            )
            for one in statuses
        ]
        merged = union_all(*heads).order_by(literal_column("1").desc()).limit(limit)
        return [process_row(values) for values in await self._fetch(merged)]

    async def count(self, status: Collection[Status] | None, definition: str | None) -> int:
        """How many processes there are."""
        if status is None and definition is None:
            return int((await self._fetch(select(func.count()).select_from(process)))[0][0])
        if not (statuses := _statuses(status)):
            return 0
        counts = [_narrowed(select(func.count()).select_from(process), one, definition) for one in statuses]
        return sum(found for (found,) in await self._fetch(union_all(*counts)))

    async def _fetch(self, statement: Any) -> list[Any]:
        """
        What *statement* finds.

        A read is a task of its own, which goes on when its caller is cancelled: SQLAlchemy and aiosqlite, cancelled
        while they open a connection, would leave it open, and nobody could close it.
        """
        read = asyncio.create_task(self._read(statement))
        self._reads.add(read)
        read.add_done_callback(self._finished)
        await asyncio.wait([read])
        return read.result()

    def _finished(self, read: asyncio.Task[list[Any]]) -> None:
        self._reads.discard(read)
        if not read.cancelled():
            read.exception()  # has been seen: its caller may be gone

    async def _read(self, statement: Any) -> list[Any]:
        try:
            async with self._opened().connect() as connection:
                return list((await connection.execute(statement)).all())
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise translate(error.orig, self._path) from error
            raise StorageError(f"Reading the store failed: {error}", path=self._path) from error

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            self._engine = create_async_engine(
                URL.create("sqlite+aiosqlite", database=self._path),
                connect_args={"timeout": self._busy_timeout},
                # Every read is one statement: no transaction to begin, and none to roll back.
                isolation_level="AUTOCOMMIT",
                poolclass=AsyncAdaptedQueuePool,
                pool_size=self._connections,
                max_overflow=0,
                pool_reset_on_return=None,
            )
            event.listen(self._engine.sync_engine, "connect", _set_up)
        return self._engine


def _set_up(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.execute("PRAGMA mmap_size = 0")
    cursor.close()


def _statuses(status: Collection[Status] | None) -> list[Status]:
    return [one for one in STATUSES if status is None or one in status]


def _narrowed(statement: Select[Any], status: Status, definition: str | None) -> Select[Any]:
    narrowed = statement.where(status_is(status))
    return narrowed if definition is None else narrowed.where(process.c.definition == definition)


def _before(statement: Select[Any], before: int | None) -> Select[Any]:
    return statement if before is None else statement.where(process.c.key < before)
