"""Whoever opens or closes a store may be cancelled at any moment, also twice: nothing stays open, it opens again."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import asyncpg
import pytest

from durable.storage import JournalStorage, open_storage
from durable_storage.postgres.provider import PostgresStorage
from tests.cancelling import cancelled_at
from tests.postgres_server import with_options
from tests.storage.children import needs_proc, open_files

MOMENTS = [(first,) for first in range(6)] + [(first, first + 1) for first in range(5)] + [tuple(range(6))]
PATIENCE = 20.0  # seconds; a store that takes longer hangs


@pytest.fixture(params=["sqlite:///{}/store.db", "file://{}/store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store on the disk."""
    return str(request.param).format(tmp_path)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is closed because it was forgotten."""
    gc.disable()
    yield
    gc.enable()


async def nothing_is_open(directory: Path, before: Collection[threading.Thread]) -> None:
    """Return when threads that were told to end have done so, and no file of *directory* is open."""
    async with asyncio.timeout(PATIENCE):
        while set(threading.enumerate()) - set(before) or any(str(directory) in name for name in open_files()):
            await asyncio.sleep(0.001)


async def opens_and_closes(storage: JournalStorage) -> None:
    """It can be used as if nothing had happened."""
    async with asyncio.timeout(PATIENCE):
        await storage.open()
        await storage.begin_session("host", 30)
        assert await storage.count() == 0
        await storage.close()


@needs_proc
@pytest.mark.parametrize("moments", MOMENTS, ids=str)
@pytest.mark.usefixtures("no_collector")
async def test_opening_that_is_cancelled_leaves_nothing_open(
    url: str, tmp_path: Path, moments: tuple[int, ...]
) -> None:
    """Opening that is cancelled, also while it cleans up, ends its thread and closes its files."""
    before = threading.enumerate()
    storage = open_storage(url)
    if not await cancelled_at(moments, storage.open()):
        await storage.close()
    await nothing_is_open(tmp_path, before)
    await opens_and_closes(storage)
    await nothing_is_open(tmp_path, before)


@needs_proc
@pytest.mark.parametrize("moments", MOMENTS, ids=str)
@pytest.mark.usefixtures("no_collector")
async def test_closing_that_is_cancelled_closes_all_the_same(
    url: str, tmp_path: Path, moments: tuple[int, ...]
) -> None:
    """Closing while others read, cancelled at any moment, closes everything; the object can be opened again."""
    before = threading.enumerate()
    storage = open_storage(url)
    await storage.open()
    await storage.begin_session("host", 30)
    reads = [asyncio.ensure_future(storage.count()) for _ in range(3)]
    await asyncio.sleep(0)
    await cancelled_at(moments, storage.close())
    await asyncio.wait(reads)
    await nothing_is_open(tmp_path, before)
    assert [read.result() for read in reads] == [0, 0, 0]
    await opens_and_closes(storage)
    await nothing_is_open(tmp_path, before)


async def connections(admin: asyncpg.Connection, name: str) -> int:
    """How many connections of the application called *name* the server has."""
    found: int = await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name)
    return found


@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_postgres_leaves_no_connection_open(postgres_url: str, admin: asyncpg.Connection, steps: int) -> None:
    """Opening or closing a store on PostgreSQL, cancelled at any moment, leaves no connection on the server."""
    name = f"cancelled {steps}"
    storage = PostgresStorage(with_options(postgres_url, application_name=name.replace(" ", "%20")))
    await storage.open()
    await storage.count()
    await storage.close()
    if not await cancelled_at([steps], storage.open()):
        await storage.count()
        await cancelled_at([0], storage.close())
    async with asyncio.timeout(PATIENCE):
        while await connections(admin, name):
            await asyncio.sleep(0.001)
    await opens_and_closes(storage)
