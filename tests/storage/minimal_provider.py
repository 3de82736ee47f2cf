"""
The smallest honest provider: every promise of the protocol, kept by the transactions of a SQLite file.

A worked example for those who write a provider of their own; `docs/writing-a-provider.md` walks through it. It passes
the whole contract and is not fast: each call blocks the event loop for as long as the disk takes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from durable.errors import StorageError, StorageFull
from durable.journal import Kind, Record
from durable.storage import ENDED, Batch, BatchResult, Claim, InboxItem, MailKind, ProcessRow, Status
from tests.storage.minimal_batch import SCHEMA, Writing, process_row

# A process that is running although nobody alive owns it.
ORPHANED = "status = 'running' AND owner IN (SELECT id FROM session WHERE NOT alive)"


class MinimalStorage:
    """``minimal:///path/of/a/file``, to be shared by any number of OS processes of one machine."""

    SYNCHRONOUS = "EXTRA"  # a commit returns when the disk has it, the directory entry of the rollback journal included

    def __init__(self, url: str, *, lease_clock: Callable[[], float] = time.time) -> None:
        self._path = url.partition("://")[2]
        self._lease_clock = lease_clock
        self._database: sqlite3.Connection | None = None
        self._version = 0

    async def open(self) -> None:
        database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
        database.execute(f"PRAGMA synchronous = {self.SYNCHRONOUS}")
        database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT")
        self._database = database

    async def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _usable(self) -> sqlite3.Connection:
        if self._database is None:
            raise StorageError("This storage object is not open", fix="await storage.open() first")
        return self._database

    @contextmanager
    def _transaction(self) -> Iterator[Writing]:
        """All or nothing: BEGIN IMMEDIATE keeps every other writer out until COMMIT has reached the disk."""
        database = self._usable()
        try:
            database.execute("BEGIN IMMEDIATE")
            yield Writing(database)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            raise (StorageFull if full else StorageError)(f"The store failed: {error}", path=self._path) from error
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    # --- sessions

    async def begin_session(self, host: str, lease: float) -> int:
        with self._transaction() as writing:
            values = [host, self._lease_clock() + lease]
            writing.execute("INSERT INTO session VALUES (NULL, ?, ?, 1, 0)", values)
            [session] = writing.execute("SELECT last_insert_rowid()").fetchone()
        return int(session)

    async def renew(self, session: int, lease: float) -> bool:
        with self._transaction() as writing:
            values = [self._lease_clock() + lease, session]
            return writing.execute("UPDATE session SET lease_until = ? WHERE id = ? AND alive", values).rowcount == 1

    async def end_session(self, session: int) -> None:
        with self._transaction() as writing:
            writing.execute("UPDATE session SET alive = 0 WHERE id = ?", [session])

    async def bury(self) -> int:
        with self._transaction() as writing:
            change = "UPDATE session SET alive = 0 WHERE alive AND lease_until <= ?"
            return writing.execute(change, [self._lease_clock()]).rowcount

    async def last_batch(self, session: int) -> int:
        [(number,)] = self._select("SELECT last_batch FROM session WHERE id = ?", session)
        return int(number)

    # --- writing, claiming, waking

    async def commit(self, batch: Batch) -> BatchResult:
        try:
            with self._transaction() as writing:
                return writing.apply(batch)
        except OverflowError as error:
            raise StorageError(f"SQLite keeps numbers of 64 bits: {error}", path=self._path) from error

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        with self._transaction() as writing:
            writing.fence(session)
            due = "status = 'running' AND owner IS NULL AND wake_at <= ?"
            chosen = f"queue IN ({_marks(queues)}) AND ({due} OR {ORPHANED})"
            keys = writing.execute(
                f"SELECT key FROM process WHERE {chosen} ORDER BY coalesce(wake_at, 0), key LIMIT ?",
                [*queues, now, limit],
            ).fetchall()
            for key in keys:
                writing.execute("UPDATE process SET owner = ?, wake_at = NULL WHERE key = ?", [session, *key])
            return [
                Claim(self._rows("key = ?", key)[0], await self.journal(key), await self.inbox(key)) for (key,) in keys
            ]

    async def collect(self, session: int) -> Sequence[InboxItem]:
        with self._transaction() as writing:
            flagged = "SELECT key FROM process WHERE owner = ? AND wake_at IS NOT NULL"
            items = self._items(f"key IN ({flagged})", session)
            writing.execute("UPDATE process SET wake_at = NULL WHERE owner = ?", [session])
            return items

    async def next_wake(self, queues: Collection[str]) -> int | None:
        ours = f"queue IN ({_marks(queues)}) AND status = 'running'"
        if self._select(f"SELECT 1 FROM process WHERE {ours} AND {ORPHANED} LIMIT 1", *queues):
            return 0
        [(wake_at,)] = self._select(f"SELECT min(wake_at) FROM process WHERE {ours} AND owner IS NULL", *queues)
        return None if wake_at is None else int(wake_at)

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        with self._transaction() as writing:
            change = "UPDATE process SET status = 'running', reason = NULL, wake_at = ? WHERE status = 'stalled'"
            return writing.execute(f"{change} AND queue IN ({_marks(queues)})", [now, *queues]).rowcount

    async def wait_for_change(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while loop.time() < until:
            [(version,)] = self._select("PRAGMA data_version")  # another number when another connection has committed
            if version != self._version:
                self._version = version
                return
            await asyncio.sleep(min(0.02, timeout))

    # --- keeping house, reading

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        return self._rows("ended_at < ? ORDER BY ended_at, key LIMIT ?", before, limit)

    async def purge(self, keys: Collection[int]) -> int:
        with self._transaction() as writing:
            ended = [key for key in set(keys) if (row := writing.row("key", key)) is not None and row.status in ENDED]
            for key in ended:
                for table in ("process", "record", "inbox"):
                    writing.execute(f"DELETE FROM {table} WHERE key = ?", [key])
            return len(ended)

    async def row(self, id: str) -> ProcessRow | None:
        return next(iter(self._rows("id = ?", id)), None)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        found = [self._rows("id = ?", id) for id in set(ids)]
        return [row for rows in found for row in rows]

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        found = self._select("SELECT * FROM record WHERE key = ? AND seq > ? ORDER BY seq", key, after)
        return [Record(seq, Kind(kind), *others) for _, seq, kind, *others in found]

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        return self._items("key = ?", key)

    async def rows(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[ProcessRow]:
        where, values = _which(status, definition)
        page = "(? IS NULL OR key < ?) ORDER BY key DESC LIMIT ?"
        return self._rows(f"{where} AND {page}", *values, before, before, limit)

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        where, values = _which(status, definition)
        [(processes,)] = self._select(f"SELECT count(*) FROM process WHERE {where}", *values)
        return int(processes)

    def _rows(self, where: str, *values: object) -> list[ProcessRow]:
        return [process_row(columns) for columns in self._select(f"SELECT * FROM process WHERE {where}", *values)]

    def _items(self, where: str, *values: object) -> list[InboxItem]:
        found = self._select(f"SELECT * FROM inbox WHERE {where} ORDER BY number", *values)
        return [InboxItem(number, key, MailKind(kind), *others) for number, key, kind, *others in found]

    def _select(self, statement: str, *values: object) -> list[Any]:
        try:
            return self._usable().execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"The store failed: {error}", path=self._path) from error


def _which(status: Collection[Status] | None, definition: str | None) -> tuple[str, list[object]]:
    """What is asked of a listing, as SQL with its values."""
    of_status = "1" if status is None else f"status IN ({_marks(status)})"
    return f"{of_status} AND (? IS NULL OR definition = ?)", [*(status or ()), definition, definition]


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
