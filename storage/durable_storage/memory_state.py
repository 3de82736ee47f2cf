"""
What a memory store holds and how a batch changes it; plain synchronous code without clock, lock or event loop.

This is the readable statement of what every provider does. A batch is checked completely before its first change, so
that it applies as a whole or not at all. `memory` puts the async protocol around it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from durable.errors import NotOwned, SessionLost, StorageError
from durable.journal import Record
from durable.storage import (
    ENDED,
    Batch,
    BatchResult,
    Claim,
    Creation,
    Delivery,
    End,
    InboxItem,
    Mail,
    MailKind,
    Park,
    ProcessRow,
    Stall,
    Status,
)
from durable_storage.checks import check_children, check_journals, check_shape, keys_to_own, storable

# Sessions that died long ago answer `last_batch` for a while, then go.
_KEEP = 1000
WAKES_STALLED = frozenset({MailKind.CANCEL, MailKind.TERMINATE, MailKind.RESUME})


@dataclass(slots=True)
class Session:
    """One life of one host. ``holder`` is the storage object that began it, None once that object was closed."""

    host: str
    lease_until: float
    holder: object | None
    state: str = "alive"
    last_batch: int = 0


@dataclass(slots=True)
class State:
    """Processes by key with their journals and inboxes, and the sessions; indexes for what is asked again and again."""

    processes: dict[int, ProcessRow] = field(default_factory=dict)
    journals: dict[int, list[Record]] = field(default_factory=dict)
    inboxes: dict[int, dict[int, InboxItem]] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    items: dict[int, int] = field(default_factory=dict)  # inbox item -> key
    mails: int = 0
    _waking: dict[int, int] = field(default_factory=dict)  # key -> wake_at of running processes nobody owns
    _owned: dict[int, set[int]] = field(default_factory=dict)  # session -> keys
    _flagged: dict[int, set[int]] = field(default_factory=dict)  # session -> keys it owns with a wake_at

    # --- sessions

    def begin(self, session: Session) -> int:
        """Add a living session, forget very old ones that own nothing; its number."""
        newest = max(self.sessions, default=0) + 1
        self.sessions[newest] = session
        for number in list(self.sessions)[: max(0, len(self.sessions) - _KEEP)]:
            if not self.alive(number) and not self._owned.get(number):
                del self.sessions[number]
                self._owned.pop(number, None)
                self._flagged.pop(number, None)
        return newest

    def alive(self, session: int) -> bool:
        """Whether *session* may write."""
        return session in self.sessions and self.sessions[session].state == "alive"

    def fence(self, session: int) -> Session:
        """Return *session*, or raise `SessionLost`."""
        if not self.alive(session):
            raise SessionLost(f"Session {session} was declared dead or has ended; it writes nothing any more")
        return self.sessions[session]

    # --- writing

    def commit(self, batch: Batch) -> BatchResult:
        """Apply *batch*, or raise with nothing changed."""
        session = None if batch.session is None else self.fence(batch.session)
        check_shape(batch)
        accepted, refused = self._sort_creations([*batch.creations, *batch.children])
        children = {id(child) for child in batch.children}
        check_children(creation.id for creation in refused if id(creation) in children)
        self._check_ownership(batch, accepted)
        if session is not None:
            session.last_batch = batch.number
        for creation in accepted:
            self._create(creation, batch.session)
        taken_ids = {creation.id: self.processes[self.keys[creation.id]] for creation in refused}
        for key, record in batch.records:
            self.journals[key].append(record)
        for number in batch.taken:
            del self.inboxes[self.items.pop(number)][number]
        deliveries = [self._deliver(mail) for mail in batch.mails]
        for key, progress in batch.progress.items():
            self._change(key, progress=progress)
        for restart in batch.restarts:
            self.journals[restart.key] = list(restart.records)
            self._change(restart.key, definition=restart.definition, queue=restart.queue, progress=None)
        held = self._release(batch)
        for notice in batch.notices:
            if notice.key not in held:
                self._deliver(notice.mail)
        return BatchResult(taken_ids, deliveries, held)

    def _sort_creations(self, creations: Collection[Creation]) -> tuple[list[Creation], list[Creation]]:
        """Split into those that are new and those whose id is taken, by an older process or earlier in the batch."""
        accepted: dict[str, Creation] = {}
        refused: list[Creation] = []
        for creation in creations:
            if creation.id in self.keys or creation.id in accepted:
                refused.append(creation)
            else:
                accepted[creation.id] = creation
        keys = [creation.key for creation in accepted.values()]
        if len(set(keys)) < len(keys) or not self.processes.keys().isdisjoint(keys):
            raise StorageError("The key of a new process is taken; nothing of the batch was written")
        return list(accepted.values()), refused

    def _check_ownership(self, batch: Batch, accepted: Collection[Creation]) -> None:
        if batch.session is None:
            return
        owned = self._owned.get(batch.session, set())
        lengths = {key: len(self.journals[key]) for key in keys_to_own(batch) & owned}
        lengths.update({creation.key: 1 for creation in accepted if creation.owned})
        check_journals(batch, lengths)
        if len({number for number in batch.taken if self.items.get(number) in owned}) < len(batch.taken):
            raise NotOwned(f"An inbox item is gone, or not of session {batch.session}", taken=batch.taken)

    def _create(self, creation: Creation, session: int | None) -> None:
        key = creation.key
        self.keys[creation.id] = key
        self.journals[key] = [creation.record]
        self.inboxes[key] = {}
        self.processes[key] = ProcessRow(
            key=key,
            id=creation.id,
            definition=creation.definition,
            queue=creation.queue,
            status=Status.RUNNING,
            owner=session if creation.owned else None,
            wake_at=creation.wake_at,
            mail=0,
            created_at=creation.record.time if creation.created_at is None else creation.created_at,
            ended_at=None,
            reason=None,
            progress=None,
        )
        self._change(key)

    def _deliver(self, mail: Mail) -> Delivery:
        key = self.keys.get(mail.id)
        if key is None:
            return Delivery.NOT_FOUND
        row = self.processes[key]
        if row.status in ENDED:
            return Delivery.ENDED
        self.mails += 1
        self.items[self.mails] = key
        self.inboxes[key][self.mails] = InboxItem(self.mails, key, *mail[1:])
        if row.status is Status.RUNNING:
            wake_at = mail.time if row.wake_at is None else min(row.wake_at, mail.time)
            self._change(key, mail=row.mail + 1, wake_at=wake_at)
        elif mail.kind in WAKES_STALLED:
            self._change(key, mail=row.mail + 1, status=Status.RUNNING, reason=None, wake_at=mail.time)
        else:
            self._change(key, mail=row.mail + 1)
        return Delivery.DELIVERED

    def _release(self, batch: Batch) -> set[int]:
        """Park, stall and end what had no mail meanwhile; return the keys of the others."""
        releases: list[Park | Stall | End] = [*batch.parks, *batch.stalls, *batch.ends]
        held = {release.key for release in releases if self.processes[release.key].mail != release.mail}
        for park in batch.parks:
            if park.key not in held:
                self._change(park.key, owner=None, wake_at=park.wake_at)
        for stall in batch.stalls:
            if stall.key not in held:
                reason = storable(stall.reason)
                self._change(stall.key, owner=None, wake_at=None, status=Status.STALLED, reason=reason)
        for end in batch.ends:
            if end.key not in held:
                self.journals[end.key].append(end.record)
                for number in self.inboxes[end.key]:
                    del self.items[number]
                self.inboxes[end.key].clear()
                self._change(end.key, status=end.status, owner=None, wake_at=None)
                self._change(end.key, reason=storable(end.reason), ended_at=end.record.time)
        return held

    def _change(self, key: int, **columns: Any) -> None:
        """Set columns of a process and keep the indexes true."""
        old = self.processes[key]
        self._owned.get(old.owner or 0, set()).discard(key)
        self._flagged.get(old.owner or 0, set()).discard(key)
        self._waking.pop(key, None)
        row = self.processes[key] = old._replace(**columns)
        if row.owner is not None:
            self._owned.setdefault(row.owner, set()).add(key)
            if row.wake_at is not None:
                self._flagged.setdefault(row.owner, set()).add(key)
        elif row.wake_at is not None and row.status is Status.RUNNING:
            self._waking[key] = row.wake_at

    # --- keeping house

    def purge(self, keys: Collection[int]) -> int:
        """Delete those of *keys* that have ended, with all that belongs to them; return how many."""
        ended = [key for key in set(keys) if key in self.processes and self.processes[key].status in ENDED]
        for key in ended:
            del self.keys[self.processes.pop(key).id], self.journals[key]
            for number in self.inboxes.pop(key):
                del self.items[number]
        return len(ended)

    # --- claiming and waking

    def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> list[Claim]:
        """Give what is due or orphaned to *session*; orphans without a wake_at first, then by wake_at and key."""
        self.fence(session)
        wanted = [(wake_at, key) for key, wake_at in self._waking.items() if wake_at <= now]
        wanted += [(self.processes[key].wake_at or 0, key) for key in self._orphans()]
        chosen = [key for _, key in sorted(wanted) if self.processes[key].queue in queues][:limit]
        for key in chosen:
            self._change(key, owner=session, wake_at=None)
        return [self._claimed(key) for key in chosen]

    def _claimed(self, key: int) -> Claim:
        return Claim(self.processes[key], list(self.journals[key]), list(self.inboxes[key].values()))

    def collect(self, session: int) -> list[InboxItem]:
        """Inbox items of the flagged processes of *session*, whose flags are cleared."""
        keys = list(self._flagged.get(session, ()))
        for key in keys:
            self._change(key, wake_at=None)
        return sorted(item for key in keys for item in self.inboxes[key].values())

    def next_wake(self, queues: Collection[str]) -> int | None:
        """When `claim` will next find something: 0 if a process is orphaned."""
        if any(self.processes[key].queue in queues for key in self._orphans()):
            return 0
        return min((wake for key, wake in self._waking.items() if self.processes[key].queue in queues), default=None)

    def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make stalled processes due."""
        stalled = [row for row in self.processes.values() if row.status is Status.STALLED and row.queue in queues]
        for row in stalled:
            self._change(row.key, status=Status.RUNNING, reason=None, wake_at=now)
        return len(stalled)

    def _orphans(self) -> list[int]:
        """Keys of processes whose session is dead or has ended."""
        return [key for session, keys in self._owned.items() if keys and not self.alive(session) for key in keys]
