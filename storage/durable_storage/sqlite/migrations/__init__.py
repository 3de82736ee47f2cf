"""
The versions of a SQLite store, and how an older one becomes the newest.

Each step is one transaction that ends by setting ``user_version``: a crash leaves the store at a version, never between
two. A new file goes through all steps, so there is one way to make a schema; a test compares the outcome with
`durable_storage.schema`. Steps are never edited once released. The caller holds the store's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from durable.errors import NewerFormat
from durable_storage.sqlite.migrations import v1

# A step is the statements that lead to its version, the first to version 1.
Step = Sequence[str]
STEPS: tuple[Step, ...] = (v1.STATEMENTS,)


def migrate(connection: sqlite3.Connection, path: str, steps: Sequence[Step] = STEPS) -> None:
    """
    Bring the store behind *connection* (in autocommit mode) to the version of the last of *steps*.

    Raises:
        NewerFormat: The store has a version that *steps* do not know; it was not changed.
    """
    version = check_version(version_of(connection), path, len(steps))
    for number, step in enumerate(steps[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in step:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the store behind *connection*."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def check_version(version: int, path: str, known: int = len(STEPS)) -> int:
    """Return *version*, or raise `NewerFormat` if it is above *known*."""
    if version > known:
        raise NewerFormat(
            "The store was written by a newer version of this library; it was not touched",
            path=path,
            version=version,
            known=known,
            fix="upgrade durable, or choose another path",
        )
    return version
