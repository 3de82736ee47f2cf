"""The protocol itself: what a provider implements, method by method."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from durable.journal import Record
from durable.storage.batch import Batch, BatchResult
from durable.storage.kept import InboxItem, ProcessRow, Status


class Claim(NamedTuple):
    """A process this session now owns: its row (as it is after the claim), its whole journal, its inbox in order."""

    row: ProcessRow
    records: Sequence[Record]
    inbox: Sequence[InboxItem]


@runtime_checkable
class JournalStorage(Protocol):
    """
    A store of journals. One object serves one host or client on one event loop; many may share what is behind the URL.

    Raises (everywhere): `StorageError` and its kinds when the store fails; a failed `commit` has written nothing, or
    `last_batch` of its session tells that it has.
    """

    async def open(self) -> None:
        """Create what is missing, migrate what is older, refuse what is newer or not ours; many may open at once."""

    async def close(self) -> None:
        """Let go of every connection, thread and lock. Sessions are not ended by this."""

    # sessions

    async def begin_session(self, host: str, lease: float) -> int:
        """Register a session, alive for *lease* seconds; *host* names it for people. Returns its id, never reused."""

    async def renew(self, session: int, lease: float) -> bool:
        """Keep *session* alive for *lease* seconds from now; False if it is dead or ended (it never comes back)."""

    async def end_session(self, session: int) -> None:
        """End *session* cleanly: what it still owns may be claimed at once."""

    async def bury(self) -> int:
        """
        Declare dead each session whose lease has run out or whose OS process is known to be gone; says how many.

        One that is writing at this very moment may be left for the next time.
        """

    async def last_batch(self, session: int) -> int:
        """Number of the last batch of *session* that was applied, 0 if none."""

    # writing

    def commit(self, batch: Batch) -> Awaitable[BatchResult]:
        """
        Apply *batch* atomically; durable when what it returns has been awaited.

        An ``async def`` as the rest. It is the hot path, so a provider whose work is done elsewhere may also return an
        `asyncio.Future` of it, which saves a task for each batch, or an `Answer`, which saves a turn of the loop, too.

        Raises:
            SessionLost: The batch's session is not alive; nothing was written, and nothing of it ever will be.
            NotOwned: The session does not own a process it writes to, or an item it takes; nothing was written.
            CorruptJournal: A record does not follow the last one of its journal; nothing was written.
            ProcessExists: The id of one of its ``children`` is taken; nothing was written.
        """

    # claiming and waking

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        """
        Take up to *limit* running processes of *queues* that nobody alive owns and that want to run: due
        (``wake_at <= now``), or owned by a session that is dead or ended. Their ``wake_at`` is cleared. Earliest first.
        """

    async def collect(self, session: int) -> Sequence[InboxItem]:
        """Inbox items, in order, of the processes *session* owns that were flagged by mail; clears the flags only."""

    async def next_wake(self, queues: Collection[str]) -> int | None:
        """
        The earliest ``wake_at`` of a process in *queues* that nobody owns, or None. While one is owned by a session
        that is dead or ended the answer is 0, so that nobody sleeps over what `claim` would give.
        """

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make every stalled process of *queues* claimable now (a new deploy may have fixed it); returns how many."""

    async def wait_for_change(self, timeout: float) -> None:
        """
        Return when somebody else may have written, or after *timeout* seconds. A hint: spurious and missed ones are
        allowed, but cost should be near nothing while nothing happens.
        """

    # keeping house

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        """Up to *limit* ended processes with ``ended_at < before``, those that ended first come first."""

    async def purge(self, keys: Collection[int]) -> int:
        """
        Delete for good those of *keys* that have ended: row, journal, inbox; returns how many.

        Their ids may be used again.
        """

    # reading

    async def row(self, id: str) -> ProcessRow | None:
        """The process with this id, or None."""

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        """
        The rows of those of *ids* that exist, each once, in any order; there may be any number of ids.

        Who waits for processes of other hosts asks this, for all of them at once and several times a second.
        """

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        """The records of one process with ``seq > after``, in order."""

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        """What is in the inbox of one process, in order."""

    async def rows(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[ProcessRow]:
        """Processes by key, newest first, those with ``key < before`` only: pages of a listing."""

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        """How many processes there are."""


@runtime_checkable
class HasSchema(Protocol):
    """A store in a database whose administrator may want to make and migrate the tables."""

    def ddl(self, since: int = 0) -> str:
        """The SQL that brings the store from version *since* (0: nothing yet) to the newest one."""
        ...
