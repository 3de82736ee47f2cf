"""
`SqliteStorage`: the `JournalStorage` protocol on one SQLite file. Composition only; what is done stands elsewhere.

Whatever writes, or is asked by a running host, is one job on the writer's thread; reads for people go to the reader.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import cache
from typing import TypeVar

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Claim, InboxItem, ProcessRow, Status
from durable_storage.local.announcements import concerns_others
from durable_storage.local.boot import boot_clock, this_boot
from durable_storage.local.locks import SessionFiles, StoreLock, check_not_forked
from durable_storage.local.writer import Writer
from durable_storage.sqlite import address, claims, housekeeping, sessions
from durable_storage.sqlite.commit import apply
from durable_storage.sqlite.database import Database
from durable_storage.sqlite.failures import translate
from durable_storage.sqlite.opening import check_file
from durable_storage.sqlite.reader import Reader

_logger = logging.getLogger("durable_storage.sqlite")
_T = TypeVar("_T")


class SqliteStorage:
    """
    A store in one SQLite file, to be shared by any number of OS processes of one machine.

    Args:
        url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``; options: ``busy_timeout`` (s), ``readers``.
        lease_clock: Seconds on the clock that leases run on; a test may move it by hand.

    Durability: A commit is on the disk when it returns (WAL, ``synchronous=FULL``).
    Raises:
        StorageError: The URL is not one of these.

    Beside ``FILE`` live ``FILE-lock``, ``FILE-sessions/`` and SQLite's own ``FILE-wal`` and ``FILE-shm``.
    """

    def __init__(self, url: str, *, lease_clock: Callable[[], float] = boot_clock) -> None:
        self._address = address.parse(url)
        self._lease_clock = lease_clock
        self._boot = this_boot()
        self._files = SessionFiles(self._address.path + "-sessions")
        self._reader = Reader(self._address.path, self._address.readers, self._address.busy_timeout)
        self._database: Database | None = None
        self._writer: Writer | None = None
        self._process = 0

    async def open(self) -> None:
        """Open the file and bring it to the newest version; see `StorageError` and its kinds for what may be wrong."""
        if self._database is not None:
            raise StorageError("This storage object is open already", path=self._address.path)
        _tell_about_version(sqlite3.sqlite_version_info)
        path = self._address.path
        if not StoreLock.is_shared(path + "-lock"):
            check_file(path)
        try:
            database = Database(path, self._address.busy_timeout)
        except OSError as error:
            raise translate(error, path) from error
        writer = Writer(f"durable writer of {path}", database.checkpoint_if_due)
        try:
            await writer.run(database.open)
        except BaseException:
            closed = writer.run(database.close)
            writer.stop()
            await closed
            raise
        self._database, self._writer, self._process = database, writer, os.getpid()

    async def close(self) -> None:
        """Close every connection. Sessions begun here count as gone from now on, as after a ``kill -9``."""
        if self._database is None or self._writer is None:
            return
        database, writer = self._usable()
        self._database = self._writer = None

        def leave() -> None:
            with database.lock:
                self._files.let_go()
            database.close()

        try:
            await self._reader.close()
        finally:
            answer = writer.run(leave)
            writer.stop()
            await answer

    # --- sessions

    async def begin_session(self, host: str, lease: float) -> int:
        """Register a session and lock its file."""
        database, writer = self._usable()
        lease_until = self._lease_time(lease)

        def begin(connection: sqlite3.Connection) -> tuple[int, set[int]]:
            return sessions.begin(connection, host, lease_until, self._boot), sessions.living(connection)

        def hold(begun: tuple[int, set[int]]) -> None:
            self._files.sweep(begun[1])
            self._files.hold(begun[0])

        session, _ = await writer.run(lambda: database.write(begin, afterwards=hold))
        await writer.run(database.grow_log)
        return session

    async def renew(self, session: int, lease: float) -> bool:
        """Prolong the lease of a living session."""
        lease_until = self._lease_time(lease)
        return await self._write(lambda connection: sessions.renew(connection, session, lease_until))

    async def end_session(self, session: int) -> None:
        """End a session cleanly and delete its file."""
        await self._remove(lambda connection: sessions.end(connection, session))

    async def bury(self) -> int:
        """Declare dead every session whose lease has run out or whose OS process is gone."""
        now = self._lease_time()
        return await self._remove(lambda connection: sessions.bury(connection, self._files, now, self._boot))

    async def _remove(self, function: Callable[[sqlite3.Connection], list[int]]) -> int:
        """Let *function* end sessions, then delete their files; return how many there were."""
        database, writer = self._usable()

        def remove(gone: list[int]) -> None:
            for session in gone:
                self._files.remove(session)
            if gone:
                database.announcements.announce()

        return len(await writer.run(lambda: database.write(function, afterwards=remove)))

    async def last_batch(self, session: int) -> int:
        """Number of the last batch of *session*."""
        number = await self._read(lambda connection: sessions.last_batch(connection, session))
        if number is None:
            raise StorageError(f"No session {session} is known to this store", path=self._address.path)
        return number

    # --- writing, claiming, waking

    def commit(self, batch: Batch) -> Awaitable[BatchResult]:
        """Apply *batch* in one transaction; it is on the disk when the answer was awaited."""
        try:
            database, writer = self._usable()
        except StorageError as error:
            return _refused(error)

        def is_applied(connection: sqlite3.Connection) -> bool:
            return batch.session is not None and sessions.last_batch(connection, batch.session) == batch.number

        def tell(_: BatchResult) -> None:
            if concerns_others(batch):
                database.announcements.announce()

        return writer.run(
            lambda: database.write(lambda connection: apply(connection, batch), afterwards=tell, is_applied=is_applied)
        )

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        """Take what is due or orphaned."""
        return await self._write(lambda connection: claims.claim(connection, session, queues, limit, now))

    async def collect(self, session: int) -> Sequence[InboxItem]:
        """Inbox items of flagged processes."""
        return await self._write(lambda connection: claims.collect(connection, session))

    async def next_wake(self, queues: Collection[str]) -> int | None:
        """When there is something to claim."""
        return await self._read(lambda connection: claims.next_wake(connection, queues))

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make stalled processes claimable."""
        database, writer = self._usable()

        def tell(resumed: int) -> None:
            if resumed:
                database.announcements.announce()

        return await writer.run(
            lambda: database.write(lambda connection: claims.resume_stalled(connection, queues, now), afterwards=tell)
        )

    async def wait_for_change(self, timeout: float) -> None:
        """Return when another storage object has written since the last call, or after *timeout* seconds."""
        database, _ = self._usable()
        await database.announcements.wait(timeout, lambda: database is self._database)

    # --- keeping house

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        """What ended before that time."""
        return await self._read(lambda connection: housekeeping.ended(connection, before, limit))

    async def purge(self, keys: Collection[int]) -> int:
        """Delete what has ended."""
        return await self._write(lambda connection: housekeeping.purge(connection, keys))

    # --- reading

    async def row(self, id: str) -> ProcessRow | None:
        """The process with this id."""
        self._usable()
        return await self._reader.row(id)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        """Those of *ids* that exist."""
        self._usable()
        return await self._reader.rows_by_id(ids)

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        """Records with ``seq > after``."""
        self._usable()
        return await self._reader.journal(key, after)

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        """The inbox in order."""
        self._usable()
        return await self._reader.inbox(key)

    async def rows(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[ProcessRow]:
        """A page of a listing, newest key first."""
        self._usable()
        return await self._reader.rows(status, definition, limit, before)

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        """How many processes there are."""
        self._usable()
        return await self._reader.count(status, definition)

    # --- inside

    async def _write(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        database, writer = self._usable()
        return await writer.run(lambda: database.write(function))

    async def _read(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        database, writer = self._usable()
        return await writer.run(lambda: database.read(function))

    def _lease_time(self, ahead: float = 0.0) -> int:
        return round((self._lease_clock() + ahead) * 1e6)

    def _usable(self) -> tuple[Database, Writer]:
        if self._database is None or self._writer is None:
            raise StorageError("This storage object is not open", fix="await storage.open() first")
        check_not_forked(self._process, self._address.path)
        return self._database, self._writer


@cache
def _tell_about_version(version: tuple[int, int, int]) -> None:
    """Say once per OS process what is done about a bug of the linked SQLite; nothing has to be done about it."""
    if version < (3, 51, 3):
        _logger.info(
            "SQLite %s has the WAL-reset bug; every write and checkpoint of this library takes one lock, which avoids "
            "it; do not let other programs write to the file while hosts are running",
            sqlite3.sqlite_version,
        )


async def _refused(error: StorageError) -> BatchResult:
    raise error  # where it is awaited, as by any ``async def``
