"""
What a batch does, in one write transaction of a SQLite file; the first half of the worked example.

Nothing is checked beforehand: whatever is wrong raises half-way, and `minimal_provider` rolls the transaction back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from durable.errors import CorruptJournal, NotOwned, ProcessExists, SessionLost, StorageError
from durable.journal import Record
from durable.storage import (
    ENDED,
    Batch,
    BatchResult,
    Creation,
    Delivery,
    End,
    Mail,
    MailKind,
    Park,
    ProcessRow,
    Restart,
    Stall,
    Status,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT, lease_until REAL, alive INTEGER, last_batch INTEGER);
CREATE TABLE IF NOT EXISTS process (
    key INTEGER PRIMARY KEY, id TEXT UNIQUE, definition TEXT, queue TEXT, status TEXT, owner INTEGER, wake_at INTEGER,
    mail INTEGER, created_at INTEGER, ended_at INTEGER, reason TEXT, progress BLOB);
CREATE TABLE IF NOT EXISTS record (
    key INTEGER, seq INTEGER, kind INTEGER, name TEXT, payload BLOB, time INTEGER, PRIMARY KEY (key, seq));
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key INTEGER, kind INTEGER, name TEXT, event_key TEXT, payload BLOB,
    time INTEGER);
"""

WAKES_STALLED = (MailKind.RESUME, MailKind.CANCEL, MailKind.TERMINATE)


def process_row(columns: Sequence[Any]) -> ProcessRow:
    row = ProcessRow(*columns)
    return row._replace(status=Status(row.status))


def storable(reason: str | None) -> str | None:
    """Reasons are the words of errors, which may hold half a character; SQLite keeps whole ones."""
    return None if reason is None else reason.encode(errors="backslashreplace").decode()


class Writing:
    """One write transaction, and what a batch does in it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.execute = database.execute

    def fence(self, session: int) -> None:
        """The lock of the transaction keeps the session as it is found here until everything is written."""
        if not self.execute("SELECT 1 FROM session WHERE id = ? AND alive", [session]).fetchone():
            raise SessionLost(f"Session {session} was declared dead or has ended; it writes nothing any more")

    def row(self, column: str, value: object) -> ProcessRow | None:
        found = self.execute(f"SELECT * FROM process WHERE {column} = ?", [value]).fetchone()
        return process_row(found) if found else None

    def owned(self, key: int, session: int | None) -> ProcessRow:
        row = self.row("key", key)
        if row is None or session is None or row.owner != session:
            raise NotOwned(f"Session {session} does not own process {key}; nothing was written", key=key)
        return row

    def apply(self, batch: Batch) -> BatchResult:
        """Every field in its order; whatever is wrong raises, and then nothing of it stays."""
        if batch.session is not None:
            self.fence(batch.session)
            self.execute("UPDATE session SET last_batch = ? WHERE id = ?", [batch.number, batch.session])
        elif batch.children or batch.restarts or batch.notices:
            raise StorageError("A batch without a session may only create pending processes and send mails")
        taken_ids = self.create_new(batch.creations, batch.session)
        if taken := self.create_new(batch.children, batch.session):
            raise ProcessExists("A process that is to be started by another exists already", taken=list(taken))
        for key, record in batch.records:
            self.append(key, record, batch.session)
        for number in batch.taken:
            self.take(number, batch.session)
        deliveries = [self.deliver(mail) for mail in batch.mails]
        for key, progress in batch.progress.items():
            self.owned(key, batch.session)
            self.execute("UPDATE process SET progress = ? WHERE key = ?", [progress, key])
        for restart in batch.restarts:
            self.restart(restart, batch.session)
        held = self.release(batch)
        for notice in batch.notices:
            if notice.key not in held:
                self.deliver(notice.mail)
        return BatchResult(taken_ids, deliveries, held)

    def create_new(self, creations: Sequence[Creation], session: int | None) -> dict[str, ProcessRow]:
        """Create those whose id is free; return who has the ids of the others."""
        taken = {}
        for creation in creations:
            if (row := self.row("id", creation.id)) is not None:
                taken[creation.id] = row
            else:
                self.create(creation, session)
        return taken

    def create(self, new: Creation, session: int | None) -> None:
        if new.owned and session is None:
            raise StorageError("A batch without a session cannot own what it creates")
        values = [new.key, new.id, new.definition, new.queue, Status.RUNNING, session if new.owned else None]
        self.execute(
            "INSERT INTO process VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, NULL, NULL, NULL)",
            [*values, new.wake_at, new.record.time if new.created_at is None else new.created_at],
        )
        self.insert(new.key, new.record, follows=0)

    def append(self, key: int, record: Record, session: int | None) -> None:
        self.owned(key, session)
        [follows] = self.execute("SELECT max(seq) FROM record WHERE key = ?", [key]).fetchone()
        self.insert(key, record, follows)

    def insert(self, key: int, record: Record, follows: int) -> None:
        if record.seq != follows + 1:
            raise CorruptJournal(f"Record {record.seq} of process {key} does not follow record {follows}", key=key)
        self.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", [key, *record])

    def restart(self, restart: Restart, session: int | None) -> None:
        self.owned(restart.key, session)
        self.execute("DELETE FROM record WHERE key = ?", [restart.key])
        if not restart.records:
            raise CorruptJournal(f"The next life of process {restart.key} has no record", key=restart.key)
        for follows, record in enumerate(restart.records):
            self.insert(restart.key, record, follows)
        change = "UPDATE process SET definition = ?, queue = ?, progress = NULL WHERE key = ?"
        self.execute(change, [restart.definition, restart.queue, restart.key])

    def take(self, number: int, session: int | None) -> None:
        found = self.execute("DELETE FROM inbox WHERE number = ? RETURNING key", [number]).fetchone()
        if found is None:
            raise NotOwned(f"Inbox item {number} is gone")
        self.owned(found[0], session)

    def deliver(self, mail: Mail) -> Delivery:
        row = self.row("id", mail.id)
        if row is None:
            return Delivery.NOT_FOUND
        if row.status in ENDED:
            return Delivery.ENDED
        self.execute("INSERT INTO inbox VALUES (NULL, ?, ?, ?, ?, ?, ?)", [row.key, *mail[1:]])
        wake_at, status, reason = row.wake_at, row.status, row.reason
        if status is Status.RUNNING:
            wake_at = mail.time if wake_at is None else min(wake_at, mail.time)
        elif mail.kind in WAKES_STALLED:
            wake_at, status, reason = mail.time, Status.RUNNING, None
        self.execute(
            "UPDATE process SET mail = mail + 1, wake_at = ?, status = ?, reason = ? WHERE key = ?",
            [wake_at, status, reason, row.key],
        )
        return Delivery.DELIVERED

    def release(self, batch: Batch) -> set[int]:
        """Park, stall and end. Who has mail its owner does not know of is held: nothing of that is written."""
        releases: list[Park | Stall | End] = [*batch.parks, *batch.stalls, *batch.ends]
        rows = {release.key: self.owned(release.key, batch.session) for release in releases}
        held = {release.key for release in releases if rows[release.key].mail != release.mail}
        for end in batch.ends:  # also one that is held must be right
            [follows] = self.execute("SELECT max(seq) FROM record WHERE key = ?", [end.key]).fetchone()
            self.insert(end.key, end.record, follows)
            if end.key in held:
                self.execute("DELETE FROM record WHERE key = ? AND seq = ?", [end.key, end.record.seq])
            else:
                self.execute("DELETE FROM inbox WHERE key = ?", [end.key])
        states: list[tuple[Any, ...]] = [(park.key, Status.RUNNING, park.wake_at, None, None) for park in batch.parks]
        states += [(stall.key, Status.STALLED, None, storable(stall.reason), None) for stall in batch.stalls]
        states += [(end.key, end.status, None, storable(end.reason), end.record.time) for end in batch.ends]
        changed = [key for key, *_ in states] + [restart.key for restart in batch.restarts]
        if len(set(changed)) < len(changed):
            raise StorageError("A batch lets go of a process twice, or of one that it restarts")
        if not {notice.key for notice in batch.notices} <= {end.key for end in batch.ends}:
            raise StorageError("A batch has a notice of an end that is not in it")
        for key, *state in states:
            if key not in held:
                change = "UPDATE process SET owner = NULL, status = ?, wake_at = ?, reason = ?, ended_at = ?"
                self.execute(f"{change} WHERE key = ?", [*state, key])
        return held
