"""Versions of a SQLite store: fresh and migrated are the same, and a crash leaves a version, never a mixture."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from durable.errors import NewerFormat
from durable_storage import schema
from durable_storage.sqlite.migrations import STEPS, migrate, version_of
from tests.storage.children import OpenStore, StartChild

OLDER = ("CREATE TABLE process (number INTEGER)",)
NEWER = ("ALTER TABLE process RENAME COLUMN number TO key", "CREATE INDEX by_key ON process (key)")


def shape(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Tables and indexes, with their text as SQLite keeps it but for white space."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {(kind, name, "".join(text.split()).lower()) for kind, name, text in rows if not name.startswith("sqlite_")}


def test_migrations_lead_to_the_schema() -> None:
    """All steps one after the other make the very tables and indexes that the statements are written for."""
    migrated = sqlite3.connect(":memory:", isolation_level=None)
    migrate(migrated, "")
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    with engine.connect() as fresh:
        driver = fresh.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        assert shape(migrated) == shape(driver)
    engine.dispose()
    assert version_of(migrated) == len(STEPS)
    migrated.close()


def test_steps_are_taken_once_each() -> None:
    """An older store takes the steps it lacks; one of the newest version takes none."""
    fresh, older = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    migrate(older, "", [OLDER])
    older.execute("INSERT INTO process VALUES (7)")
    migrate(older, "", [OLDER, NEWER])
    migrate(older, "", [OLDER, NEWER])
    migrate(fresh, "", [OLDER, NEWER])
    assert shape(older) == shape(fresh)
    assert older.execute("SELECT key FROM process").fetchall() == [(7,)]
    with pytest.raises(NewerFormat):
        migrate(older, "", [OLDER])
    assert version_of(older) == 2
    fresh.close()
    older.close()


def test_failing_step_changes_nothing() -> None:
    """A step that fails in the middle is undone, and the store stays at the version before."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "", [OLDER])
    before = shape(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, "", [OLDER, (*NEWER, "SELECT nonsense")])
    assert (shape(connection), version_of(connection)) == (before, 1)
    connection.close()


async def test_killed_migration_can_be_reopened(path: Path, child: StartChild, open_store: OpenStore) -> None:
    """A SIGKILL in the middle of a step leaves the store at its version, open to this library."""
    await (await open_store()).close()
    killed = child("migrate_and_die", path)
    assert killed.wait() == -signal.SIGKILL
    storage = await open_store()
    assert await storage.count() == 0
    connection = sqlite3.connect(path)
    assert version_of(connection) == 1
    assert ("extra",) not in connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
