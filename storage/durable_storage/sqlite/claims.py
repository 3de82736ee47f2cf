"""
Taking processes over, and finding out what wants to run; inside a transaction or read of the caller.

A process of a dead session is found by that session's number when it is claimed. Death was committed by an earlier
transaction, so nobody writes to it any more when its journal is read here.

What this version cannot read, because a newer one wrote it, holds up nobody: that process is stalled with the reason,
and goes on when a host of that version resumes what is stalled.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Mapping

from durable.errors import CorruptJournal
from durable.journal import Record
from durable.storage import Claim, InboxItem, ProcessRow
from durable_storage.checks import stall_reason
from durable_storage.schema import inbox_item, journal_record, process_row
from durable_storage.sqlite import statements
from durable_storage.sqlite.commit import session_lost

_logger = logging.getLogger("durable_storage.sqlite")


def claim(connection: sqlite3.Connection, session: int, queues: Collection[str], limit: int, now: int) -> list[Claim]:
    """Give what is due or orphaned to *session*; orphans without a ``wake_at`` first, then by ``wake_at`` and key."""
    if connection.execute(statements.IS_ALIVE, {"session": session}).fetchone() is None:
        raise session_lost(session)
    rows: list[ProcessRow] = []
    for queue in queues:
        due = connection.execute(statements.DUE, {"of_queue": queue, "now": now, "most": limit})
        rows += map(process_row, due)
    for owner in _dead_owners(connection):
        orphans = connection.execute(statements.ORPHANS, {"gone": owner, "most": limit, **statements.wanted(queues)})
        rows += map(process_row, orphans)
    rows.sort(key=lambda row: (row.wake_at or 0, row.key))
    del rows[limit:]
    if not rows:
        return []
    keys = statements.wanted(row.key for row in rows)
    connection.execute(statements.OWN, {**keys, "session": session})
    unreadable: dict[int, CorruptJournal] = {}
    journals: dict[int, list[Record]] = {row.key: [] for row in rows}
    for key, *values in connection.execute(statements.JOURNALS, keys):
        try:
            journals[key].append(journal_record(values))
        except CorruptJournal as error:
            unreadable.setdefault(key, error)
    inboxes = _inboxes(connection, [row.key for row in rows], unreadable)
    _stall(connection, session, unreadable)
    return [
        Claim(row._replace(owner=session, wake_at=None), journals[row.key], inboxes[row.key])
        for row in rows
        if row.key not in unreadable
    ]


def collect(connection: sqlite3.Connection, session: int) -> list[InboxItem]:
    """Inbox items of the flagged processes of *session*, whose flags are cleared."""
    flagged = [key for (key,) in connection.execute(statements.FLAGGED, {"session": session})]
    if not flagged:
        return []
    connection.execute(statements.UNFLAG, statements.wanted(flagged))
    unreadable: dict[int, CorruptJournal] = {}
    inboxes = _inboxes(connection, flagged, unreadable)
    _stall(connection, session, unreadable)
    return sorted(item for key, items in inboxes.items() if key not in unreadable for item in items)


def _inboxes(
    connection: sqlite3.Connection, keys: Collection[int], unreadable: dict[int, CorruptJournal]
) -> dict[int, list[InboxItem]]:
    """The inboxes of processes, by their keys; those with an item that cannot be read are put into *unreadable*."""
    inboxes: dict[int, list[InboxItem]] = {key: [] for key in keys}
    for values in connection.execute(statements.INBOXES, statements.wanted(keys)):
        try:
            item = inbox_item(values)
            inboxes[item.key].append(item)
        except CorruptJournal as error:
            unreadable.setdefault(values[1], error)
    return inboxes


def _stall(connection: sqlite3.Connection, session: int, unreadable: Mapping[int, CorruptJournal]) -> None:
    """Let go of processes of *session* that this version cannot run; not claimed again, they cost nothing more."""
    for key, error in unreadable.items():
        _logger.error("process %d is stalled: %s", key, error)
    rows = [(stall_reason(error), key, session) for key, error in unreadable.items()]
    connection.executemany(statements.STALL_UNREADABLE, rows)


def next_wake(connection: sqlite3.Connection, queues: Collection[str]) -> int | None:
    """When `claim` will next find something: 0 if a process is orphaned."""
    for owner in _dead_owners(connection):
        if connection.execute(statements.ORPHANED, {"gone": owner, **statements.wanted(queues)}).fetchone():
            return 0
    found = (connection.execute(statements.NEXT_WAKE, {"of_queue": queue}).fetchone() for queue in queues)
    return min((row[0] for row in found if row), default=None)


def resume_stalled(connection: sqlite3.Connection, queues: Collection[str], now: int) -> int:
    """Make stalled processes of *queues* due at *now*; return how many."""
    return connection.execute(statements.RESUME_STALLED, {"now": now, **statements.wanted(queues)}).rowcount


def _dead_owners(connection: sqlite3.Connection) -> list[int]:
    return [owner for (owner,) in connection.execute(statements.DEAD_OWNERS)]
