"""The part of the contract that kills, tears and fills disks, on SQLite: its commits are torn in the WAL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from durable.storage import JournalStorage
from durable.testing.disk_faults import torn_places
from durable.testing.storage_contract import Clock, Interruptions
from durable_storage.sqlite.provider import SqliteStorage


class TestSqliteInterrupted(Interruptions):
    """One file for each test, opened by other OS processes, too."""

    KEEPS_FILES = True

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return SqliteStorage(f"sqlite:///{place}/store.db", lease_clock=clock)

    def url(self, place: Path) -> str:
        return f"sqlite:///{place}/store.db"

    def damaged_places(self, before: Path, after: Path, into: Path) -> Iterable[Path]:
        return torn_places(before, after, into, order=["store.db-wal"])
