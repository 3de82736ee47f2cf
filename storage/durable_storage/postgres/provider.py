"""
`PostgresStorage`: the `JournalStorage` protocol on a PostgreSQL that many hosts share. Composition only.

Three connections for each storage object, whatever the number of processes: one for batches and the lease, one for
claims and notices, one for reads. The last is opened with the first read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Claim, InboxItem, ProcessRow, Status
from durable_storage.postgres import address
from durable_storage.postgres.building import statements_for
from durable_storage.postgres.channel import Channel
from durable_storage.postgres.claims import Claims
from durable_storage.postgres.commit import Committer
from durable_storage.postgres.connecting import Connection
from durable_storage.postgres.migrations import ddl, migrate
from durable_storage.postgres.notices import Notices
from durable_storage.postgres.polling import Polling
from durable_storage.postgres.reader import Reader
from durable_storage.postgres.sessions import Sessions


class PostgresStorage:
    """
    A store in one schema of a PostgreSQL database, shared by any number of hosts and clients.

    Args:
        url: ``postgresql://user:password@host:5432/database`` with the options of libpq that the driver can follow,
            several hosts and TLS included; options of ours: ``schema`` (``durable``), ``pooler=transaction``,
            ``patience`` (s).
        lease_clock: Seconds on the clock that leases run on, moved by a test; None: the clock of the database.

    Durability: A commit is on the disk of the server, and of its synchronous standbys, when it returns.
    Raises:
        StorageError: The URL is not one of these.
    """

    def __init__(self, url: str, *, lease_clock: Callable[[], float] | None = None) -> None:
        self._address = where = address.parse(url)
        statements = statements_for(where.schema)
        self._writing = Channel(where)
        self._keeping = Channel(where, self._connected)
        self._reading = Channel(where)
        self._reader = Reader(self._reading, statements)
        self._sessions = Sessions(self._writing, statements, lease_clock)
        self._claims = Claims(self._keeping, statements)
        self._notices = None if where.pooled else Notices(self._keeping, where.schema)
        self._polling = Polling(self._claims)
        self._committer = Committer(self._writing, where, self._reader, self._sessions, self._notices)
        self._is_open = False

    async def open(self) -> None:
        """Create or bring up to date what is in the schema; see `StorageError` and its kinds for what may be wrong."""
        if self._is_open:
            raise StorageError("This storage object is open already", store=self._address.shown)
        try:
            await self._keeping.begin()
            await self._writing.begin()
        except BaseException:
            await self.close()
            raise
        self._reading.reopen()
        self._is_open = True

    async def close(self) -> None:
        """Close every connection. Sessions begun here go on living until their lease runs out."""
        self._is_open = False
        channels = (self._writing, self._keeping, self._reading)
        try:
            if self._notices is not None:
                await self._notices.close()
            await asyncio.gather(*(channel.close() for channel in channels))
        finally:
            for channel in channels:
                channel.cut()  # nothing, unless whoever closes was cancelled

    async def _connected(self, connection: Connection) -> None:
        """With every new connection for claims: another server may have taken over that is not so new."""
        await migrate(connection, self._address.schema, self._address.shown)
        if self._notices is not None:
            await self._notices.listen(connection)

    def ddl(self, since: int = 0) -> str:
        """The SQL that brings the store from version *since* (0: nothing yet) to the newest; nothing is connected."""
        return ddl(self._address.schema, since)

    # --- sessions

    async def begin_session(self, host: str, lease: float) -> int:
        """Register a session."""
        self._check_open()
        session = await self._sessions.begin(host, lease)
        self._committer.know(session, 0)
        self._polling.sessions.add(session)
        if self._notices is not None:
            self._notices.answer_to(session)
        return session

    async def renew(self, session: int, lease: float) -> bool:
        """Prolong the lease of a living session."""
        self._check_open()
        return await self._sessions.renew(session, lease)

    async def end_session(self, session: int) -> None:
        """End a session cleanly; other hosts are told that there may be something to claim."""
        self._check_open()
        try:
            await self._sessions.end(session)
        finally:
            self._forget(session)
        await self._announce()

    def _forget(self, session: int) -> None:
        self._committer.forget(session)
        self._polling.sessions.discard(session)
        if self._notices is not None:
            self._notices.forget(session)

    async def bury(self) -> int:
        """Declare dead every session whose lease has run out."""
        self._check_open()
        buried = await self._sessions.bury()
        if buried:
            await self._announce()
        return buried

    async def last_batch(self, session: int) -> int:
        """Number of the last batch of *session*."""
        self._check_open()
        number = (await self._sessions.standing(session)).last_batch
        self._committer.know(session, number)
        return number

    # --- writing, claiming, waking

    def commit(self, batch: Batch) -> Awaitable[BatchResult]:
        """Apply *batch* in one statement; it is on the disk when the answer was awaited."""
        try:
            self._check_open()
        except StorageError as error:
            return _refused(error)
        return self._committer.commit(batch)

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        """Take what is due or orphaned."""
        self._check_open()
        return await self._claims.claim(session, queues, limit, now)

    async def collect(self, session: int) -> Sequence[InboxItem]:
        """Inbox items of flagged processes."""
        self._check_open()
        return await self._claims.collect(session)

    async def next_wake(self, queues: Collection[str]) -> int | None:
        """When there is something to claim."""
        self._check_open()
        wake = await self._claims.next_wake(queues)
        self._polling.know(queues, wake)
        return wake

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make stalled processes claimable."""
        self._check_open()
        resumed = await self._claims.resume_stalled(queues, now)
        if resumed:
            await self._announce()
        return resumed

    async def wait_for_change(self, timeout: float) -> None:
        """
        Return when others have written what concerns the sessions of this object, or after *timeout* seconds.

        It listens, which costs nothing; behind a pooler, where nobody is heard, it asks a few times a second.
        """
        self._check_open()
        if self._notices is not None:
            await self._notices.wait(timeout)
        else:
            await self._polling.wait(timeout)

    # --- keeping house

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        """What ended before that time."""
        self._check_open()
        return await self._reader.ended(before, limit)

    async def purge(self, keys: Collection[int]) -> int:
        """Delete what has ended."""
        self._check_open()
        return await self._reader.purge(keys)

    # --- reading

    async def row(self, id: str) -> ProcessRow | None:
        """The process with this id."""
        self._check_open()
        return await self._reader.row(id)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        """Those of *ids* that exist; who asks goes on asking, and wants to hear of changes."""
        self._check_open()
        if self._notices is not None:
            self._notices.looked()
        return list((await self._reader.rows_by_id(ids)).values())

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        """Records with ``seq > after``."""
        self._check_open()
        return await self._reader.journal(key, after)

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        """The inbox in order."""
        self._check_open()
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
        self._check_open()
        return await self._reader.rows(status, definition, limit, before)

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        """How many processes there are."""
        self._check_open()
        return await self._reader.count(status, definition)

    # --- inside

    async def _announce(self) -> None:
        if self._notices is not None:
            await self._notices.announce()

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageError("This storage object is not open", fix="await storage.open() first")


async def _refused(error: StorageError) -> BatchResult:
    raise error  # where it is awaited, as by any ``async def``
