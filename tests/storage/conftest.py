"""What tests of stores share: children that are killed when their test is over, and storage objects that get closed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from durable_storage.postgres.provider import PostgresStorage
from durable_storage.sqlite.provider import SqliteStorage
from tests.postgres_server import with_options
from tests.storage.children import Child, OpenStore, StartChild


@pytest.fixture
def child() -> Iterator[StartChild]:
    """Starts children; whatever still runs at the end of the test is killed."""
    children: list[Child] = []

    def start(command: str, path: Path, *arguments: object, under: Sequence[str] = ()) -> Child:
        children.append(Child(command, path, *arguments, under=under))
        return children[-1]

    yield start
    for one in children:
        if one.process.poll() is None:
            one.kill()
        one.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store.db"


@pytest.fixture
async def open_store(path: Path) -> AsyncIterator[OpenStore]:
    """Opens storage objects on `path`; they are closed when the test is over."""
    opened: list[SqliteStorage] = []

    async def start(**options: Any) -> SqliteStorage:
        storage = SqliteStorage(f"sqlite:///{path}", **options)
        await storage.open()
        opened.append(storage)
        return storage

    yield start
    for storage in opened:
        await storage.close()


@pytest.fixture
def strace() -> str:
    """The program that makes system calls fail; without it (or without the right to trace) the test is skipped."""
    program = shutil.which("strace")
    if program is None or subprocess.run([program, "-qq", "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("strace is missing or not permitted: failures of the disk are NOT tested here")
    return program


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a filesystem of 2 MB of its own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk to fill: mounting needs privileges ({mounted.stderr.decode().strip()})")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


# --- PostgreSQL: one server for the run, one database for each worker, one schema for each test -----------------------


@pytest.fixture(scope="session")
def postgres(postgres_server: str) -> Iterator[str]:
    """The URL of a database of this worker."""
    server = postgres_server
    name = f"durable_{uuid4().hex[:12]}"
    before, _, options = server.partition("?")
    url = f"{before.rpartition('/')[0]}/{name}" + (f"?{options}" if options else "")
    _execute(server, f"CREATE DATABASE {name}")
    yield url
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The URL of a store of its own for each test."""
    return with_options(postgres, schema=f"test_{uuid4().hex[:12]}")


class OpenPostgres:
    """Opens storage objects on the store of the test; they are closed when it is over."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.opened: list[PostgresStorage] = []

    async def __call__(self, url: str | None = None, **options: Any) -> PostgresStorage:
        """One more storage object."""
        storage = PostgresStorage(url or self.url, **options)
        self.opened.append(storage)
        await storage.open()
        return storage


@pytest.fixture
async def open_postgres(postgres_url: str) -> AsyncIterator[OpenPostgres]:
    """See `OpenPostgres`."""
    opening = OpenPostgres(postgres_url)
    yield opening
    for storage in opening.opened:
        await storage.close()


@pytest.fixture
async def admin(postgres: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection of a superuser to the database of the worker."""
    connection = await asyncpg.connect(postgres)
    yield connection
    await connection.close()


def _execute(url: str, statement: str) -> None:
    """Run *statement*, in a thread of its own: the event loop of this one belongs to the plugin for async tests."""

    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, execute()).result()
