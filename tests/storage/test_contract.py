"""The public contract of every provider, run on the built-in ones."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import settings

from durable.storage import JournalStorage
from durable.testing.disk_faults import torn_places
from durable.testing.storage_contract import Clock, StorageContract
from durable_storage.filesystem.provider import FilesystemStorage
from durable_storage.memory import MemoryStorage
from durable_storage.postgres.provider import PostgresStorage
from durable_storage.sqlite.provider import SqliteStorage
from tests.postgres_server import with_options


class TestMemory(StorageContract):
    """``memory://name``, one name for each test."""

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return MemoryStorage(f"memory://{place}", lease_clock=clock)


class TestSqlite(StorageContract):
    """One file for each test, on the real disk."""

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return SqliteStorage(f"sqlite:///{place}/store.db", lease_clock=clock)


class TestFilesystem(StorageContract):
    """One directory for each test, on the real disk."""

    KEEPS_FILES = True

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return FilesystemStorage(f"file://{place}/store", lease_clock=clock)

    def url(self, place: Path) -> str:
        return f"file://{place}/store"

    def damaged_places(self, before: Path, after: Path, into: Path) -> Iterable[Path]:
        [log] = (after / "store").glob("batches-*.log")
        return torn_places(before, after, into, order=[str(log.relative_to(after))])


class TestPostgres(StorageContract):
    """One schema for each test, on a real server."""

    agreement_settings = settings(
        StorageContract.agreement_settings, max_examples=15
    )  # each step is several round trips

    @pytest.fixture(autouse=True)
    def _database(self, postgres: str) -> None:
        self.database = postgres

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return PostgresStorage(self.url(place), lease_clock=clock)

    def url(self, place: Path) -> str:
        return with_options(self.database, schema=f"test_{sha256(str(place).encode()).hexdigest()[:16]}")

    def test_failing_disk(self) -> None:  # type: ignore[override]
        """The disk is that of the server, whose own tests are about it."""
        pytest.skip("the disk of a PostgreSQL server is not ours: its failures are NOT tested")

    def test_acknowledged_is_synced(self) -> None:  # type: ignore[override]
        """The server syncs; that a connection asks for it is tested in `test_postgres_errors`."""
        pytest.skip("the disk of a PostgreSQL server is not ours: its syncs are NOT watched")
