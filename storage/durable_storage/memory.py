"""
`MemoryStorage`: journals in this OS process, for tests. What a batch does stands in `memory_state`; here are the async
protocol, leases, and who is woken by a change.

``memory://`` is a store of its own for every storage object. ``memory://name`` is one store for all objects with that
name in this OS process, kept until it exits, so that a test can close a host and open the next one on the same data.
Nothing survives the OS process, and objects of one name may live on different event loops and threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from heapq import nlargest, nsmallest
from weakref import WeakSet

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Claim, InboxItem, ProcessRow, Status
from durable_storage.memory_state import Session, State


class _Store:
    """What is behind one URL: the state, the lock around it, and who waits for a change by others."""

    def __init__(self) -> None:
        self.state = State()
        self.lock = threading.Lock()
        self.members: WeakSet[MemoryStorage] = WeakSet()


_shared: dict[str, _Store] = {}


class MemoryStorage:
    """
    A store that lives in memory; it keeps the contract of every other provider, fencing included.

    Args:
        url: ``memory://`` (private) or ``memory://name`` (shared by name within this OS process).
        lease_clock: Seconds of the clock leases run on; a test may move it by hand.
    """

    def __init__(self, url: str = "memory://", *, lease_clock: Callable[[], float] = time.monotonic) -> None:
        scheme, separator, name = url.partition("://")
        if scheme != "memory" or not separator or "?" in name:
            raise StorageError(f"Not the URL of a memory store: {url!r}", fix="write memory:// or memory://name")
        self._store = _shared.setdefault(name, _Store()) if name else _Store()
        self._lease_clock = lease_clock
        self._store.members.add(self)
        self._open = False
        self._changed = False
        self._waiting: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Nothing to create; marks the object as usable."""
        if self._open:
            raise StorageError("This storage object is open already")
        self._open = True

    async def close(self) -> None:
        """Let go of the store. Sessions begun here count as gone from now on, as after a ``kill -9``."""
        self._open = False
        with self._store.lock:
            for session in self._store.state.sessions.values():
                if session.holder is self:
                    session.holder = None

    # --- sessions

    async def begin_session(self, host: str, lease: float) -> int:
        """Register a session that is alive for *lease* seconds."""
        with self._store.lock:
            return self._usable().begin(Session(host, self._lease_clock() + lease, self))

    async def renew(self, session: int, lease: float) -> bool:
        """Prolong the lease; False if the session is dead or has ended."""
        with self._store.lock:
            state = self._usable()
            if not state.alive(session):
                return False
            state.sessions[session].lease_until = self._lease_clock() + lease
            return True

    async def end_session(self, session: int) -> None:
        """End a session cleanly."""
        with self._store.lock:
            state = self._usable()
            if state.alive(session):
                state.sessions[session].state = "ended"
        self._announce()

    async def bury(self) -> int:
        """Declare dead the sessions whose lease has run out or whose storage object was closed."""
        with self._store.lock:
            now = self._lease_clock()
            alive = [session for session in self._usable().sessions.values() if session.state == "alive"]
            gone = [session for session in alive if session.lease_until <= now or session.holder is None]
            for session in gone:
                session.state = "dead"
        if gone:
            self._announce()
        return len(gone)

    async def last_batch(self, session: int) -> int:
        """Number of the last batch of *session*."""
        with self._store.lock:
            sessions = self._usable().sessions
            if session not in sessions:
                raise StorageError(f"No session {session} is known to this store")
            return sessions[session].last_batch

    # --- writing, claiming, waking

    async def commit(self, batch: Batch) -> BatchResult:
        """Apply *batch* completely or not at all."""
        with self._store.lock:
            result = self._usable().commit(batch)
        self._announce()
        return result

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        """Take what is due or orphaned."""
        with self._store.lock:
            return self._usable().claim(session, queues, limit, now)

    async def collect(self, session: int) -> Sequence[InboxItem]:
        """Inbox items of flagged processes."""
        with self._store.lock:
            return self._usable().collect(session)

    async def next_wake(self, queues: Collection[str]) -> int | None:
        """When there is something to claim."""
        with self._store.lock:
            return self._usable().next_wake(queues)

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make stalled processes claimable."""
        with self._store.lock:
            resumed = self._usable().resume_stalled(queues, now)
        if resumed:
            self._announce()
        return resumed

    async def wait_for_change(self, timeout: float) -> None:
        """Return when another storage object of this store has written since the last call, or after *timeout*."""
        with self._store.lock:
            self._waiting = None if self._changed else asyncio.get_running_loop().create_future()
        if self._waiting is not None:
            await asyncio.wait({self._waiting}, timeout=timeout)
        with self._store.lock:
            self._waiting = None
            self._changed = False

    def _announce(self) -> None:
        """Tell the other storage objects of this store that something changed, on whatever loop they wait."""
        with self._store.lock:
            for member in self._store.members:
                if member is not self:
                    member._wake()

    def _wake(self) -> None:
        self._changed = True
        waiting = self._waiting
        if waiting is not None:
            with suppress(RuntimeError):  # its loop is closed: nobody waits any more
                waiting.get_loop().call_soon_threadsafe(_finish, waiting)

    # --- keeping house

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        """What ended before that time."""
        with self._store.lock:
            rows = self._usable().processes.values()
            old = [(row.ended_at, row.key, row) for row in rows if row.ended_at is not None and row.ended_at < before]
        return [row for _, _, row in nsmallest(limit, old)]

    async def purge(self, keys: Collection[int]) -> int:
        """Delete what has ended."""
        with self._store.lock:
            return self._usable().purge(keys)

    # --- reading

    async def row(self, id: str) -> ProcessRow | None:
        """The process with this id."""
        with self._store.lock:
            state = self._usable()
            return state.processes[state.keys[id]] if id in state.keys else None

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        """Those of *ids* that exist."""
        with self._store.lock:
            state = self._usable()
            return [state.processes[state.keys[id]] for id in set(ids) if id in state.keys]

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        """Records with ``seq > after``."""
        with self._store.lock:
            return self._usable().journals.get(key, [])[after:]

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        """The inbox in order."""
        with self._store.lock:
            return list(self._usable().inboxes.get(key, {}).values())

    async def rows(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[ProcessRow]:
        """A page of a listing, newest key first."""
        with self._store.lock:
            chosen = self._select(status, definition)
            return nlargest(limit, (row for row in chosen if before is None or row.key < before))

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        """How many processes there are."""
        with self._store.lock:
            return len(self._select(status, definition))

    def _select(self, status: Collection[Status] | None, definition: str | None) -> list[ProcessRow]:
        return [
            row
            for row in self._usable().processes.values()
            if (status is None or row.status in status) and (definition is None or row.definition == definition)
        ]

    def _usable(self) -> State:
        if not self._open:
            raise StorageError("This storage object is not open", fix="await storage.open() first")
        return self._store.state


def _finish(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
