"""The public contract of every provider, run on the built-in ones."""

from __future__ import annotations

from pathlib import Path

from durable.storage import JournalStorage
from durable.testing.storage_contract import Clock, StorageContract
from durable_storage.memory import MemoryStorage
from durable_storage.sqlite.provider import SqliteStorage


class TestMemory(StorageContract):
    """``memory://name``, one name for each test."""

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return MemoryStorage(f"memory://{place}", lease_clock=clock)


class TestSqlite(StorageContract):
    """One file for each test, on the real disk."""

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return SqliteStorage(f"sqlite:///{place}/store.db", lease_clock=clock)
