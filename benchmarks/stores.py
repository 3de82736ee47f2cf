"""The stores that are measured, each with its yardstick: one committed row with nothing but the driver, as durable."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

import asyncpg

from tests.postgres_server import running, with_options

_PAYLOAD = b"x" * 60


class Aims(NamedTuple):
    """What is promised of a store: steps a second, and a step beside the yardstick."""

    throughput: str
    step: str


class Store(Protocol):
    """Something that can be measured."""

    bare_name: str
    aims: Aims

    def url(self, name: str) -> str:
        """The URL of an empty store."""

    async def bare(self) -> float:
        """Median seconds of the yardstick."""


class Sqlite:
    """One file; beside it one committed one-row insert with `sqlite3` into a new file: WAL, ``synchronous=FULL``."""

    bare_name = "bare sqlite3, one committed row (WAL, FULL)"
    aims = Aims("≥ 25,000", "≤ 2 ×")

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        return f"sqlite:///{self._folder / name}.db"

    async def bare(self) -> float:
        for old in self._folder.glob("bare.db*"):
            old.unlink()
        connection = sqlite3.connect(self._folder / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE record (id INTEGER PRIMARY KEY, payload BLOB)")
        seconds = []
        for _ in range(100):
            before = time.perf_counter()
            connection.execute("INSERT INTO record (payload) VALUES (?)", (_PAYLOAD,))
            seconds.append(time.perf_counter() - before)
        connection.close()
        return statistics.median(seconds)


class Files:
    """A directory; beside it one append of 200 bytes to a file, and its fsync."""

    bare_name = "bare append of 200 bytes with fsync"
    aims = Aims("", "")

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        return f"file://{(self._folder / name).absolute()}"

    async def bare(self) -> float:
        descriptor = os.open(self._folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        seconds = []
        for _ in range(100):
            before = time.perf_counter()
            os.write(descriptor, b"x" * 200)
            os.fdatasync(descriptor)
            seconds.append(time.perf_counter() - before)
        os.close(descriptor)
        return statistics.median(seconds)


class Postgres:
    """A schema of one server; beside it one prepared one-row insert with `asyncpg`: ``synchronous_commit=on``."""

    bare_name = "bare asyncpg, one prepared insert (synchronous_commit=on)"
    aims = Aims("≥ 20,000", "≤ 1.8 ×")

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, name: str) -> str:
        return with_options(self._url, schema=name)

    async def bare(self) -> float:
        connection = await asyncpg.connect(self._url)
        await connection.execute("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, payload bytea)")
        insert = await connection.prepare("INSERT INTO bare (payload) VALUES ($1)")
        seconds = []
        for _ in range(200):
            before = time.perf_counter()
            await insert.fetch(_PAYLOAD)
            seconds.append(time.perf_counter() - before)
        await connection.close()
        return statistics.median(seconds)


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Store]:
    """The store called *name*, on the disk of *folder*."""
    match name:
        case "sqlite":
            yield Sqlite(folder)
        case "file":
            yield Files(folder)
        case _:
            # Its socket needs a short path, so it is beside the others, not below.
            place = Path("/tmp") / f"durable-bench-{uuid4().hex[:8]}"
            try:
                with running(place, settings=["fsync=on"]) as server:
                    yield Postgres(server.url("postgres"))
            finally:
                shutil.rmtree(place, ignore_errors=True)  # also after a measurement that failed
