"""
Taking processes over, and finding out what wants to run; inside a transaction or read of the caller.

A process of a dead session is found by that session's number when it is claimed. Death was committed by an earlier
transaction, so nobody writes to it any more when its journal is read here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from durable.journal import Record
from durable.storage import Claim, InboxItem, ProcessRow
from durable_storage.schema import inbox_item, journal_record, process_row
from durable_storage.sqlite import statements
from durable_storage.sqlite.commit import session_lost


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
    journals: dict[int, list[Record]] = {row.key: [] for row in rows}
    for key, *values in connection.execute(statements.JOURNALS, keys):
        journals[key].append(journal_record(values))
    inboxes: dict[int, list[InboxItem]] = {row.key: [] for row in rows}
    for item in map(inbox_item, connection.execute(statements.INBOXES, keys)):
        inboxes[item.key].append(item)
    return [Claim(row._replace(owner=session, wake_at=None), journals[row.key], inboxes[row.key]) for row in rows]


def collect(connection: sqlite3.Connection, session: int) -> list[InboxItem]:
    """Inbox items of the flagged processes of *session*, whose flags are cleared."""
    flagged = [key for (key,) in connection.execute(statements.FLAGGED, {"session": session})]
    if not flagged:
        return []
    keys = statements.wanted(flagged)
    connection.execute(statements.UNFLAG, keys)
    return [inbox_item(values) for values in connection.execute(statements.INBOXES, keys)]


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
