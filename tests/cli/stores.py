"""Two stores and what must be true of them together, whatever happens while processes move from one to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from durable import MessagePackCodec
from durable.errors import UnknownScheme
from durable.storage import JournalStorage, Status, open_storage
from durable.testing.storage_proxy import Operation, StorageProxy
from durable.transfer import Snapshot, Transfer, move, put, take

T = TypeVar("T")

UNFINISHED = [Status.RUNNING, Status.STALLED]


def schemes() -> list[str]:
    """The schemes of stores that live in this machine."""
    known = ["sqlite", "memory"]
    with suppress(UnknownScheme):
        open_storage("file:///tmp/unused")
        known.append("file")
    return known


def url_of(scheme: str, path: Path, name: str) -> str:
    """A store called *name* of the test whose folder *path* is."""
    match scheme:
        case "memory":
            return f"memory://{path}/{name}"
        case "sqlite":
            return f"sqlite:///{path / name}.db"
        case _:
            return f"{scheme}://{path / name}"


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[list[JournalStorage]]:
    """The stores behind *urls*, open."""
    storages = [open_storage(url) for url in urls]
    for storage in storages:
        await storage.open()
    try:
        yield storages
    finally:
        for storage in storages:
            await storage.close()


async def moved(from_url: str, to_url: str) -> list[Transfer]:
    """Move from one store to another, undisturbed."""
    async with opened(from_url, to_url) as (source, target):
        return await move(source, target, to_url, MessagePackCodec())


async def snapshots(url: str) -> dict[str, Snapshot]:
    """Every process that a store could run or has run, as it stands; without what is each store's own choice."""
    async with opened(url) as (storage,):
        rows = await storage.rows(limit=1000)
        found = [await take(storage, row.id) for row in rows]
    return {one.id: replace(one, inbox=tuple(item._replace(number=0) for item in one.inbox)) for one in found}


async def fill(url: str, processes: Iterable[Snapshot]) -> None:
    """Put processes into a store, as they stand."""
    async with opened(url) as (storage,):
        for one in processes:
            await put(storage, one)


async def runnable(url: str) -> set[str]:
    """Ids of the processes that a host of this store could ever run."""
    async with opened(url) as (storage,):
        return {row.id for row in await storage.rows(status=UNFINISHED, limit=1000)}


async def on_the_way(url: str) -> set[str]:
    """Ids of the processes that have ended here because they are moving."""
    async with opened(url) as (storage,):
        ended = await storage.rows(status=[Status.TERMINATED], limit=1000)
        return {row.id for row in ended if (await storage.journal(row.key))[-1].name == "moved"}


class Killed(BaseException):
    """The OS process is gone: nothing of it runs any more, no `except Exception` sees this."""


class Life:
    """
    One life of an OS process that is killed at its *killed_at*-th write, counted over all stores it uses.

    ``written``: whether that write still reached the store. ``calls`` counts the writes.
    """

    def __init__(self, killed_at: int, written: bool) -> None:
        self.calls = 0
        self._killed_at = killed_at
        self._written = written

    async def call(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        self.calls += 1
        if self.calls == self._killed_at and self._written:
            await call()
        if self.calls >= self._killed_at:
            raise Killed
        return await call()


class Mortal(StorageProxy):
    """A store as used by an OS process that may be killed."""

    def __init__(self, storage: JournalStorage, life: Life) -> None:
        super().__init__(storage)
        self._life = life

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        return await self._life.call(operation, call)


async def move_and_die(from_url: str, to_url: str, life: Life) -> bool:
    """Move, and be killed on the way; whether it was killed. What it had open is freed as the system frees it."""
    async with opened(from_url, to_url) as (source, target):
        try:
            await move(Mortal(source, life), Mortal(target, life), to_url, MessagePackCodec())
        except Killed:
            return True
    return False


class Interfering(StorageProxy):
    """Lets a test do something just before a commit that it waits for."""

    def __init__(
        self, storage: JournalStorage, wanted: Callable[[Operation], bool], act: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(storage)
        self._wanted = wanted
        self._act = act
        self.times = 0

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if not self.times and self._wanted(operation):
            self.times += 1
            await self._act()
        return await call()
