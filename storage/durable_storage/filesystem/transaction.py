"""
`Changes`: what one transaction is about to change, as lines for the log and as entries for the state.

Entries are copied before they are changed, so nothing has to be undone when the log cannot be written; when it was,
`install` puts them into the state. Reading the log, by those who did not write it, goes the same way: `redo`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from durable.errors import CorruptJournal
from durable.journal import Record
from durable.storage import Creation, InboxItem, Mail, Restart, Status
from durable_storage.checks import stall_reason
from durable_storage.filesystem import lines
from durable_storage.filesystem.entry import RESTORE, Chunk, Entry
from durable_storage.filesystem.frames import read_frames
from durable_storage.filesystem.journals import Journals
from durable_storage.filesystem.layout import journal_name
from durable_storage.filesystem.log import Part, Transaction
from durable_storage.filesystem.sessions import Session
from durable_storage.filesystem.state import Purged, State

_logger = logging.getLogger("durable_storage.filesystem")


class Changes:
    """The changes of one transaction to *state*, which stays as it is until they are installed."""

    def __init__(self, state: State, journals: Journals) -> None:
        self.state = state
        self._journals = journals
        self.head: dict[str, Any] = {}
        self._stamp = state.stamp
        self._entries: dict[int, Entry] = {}
        self._lines: dict[int, list[bytes]] = {}
        self._created: dict[str, int] = {}
        self._purged: list[Entry] = []

    # --- looking

    def entry(self, key: int) -> Entry:
        """The process, with what this transaction has changed already."""
        return self._entries.get(key) or self.state.entries[key]

    def find(self, process_id: str) -> Entry | None:
        """The process with that id."""
        key = self._created.get(process_id, self.state.keys.get(process_id))
        return None if key is None else self.entry(key)

    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.head and not self._lines

    # --- changing

    def stamp(self) -> int:
        """
        A number greater than every one before: microseconds since 1970 where the clock allows.

        Sessions, inbox items and births are numbered by it. Since it is time, numbers of other stores are other ones,
        so that a journal file can be copied from store to store.
        """
        self._stamp = max(self._stamp + 1, time.time_ns() // 1000)
        self.head["stamp"] = self._stamp
        return self._stamp

    def begin_session(self, session: Session) -> None:
        """One more session."""
        self.change_session(**asdict(session))

    def change_session(self, **facts: Any) -> None:
        """Change facts of the session with this ``number``."""
        self.head.setdefault("sessions", []).append(facts)

    def create(self, creation: Creation, owner: int | None) -> None:
        """
        A new process with its first record.

        Raises:
            CorruptJournal: There is a file for this id already that nobody can read.
        """
        if why := self.state.unreadable.get(journal_name(creation.id)):
            raise CorruptJournal(f"The journal file of {creation.id!r} is there but damaged", damage=why)
        born = self.stamp()
        entry = Entry(creation.key, creation.id, born, creation.definition, creation.queue, owner, creation.wake_at)
        entry.created_at = creation.created_at
        self._entries[entry.key] = entry
        self._created[entry.id] = entry.key
        self._lines[entry.key] = []
        self._add(entry, lines.process_line(entry))
        self.append(entry.key, creation.record)

    def append(self, key: int, record: Record) -> None:
        """One more record."""
        entry = self._entries.get(key) or self._touch(key)
        entry.append(record.time)
        self._add(entry, lines.record_line(record))

    def receive(self, key: int, mail: Mail) -> None:
        """One more mail."""
        entry = self._touch(key)
        item = InboxItem(self.stamp(), key, *mail[1:])
        line = lines.mail_line(item)
        entry.receive(item.number, mail.kind, mail.time, (entry.length, len(line)))
        self._add(entry, line)

    def take(self, numbers: Iterable[int]) -> None:
        """Inbox items have moved into journals."""
        by_process: dict[int, list[int]] = {}
        for number in numbers:
            by_process.setdefault(self.state.items[number], []).append(number)
        for key, some in by_process.items():
            entry = self._touch(key)
            entry.take(some)
            self._add(entry, lines.line("taken", numbers=some))

    def report(self, key: int, progress: bytes) -> None:
        """A progress report."""
        entry = self._touch(key)
        entry.progress = progress
        self._add(entry, lines.progress_line(progress))

    def restart(self, restart: Restart) -> None:
        """Its next life begins, in a file of its own, so that no file grows for ever; what is in its inbox moves."""
        old = self._touch(restart.key)
        kept = self._journals.inbox_lines(self._as_written(old))
        entry = Entry(old.key, old.id, self.stamp(), restart.definition, restart.queue, old.owner, old.wake_at)
        self._entries[entry.key] = entry
        self._lines[entry.key] = []
        self._add(entry, lines.process_line(entry))
        restored = lines.line("restart", mail=old.mail, created_at=old.created_at, wake_at=old.wake_at)
        for line in (*kept, restored):
            length = len(line)
            _, _, payload = next(read_frames(line))
            entry.apply(lines.read_line(payload), length)
            self._lines[entry.key].append(line)
        for record in restart.records:
            self.append(restart.key, record)

    def _as_written(self, entry: Entry) -> Entry:
        """The entry with what this transaction has added to its file, so that it can be read."""
        added = b"".join(self._lines[entry.key])
        written = entry.clone()
        written.pending = (*entry.pending, Chunk(0, entry.length - len(added), added))
        return written

    def park(self, key: int, wake_at: int | None) -> None:
        """Its owner lets go of it."""
        entry = self._touch(key)
        entry.park(wake_at)
        self._add(entry, lines.park_line(wake_at))

    def stall(self, key: int, reason: str) -> None:
        """It cannot go on."""
        entry = self._touch(key)
        entry.stall(reason)
        self._add(entry, lines.line("stall", reason=reason))

    def end(self, key: int, status: Status, reason: str | None, record: Record) -> None:
        """Its last record, and its end."""
        self.append(key, record)
        entry = self._touch(key)
        entry.end(status, reason, record.time)
        self._add(entry, lines.end_line(Status(status), reason, record.time))

    def claim(self, key: int, session: int) -> Entry:
        """*session* owns it from now on."""
        entry = self._touch(key)
        entry.own(session)
        self._add(entry, lines.line("claim", session=session))
        return entry

    def look(self, key: int) -> None:
        """Its owner has come to look after mail."""
        entry = self._touch(key)
        entry.wake_at = None
        self._add(entry, lines.line("look"))

    def resume(self, key: int, now: int) -> None:
        """It is not stalled any more."""
        entry = self._touch(key)
        entry.resume(now)
        self._add(entry, lines.line("resume", now=now))

    def purge(self, key: int) -> None:
        """It is deleted for good."""
        entry = self.state.entries[key]
        self._purged.append(entry)
        self.head.setdefault("purged", []).append((key, entry.born))

    def _touch(self, key: int) -> Entry:
        entry = self._entries.get(key)
        if entry is None:
            old = self.state.entries[key]
            if old.damage is not None:
                raise CorruptJournal(f"The journal file of {old.id!r} is damaged", key=key, damage=old.damage)
            entry = self._entries[key] = old.clone()
            self._lines[key] = []
        return entry

    def _add(self, entry: Entry, line: bytes) -> None:
        entry.length += len(line)
        self._lines[entry.key].append(line)

    # --- when it is written

    def parts(self) -> list[Part]:
        """What the log has to say about each process."""
        parts: list[Part] = []
        for key, some in self._lines.items():
            entry, added = self._entries[key], b"".join(some)
            parts.append(Part(key, entry.born, entry.length - len(added), added))
        return parts

    def install(self, segment: int, parts: Iterable[Part]) -> None:
        """Change the state; *parts* have been written to *segment* of the log."""
        state = self.state
        state.stamp = self._stamp
        state.sessions.change(self.head.get("sessions", ()))
        note_batch(state, self.head)
        for entry in self._purged:
            remove_purged(state, entry, segment)
        for key, _, offset, data in parts:
            entry = self._entries[key]
            state.install(entry)
            state.add_pending(entry, Chunk(segment, offset, data))


def note_batch(state: State, head: dict[str, Any]) -> None:
    """Keep the number of the last batch of a session."""
    session = state.sessions.get(head.get("session", 0))
    if session is not None:
        session.last_batch = head["number"]


def remove_purged(state: State, entry: Entry, segment: int) -> None:
    """Forget a process that was purged, and remember to delete its file."""
    state.remove(entry)
    state.purged.append(Purged(segment, entry.key, entry.born, entry.id))


# --- reading the log


def redo(state: State, transaction: Transaction, segment: int) -> None:
    """Change *state* as a transaction of the log says, but for what the journal files have said already."""
    head = transaction.head
    state.stamp = max(state.stamp, head.get("stamp", 0))
    state.sessions.change(head.get("sessions", ()))
    note_batch(state, head)
    for key, born in head.get("purged", ()):
        entry = state.entries.get(key)
        if entry is not None and entry.born == born:
            remove_purged(state, entry, segment)
    for part in transaction.parts:
        _redo_part(state, part, segment)


def _redo_part(state: State, part: Part, segment: int) -> None:
    entry = state.entries.get(part.key)
    if entry is not None and entry.born != part.born:
        if part.offset or entry.born > part.born:
            return  # of an earlier process with this key, which was purged
        state.remove(entry)
        entry = None
    if entry is None:
        if part.offset:  # its file was deleted, by a purge or by hand; or nobody can read it now
            state.is_missing = bool(state.refused)
            return
        _, length, first = next(read_frames(part.lines, len(lines.MAGIC)))
        created = Entry.from_line(lines.read_line(first))
        created.length = length
        if (key := state.keys.get(created.id)) is not None and state.entries[key].born > created.born:
            return  # an earlier process with this id, which was purged
    else:
        if part.offset + len(part.lines) <= entry.length:
            return
        created = entry.clone()
    start = created.length - part.offset
    if start < 0:
        what = f"its file ends at byte {created.length}, and what follows to byte {part.offset} is missing"
        created.damage = created.damage or f"{what}; {RESTORE}"
        state.install(created)
        return
    _redo_lines(created, part, start)
    created.length = part.offset + len(part.lines)
    state.install(created)
    state.add_pending(created, Chunk(segment, part.offset, part.lines))


def _redo_lines(entry: Entry, part: Part, start: int) -> None:
    """
    Apply what is new in *part*, unless the process is damaged or that is what damages it.

    Whoever wrote it understands it, so it belongs into the file whatever this version makes of it.
    """
    try:
        for _, end, payload in read_frames(part.lines, start) if entry.damage is None else ():
            entry.apply(lines.read_line(payload), end - start)
            start = end
    except CorruptJournal as error:
        _logger.error("the journal of %r cannot be read: %s", entry.id, error)
        entry.damage = stall_reason(error)
