"""
Beginning, renewing, ending and burying sessions; inside a transaction of the caller, under the store's lock.

A session is alive while its row says so. Two signs let others declare it dead: its lease has run out on the clock that
runs on through suspend (`CLOCK_BOOTTIME`, of this boot), or the lock on its file can be taken, which means that its OS
process is gone. The file is made after the row is committed and before the store's lock is free again: nobody ever sees
a file that is not locked yet, and a crash in between leaves a row without a file, which owns nothing and dies by lease.
"""

from __future__ import annotations

import sqlite3

from durable_storage.local.locks import SessionFiles
from durable_storage.schema import DEAD, ENDED_CLEANLY
from durable_storage.sqlite import statements

# Rows of sessions that died long ago answer `last_batch` for a while, then go.
_KEEP = 1000


def begin(connection: sqlite3.Connection, host: str, lease_until: int, boot: str) -> int:
    """Add a living session, forget the rows of very old ones."""
    row = {"host": host, "lease_until": lease_until, "boot": boot}
    session = connection.execute(statements.BEGIN_SESSION, row).lastrowid
    assert session is not None
    connection.execute(statements.FORGET_SESSIONS, {"before": session - _KEEP})
    return session


def living(connection: sqlite3.Connection) -> set[int]:
    """The sessions that are alive by their rows."""
    return {session for session, _, _ in connection.execute(statements.LIVING_SESSIONS)}


def renew(connection: sqlite3.Connection, session: int, lease_until: int) -> bool:
    """Prolong the lease of *session*, if it is alive."""
    return connection.execute(statements.RENEW, {"session": session, "until": lease_until}).rowcount == 1


def end(connection: sqlite3.Connection, session: int) -> list[int]:
    """Mark *session* as ended, unless it is dead already; return it."""
    connection.executemany(statements.LEAVE, [(ENDED_CLEANLY, session)])
    return [session]


def bury(connection: sqlite3.Connection, files: SessionFiles, now: int, boot: str) -> list[int]:
    """Mark dead the sessions that are; return them."""
    gone = [
        session
        for session, lease_until, of_boot in connection.execute(statements.LIVING_SESSIONS).fetchall()
        if of_boot != boot or lease_until <= now or files.is_gone(session)
    ]
    connection.executemany(statements.LEAVE, [(DEAD, session) for session in gone])
    return gone


def last_batch(connection: sqlite3.Connection, session: int) -> int | None:
    """Number of the last batch of *session*, None if the store does not know the session."""
    row = connection.execute(statements.LAST_BATCH, {"session": session}).fetchone()
    return None if row is None else int(row[0])
