"""
Two PostgreSQL servers, a primary and its synchronous standby, that can be crashed, restarted and made to change places.

What was acknowledged is on both, so a failover may lose nothing. The standby is made anew after each failover, at the
port where the old primary was: the two ports stay the same, and which of them takes writes is for clients to find out.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from tests.postgres_server import Server, binaries, running, start

DATABASE = "chaos"
_SETTINGS = (
    "fsync=off",  # a crash of the server takes nothing back from the page cache, and that is all we do
    "synchronous_standby_names=*",
    "wal_retrieve_retry_interval=100ms",
    "autovacuum=off",
)


class Database:
    """
    The pair of servers in *folder*; use as an async context manager.

    Raises:
        Missing: There is no PostgreSQL on this machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._one_at_a_time = asyncio.Lock()
        self._primary: Server
        self._standby: Server

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._primary = stack.enter_context(running(self._folder / "a", _SETTINGS))
            self._stack = stack.pop_all()
        try:
            self._standby = await self._make_standby(self._folder / "b", 0)
            async with self._connected("postgres") as connection:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def ports(self) -> tuple[int, int]:
        """Where the two listen on 127.0.0.1; always the same two, lowest first."""
        first, second = sorted((self._primary.port, self._standby.port))
        return first, second

    async def restart(self) -> None:
        """Crash the primary, start it again, and return when the standby follows it again."""
        async with self._one_at_a_time:
            await self._crash(self._primary)
            self._primary = self._start(self._primary.folder, self._primary.port)
            await self._standby_follows()

    async def fail_over(self) -> None:
        """Crash the primary for good, promote the standby, and return when that has a standby of its own."""
        async with self._one_at_a_time:
            gone = self._primary
            await self._crash(gone)
            self._primary = self._standby
            async with self._connected("postgres") as connection:
                await connection.execute("SELECT pg_promote()")
            shutil.rmtree(gone.folder / "data")
            self._standby = await self._make_standby(gone.folder, gone.port)

    async def _crash(self, server: Server) -> None:
        os.kill(server.pid, signal.SIGQUIT)
        # Its keeper among our objects waits for it only at the end; it removes this file when it goes.
        while (server.folder / "data" / "postmaster.pid").exists():
            await asyncio.sleep(0.005)

    async def _make_standby(self, folder: Path, port: int) -> Server:
        folder.mkdir(mode=0o700, exist_ok=True)
        options = ("-R", "-c", "fast", "-D", str(folder / "data"), "-d", self._dsn("postgres"))
        process = await asyncio.create_subprocess_exec(binaries() / "pg_basebackup", *options)
        if await process.wait():
            raise AssertionError("pg_basebackup failed")
        standby = self._start(folder, port)
        await self._standby_follows()
        return standby

    def _start(self, folder: Path, port: int) -> Server:
        # On this thread although it takes a moment: the kernel ends a server when the thread that started it is gone.
        return self._stack.enter_context(start(folder, _SETTINGS, port))

    async def _standby_follows(self) -> None:
        query = (
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND replay_lsn = pg_current_wal_lsn()"
        )
        async with self._connected("postgres") as connection:
            while not await connection.fetchval(query):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _connected(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._dsn(database))
        try:
            yield connection
        finally:
            await connection.close()

    def _dsn(self, database: str) -> str:
        return self._primary.url(database)
