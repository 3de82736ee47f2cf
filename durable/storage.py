"""
What a store of journals must do: the `JournalStorage` protocol, and the batch through which everything is written.

A store knows processes, records, an inbox and sessions; it never looks into a payload. Whatever a host wants written
goes through `commit`, one atomic batch for all its processes, fenced by its session: a session that was declared dead
writes nothing any more. Everything else reads, claims, or keeps sessions alive.

Two clocks, never mixed: ``now`` arguments and ``wake_at`` are the host's (a test can set it), microseconds since 1970
UTC; leases run on the store's own clock. Providers are found by URL scheme: ours in the table below, others by the
entry point group ``durable.storage``, each a callable ``(url: str) -> JournalStorage``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from importlib import import_module
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from durable.errors import UnknownScheme
from durable.journal import Record

_T = TypeVar("_T")

# --- what a store keeps ----------------------------------------------------------------------------------


class Status(StrEnum):
    """How a process stands. ``RUNNING`` covers waiting to be claimed, resident and parked."""

    RUNNING = "running"
    STALLED = "stalled"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED})


class ProcessRow(NamedTuple):
    """
    What a store keeps of a process beside its journal.

    ``key`` is a 63-bit integer chosen by whoever creates the process (`Creation`), unique in the store, and what
    every write refers to. ``owner`` is the session that holds it, None when parked, pending, stalled or ended.
    ``wake_at``: when a process nobody owns wants to be claimed (None: only mail wakes it); on an owned one, set by
    mail so that its owner comes and looks. ``mail`` counts every mail ever sent to it. ``reason`` says why it is
    stalled, cancelled or terminated. ``progress`` is the last progress report, opaque to the store.
    """

    key: int
    id: str
    definition: str
    queue: str
    status: Status
    owner: int | None
    wake_at: int | None
    mail: int
    created_at: int
    ended_at: int | None
    reason: str | None
    progress: bytes | None


class MailKind(IntEnum):
    """What can be sent to a process from outside. RESUME, CANCEL and TERMINATE also wake a stalled process."""

    EVENT = 1
    CANCEL = 2
    TERMINATE = 3
    RESUME = 4
    RETURN = 5  # a child has ended; name: the checkpoint that started it; payload: how


class Mail(NamedTuple):
    """A message for a process whose id (not key) the sender knows. ``name`` and ``event_key`` belong to events."""

    id: str
    kind: MailKind
    name: str
    event_key: str | None
    payload: bytes
    time: int


class InboxItem(NamedTuple):
    """A mail in the inbox of process ``key``; ``number`` grows in the order of commitment and is never reused."""

    number: int
    key: int
    kind: MailKind
    name: str
    event_key: str | None
    payload: bytes
    time: int


# --- one atomic batch ----------------------------------------------------------------------------------------


class Creation(NamedTuple):
    """A new process with its first record. ``owned``: by the batch's session; else pending, to be claimed by anyone."""

    key: int
    id: str
    definition: str
    queue: str
    owned: bool
    wake_at: int | None
    record: Record


class Park(NamedTuple):
    """Let go of a process until ``wake_at`` or mail. Holds only if its ``mail`` counter still is what is given here."""

    key: int
    wake_at: int | None
    mail: int


class Stall(NamedTuple):
    """Let go of a process that cannot go on. Holds like `Park`, so that a RESUME sent meanwhile is not lost."""

    key: int
    reason: str
    mail: int


class End(NamedTuple):
    """
    Append the last ``record`` and end the process. Holds only if its ``mail`` counter still is ``mail``.

    With it goes whatever is left in its inbox: a request to terminate stays there until it has been carried out.
    """

    key: int
    status: Status
    reason: str | None
    record: Record
    mail: int


class Notice(NamedTuple):
    """Send ``mail`` if the end of process ``key`` in the same batch holds, and do not if it does not."""

    key: int
    mail: Mail


class Restart(NamedTuple):
    """
    Put another journal in place of the journal of a process: its next life begins, under the same key and id.

    The session must own the process, and goes on owning it. All records it had are deleted; ``records`` are its journal
    from now on: STARTED as number 1, then the events that nobody has taken yet, without gaps. ``definition`` and
    ``queue`` of its row become those given, and its progress is None. Everything else of the row stays: ``created_at``,
    ``owner``, ``mail``, ``wake_at`` (so mail that has not been collected still is to be). So does its inbox.

    There is no condition, and so it is never ``held``: mail that came meanwhile belongs to the next life. A batch with
    a restart of a process has no release and no other restart of it; records, taken items and progress of it in the
    same batch are applied before. A journal of the next life may be shorter than one that was read before.
    """

    key: int
    definition: str
    queue: str
    records: Sequence[Record]


@dataclass(slots=True)
class Batch:
    """
    Everything one commit writes, applied in the order of the fields, all or nothing.

    ``session`` None is a client's batch: it may only create (not owned) and send mails. ``number`` counts the batches
    of a session from 1 and is kept on the session's row, so that after a lost answer `last_batch` tells whether the
    batch was applied.

    ``children`` are created like ``creations``, but a record of the batch says so: if one of their ids is taken (by an
    older process, a creation or another child of the batch), nothing of the batch is written, and `commit` raises
    `ProcessExists` with the fact ``taken``, a list of all these ids. Unlike creations they are never in ``taken_ids``.
    ``notices`` of one batch are delivered in their order after all ends, as mails are: to a process that has ended in
    the same batch comes none, one that was parked in it is woken. Nobody is told what became of them.
    """

    session: int | None
    number: int = 0
    creations: list[Creation] = field(default_factory=list)
    children: list[Creation] = field(default_factory=list)
    records: list[tuple[int, Record]] = field(default_factory=list)  # (process key, record), in journal order
    taken: list[int] = field(default_factory=list)  # inbox items moved into journals: deleted
    mails: list[Mail] = field(default_factory=list)
    progress: dict[int, bytes] = field(default_factory=dict)
    restarts: list[Restart] = field(default_factory=list)
    parks: list[Park] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


class Delivery(StrEnum):
    """What became of one mail."""

    DELIVERED = "delivered"
    NOT_FOUND = "not found"
    ENDED = "ended"


@dataclass(slots=True)
class BatchResult:
    """
    Answers that are not errors.

    ``taken_ids``: ids of creations that were refused because the id exists (nothing of that creation was written), each
    with the row that has it. ``deliveries``: one per mail, in order. ``held``: keys of parks, stalls and ends that did
    not hold because mail had arrived; nothing of them was written, the process is still owned by this session.
    """

    taken_ids: Mapping[str, ProcessRow] = field(default_factory=dict)
    deliveries: Sequence[Delivery] = ()
    held: Collection[int] = ()


class Claim(NamedTuple):
    """A process this session now owns: its row (as it is after the claim), its whole journal, its inbox in order."""

    row: ProcessRow
    records: Sequence[Record]
    inbox: Sequence[InboxItem]


class Answer(asyncio.Future[_T]):
    """
    A future whose `listener` hears of the outcome in the very turn of the loop in which it arrives.

    The callbacks of a plain future come a turn later, and each turn costs a look at the selector.
    """

    listener: Callable[[Answer[_T]], object] | None = None

    def settle(self, outcome: _T | None, error: BaseException | None) -> None:
        """Take the outcome, or the error, unless the answer is no longer wanted; call on the loop's own thread."""
        if self.done():
            return
        if error is None:
            self.set_result(outcome)  # type: ignore[arg-type]  # None is the outcome of who returns None
        else:
            self.set_exception(error)
        # Whoever settled it may hold the answer for a while; not what the listener holds.
        listener, self.listener = self.listener, None
        if listener is not None:
            listener(self)


# --- the protocol --------------------------------------------------------------------------------------------


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
        """Declare dead each session whose lease has run out or whose OS process is known to be gone; says how many."""

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


# --- providers -----------------------------------------------------------------------------------------------

_BUILT_IN = {
    "file": "durable_storage.filesystem.provider:FilesystemStorage",
    "memory": "durable_storage.memory:MemoryStorage",
    "postgres": "durable_storage.postgres.provider:PostgresStorage",
    "postgresql": "durable_storage.postgres.provider:PostgresStorage",
    "sqlite": "durable_storage.sqlite.provider:SqliteStorage",
}


def open_storage(url: str) -> JournalStorage:
    """
    Make the store behind *url* (``sqlite:///file.db``, ``memory://``, …); it still has to be `open`\\ ed.

    Raises:
        UnknownScheme: No provider is built in or installed for the scheme.
    """
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if target := _BUILT_IN.get(scheme):
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)(url)  # type: ignore[no-any-return]
    for entry in entry_points(group="durable.storage", name=scheme):
        return entry.load()(url)  # type: ignore[no-any-return]
    raise UnknownScheme(
        f"No storage provider is known for {url.partition(':')[0]!r}",
        url=url,
        known=", ".join(sorted({*_BUILT_IN, *(e.name for e in entry_points(group="durable.storage"))})),
    )
