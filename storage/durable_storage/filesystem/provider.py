"""
`FilesystemStorage`: the `JournalStorage` protocol on a directory. Composition only; what is done stands elsewhere.

Everything is one job on the writer's thread: a batch is one hop, one write and one fsync for all its processes.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Claim, InboxItem, ProcessRow, Status
from durable_storage.filesystem import address, claims
from durable_storage.filesystem.checkpoint import Checkpointer
from durable_storage.filesystem.commit import apply
from durable_storage.filesystem.failures import translated
from durable_storage.filesystem.layout import Layout
from durable_storage.filesystem.sessions import DEAD, ENDED_CLEANLY, Session, this_holder
from durable_storage.filesystem.state import State
from durable_storage.filesystem.store import Store
from durable_storage.filesystem.transaction import Changes
from durable_storage.local.announcements import concerns_others
from durable_storage.local.boot import boot_clock, this_boot
from durable_storage.local.locks import SessionFiles, StoreLock, check_not_forked
from durable_storage.local.writer import Writer

_T = TypeVar("_T")


class FilesystemStorage:
    """
    A store in a directory, one readable journal file a process, to be shared by the OS processes of one machine.

    Args:
        url: ``file:///absolute/directory`` or ``file:relative/directory``.
        lease_clock: Seconds on the clock that leases run on; a test may move it by hand.

    Durability: A commit is on the disk when it returns: in the commit log, from which it moves to the journal files
    later. They are complete when the last host has closed the store.
    Raises:
        StorageError: The URL is not one of these.
    """

    def __init__(self, url: str, *, lease_clock: Callable[[], float] = boot_clock) -> None:
        self._layout = Layout(address.parse(url))
        self._lease_clock = lease_clock
        self._boot = this_boot()
        self._files = SessionFiles(self._layout.sessions)
        self._store: Store | None = None
        self._checkpointer: Checkpointer | None = None
        self._writer: Writer | None = None
        self._process = 0

    async def open(self) -> None:
        """Open the directory, made if missing; see `StorageError` and its kinds for what may be wrong."""
        directory = self._layout.directory
        if self._store is not None:
            raise StorageError("This storage object is open already", path=directory)
        with translated(directory):
            if not StoreLock.is_shared(self._layout.lock):
                self._layout.check()
            store = Store(self._layout)
        checkpointer = Checkpointer(store)
        writer = Writer(f"durable writer of {directory}", checkpointer.start_if_due)
        try:
            await writer.run(store.open)
        except BaseException:
            closed = writer.run(lambda: checkpointer.close_store(last=False))
            writer.stop()
            await closed
            raise
        self._store, self._checkpointer, self._writer, self._process = store, checkpointer, writer, os.getpid()

    async def close(self) -> None:
        """Let go of the directory. Sessions begun here count as gone from now on, as after a ``kill -9``."""
        if self._checkpointer is None:
            return
        store, writer = self._usable()
        checkpointer = self._checkpointer
        self._store = self._checkpointer = self._writer = None

        def leave() -> None:
            last = False
            try:
                with store.lock:
                    self._files.let_go()
                    last = all(self._files.is_gone(session.number) for session in store.state.sessions.living())
            finally:
                checkpointer.close_store(last=last)

        try:
            await writer.run(leave)
        finally:
            writer.stop()

    # --- sessions

    async def begin_session(self, host: str, lease: float) -> int:
        """Register a session and lock its file."""
        store, writer = self._usable()
        lease_until = self._lease_time(lease)

        def begin(changes: Changes) -> int:
            number = changes.stamp()
            session = Session(number, host, this_holder(), lease_until, self._boot)
            changes.begin_session(session)
            return number

        def hold(session: int) -> None:
            self._files.sweep({living.number for living in store.state.sessions.living()})
            self._files.hold(session, this_holder() + "\n")

        return await writer.run(lambda: store.write(begin, announced=False, afterwards=hold))

    async def renew(self, session: int, lease: float) -> bool:
        """Prolong the lease of a living session."""
        lease_until = self._lease_time(lease)

        def renew(changes: Changes) -> bool:
            alive = changes.state.sessions.is_alive(session)
            if alive:
                changes.change_session(number=session, lease_until=lease_until)
            return alive

        return await self._write(renew, durably=False, announced=False)

    async def end_session(self, session: int) -> None:
        """End a session cleanly and delete its file."""

        def end(changes: Changes) -> list[int]:
            if changes.state.sessions.is_alive(session):
                changes.change_session(number=session, state=ENDED_CLEANLY)
            return [session]

        await self._write(end, afterwards=self._remove_files)

    async def bury(self) -> int:
        """Declare dead every session whose lease has run out or whose OS process is gone."""
        now = self._lease_time()

        def bury(changes: Changes) -> list[int]:
            gone = [session.number for session in changes.state.sessions.living() if self._is_gone(session, now)]
            for session in gone:
                changes.change_session(number=session, state=DEAD)
            return gone

        gone = await self._write(bury, afterwards=self._remove_files)
        return len(gone)

    async def last_batch(self, session: int) -> int:
        """Number of the last batch of *session*."""
        known = await self._read(lambda state: state.sessions.get(session))
        if known is None:
            raise StorageError(f"No session {session} is known to this store", path=self._layout.directory)
        return known.last_batch

    def _is_gone(self, session: Session, now: int) -> bool:
        return session.boot != self._boot or session.lease_until <= now or self._files.is_gone(session.number)

    def _remove_files(self, sessions: list[int]) -> None:
        for session in sessions:
            self._files.remove(session)

    # --- writing, claiming, waking

    def commit(self, batch: Batch) -> Awaitable[BatchResult]:
        """Apply *batch* in one frame of the log; it is on the disk when the answer was awaited."""
        try:
            store, writer = self._usable()
        except StorageError as error:
            return _refused(error)
        announced = concerns_others(batch)
        return writer.run(lambda: store.write(lambda changes: apply(changes, batch), announced=announced))

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        """Take what is due or orphaned."""
        store, _ = self._usable()
        return await self._write(
            lambda changes: claims.claim(changes, store.journals, session, queues, limit, now),
            durably=False,
            announced=False,
        )

    async def collect(self, session: int) -> Sequence[InboxItem]:
        """Inbox items of flagged processes."""
        store, _ = self._usable()
        return await self._write(
            lambda changes: claims.collect(changes, store.journals, session), durably=False, announced=False
        )

    async def next_wake(self, queues: Collection[str]) -> int | None:
        """When there is something to claim."""
        return await self._read(lambda state: state.next_wake(queues))

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make stalled processes claimable."""
        return await self._write(lambda changes: claims.resume_stalled(changes, queues, now))

    async def wait_for_change(self, timeout: float) -> None:
        """Return when another storage object has written since the last call, or after *timeout* seconds."""
        store, _ = self._usable()
        await store.announcements.wait(timeout, lambda: store is self._store)

    # --- keeping house

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        """What ended before that time."""
        return await self._read(lambda state: state.ended(before, limit))

    async def purge(self, keys: Collection[int]) -> int:
        """Delete what has ended."""
        return await self._write(lambda changes: claims.purge(changes, keys))

    # --- reading

    async def row(self, id: str) -> ProcessRow | None:
        """The process with this id."""
        return await self._read(lambda state: state.entries[state.keys[id]].row() if id in state.keys else None)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        """Those of *ids* that exist."""
        return await self._read(lambda state: state.rows_by_id(ids))

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        """Records with ``seq > after``."""
        store, _ = self._usable()
        return await self._read(
            lambda state: store.journals.read(state.entries[key], after)[0] if key in state.entries else [],
            of_files=True,
        )

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        """The inbox in order."""
        store, _ = self._usable()
        return await self._read(
            lambda state: store.journals.inbox(state.entries[key]) if key in state.entries else [], of_files=True
        )

    async def rows(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[ProcessRow]:
        """A page of a listing, newest key first."""
        return await self._read(lambda state: state.rows(status, definition, limit, before))

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        """How many processes there are."""
        return await self._read(lambda state: state.count(status, definition))

    # --- inside

    async def _write(
        self,
        function: Callable[[Changes], _T],
        *,
        durably: bool = True,
        announced: bool = True,
        afterwards: Callable[[_T], None] | None = None,
    ) -> _T:
        store, writer = self._usable()
        return await writer.run(
            lambda: store.write(function, durably=durably, announced=announced, afterwards=afterwards)
        )

    async def _read(self, function: Callable[[State], _T], *, of_files: bool = False) -> _T:
        store, writer = self._usable()
        return await writer.run(lambda: store.read(function, of_files=of_files))

    def _lease_time(self, ahead: float = 0.0) -> int:
        return round((self._lease_clock() + ahead) * 1e6)

    def _usable(self) -> tuple[Store, Writer]:
        if self._store is None or self._writer is None:
            raise StorageError("This storage object is not open", fix="await storage.open() first")
        check_not_forked(self._process, self._layout.directory)
        return self._store, self._writer


async def _refused(error: StorageError) -> BatchResult:
    raise error  # where it is awaited, as by any ``async def``
