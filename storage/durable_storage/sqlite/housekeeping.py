"""
What has ended long ago: finding it and deleting it for good; inside a transaction or read of the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from durable.storage import ProcessRow
from durable_storage.schema import process_row
from durable_storage.sqlite import statements


def ended(connection: sqlite3.Connection, before: int, limit: int) -> list[ProcessRow]:
    """Rows of processes that ended before that time, the first to end first."""
    found = connection.execute(statements.ENDED_BEFORE, {"before": before, "most": limit})
    return [process_row(values) for values in found]


def purge(connection: sqlite3.Connection, keys: Collection[int]) -> int:
    """Delete those of *keys* that have ended, with all that belongs to them; return how many."""
    chosen = statements.wanted(keys)
    connection.execute(statements.PURGE_RECORDS, chosen)
    connection.execute(statements.PURGE_INBOXES, chosen)
    return connection.execute(statements.PURGE, chosen).rowcount
