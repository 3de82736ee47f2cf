"""Waiting for what cannot be read: whoever waits for that hears so, and nobody else is held up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from durable import CorruptJournal, Process, ProcessClient, ProcessHost, StorageError, process
from durable.journal import Record
from durable.storage import ProcessRow
from tests.host.staging import SOON, GatedStorage, until, until_it_waits


@process
async def wait(proc: Process) -> int:
    return int(await proc.event("go"))


def change(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


class SlowToRead(GatedStorage):
    """A store whose journals can be held up."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        self.asked.set()
        await self.free.wait()
        return await super().journal(key, after)


async def test_who_comes_while_another_gives_up_gets_the_result(url: str) -> None:
    """Somebody stops waiting while the last record is read, and somebody else begins: that one gets it."""
    async with ProcessHost(url, [wait]) as host:
        handle = await host.start(wait(), id="p")
        await host.raise_event("p", "go", 42)
        await handle.result(SOON)
        storage = SlowToRead(url)
        async with ProcessClient(storage) as client:
            impatient = asyncio.create_task(client.get("p").result())
            await storage.asked.wait()
            impatient.cancel()
            await asyncio.wait([impatient])
            patient = asyncio.create_task(client.get("p").result(SOON))
            await until(lambda: "p" in client._endings._ended)
            storage.free.set()
            assert await patient == 42


async def test_a_row_that_cannot_be_read_is_the_business_of_who_waits_for_it(tmp_path: Path) -> None:
    """A process in a status of a newer version: its waiter gets an error, the one beside it its result."""
    url, file = f"sqlite:///{tmp_path / 'processes.db'}", tmp_path / "processes.db"
    async with ProcessHost(url, [wait]) as host, ProcessClient(url) as client:
        for id in ("strange", "good"):
            await host.start(wait(), id=id)
        good = asyncio.create_task(client.get("good").result(SOON))
        change(file, "UPDATE process SET status = 99 WHERE id = 'strange'")
        with pytest.raises(CorruptJournal, match="newer"):
            await client.get("strange").result(SOON)
        await host.raise_event("good", "go", 7)
        assert await good == 7


class Broken(GatedStorage):
    """A store that fails, for one process, in a way that it should not."""

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        if "strange" in ids:
            raise IndexError("a bug")
        return await super().rows_by_id(ids)


async def test_a_bug_of_a_store_ends_one_wait(url: str) -> None:
    """An exception that no store should raise reaches who waits for that process, and the looks go on."""
    async with ProcessHost(url, [wait]) as host, ProcessClient(Broken(url)) as client:
        for id in ("strange", "good"):
            await host.start(wait(), id=id)
        waiting = [asyncio.create_task(client.get(id).result(SOON)) for id in ("good", "strange")]
        with pytest.raises(StorageError, match="a bug"):
            await waiting[1]
        await host.raise_event("good", "go", 7)
        assert await waiting[0] == 7


async def test_a_result_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The journal of an ended process is of a newer version: who asks for the result hears so, as for the history."""
    url, file = f"sqlite:///{tmp_path / 'processes.db'}", tmp_path / "processes.db"
    async with ProcessHost(url, [wait]) as host:
        handle = await host.start(wait(), id="p")
        await host.raise_event("p", "go", 1)
        await handle.result(SOON)
    change(file, "UPDATE record SET kind = 99")
    async with ProcessClient(url) as client:
        with pytest.raises(CorruptJournal):
            await client.get("p").result(SOON)


async def test_a_process_with_mail_that_cannot_be_read_leaves_memory(tmp_path: Path) -> None:
    """Mail of a newer version comes just before an end is written: the process is stalled, and here nobody waits on."""
    url, file = f"sqlite:///{tmp_path / 'processes.db'}", tmp_path / "processes.db"
    storage = GatedStorage(url)
    async with ProcessHost(storage, [wait]) as host:
        handle = await host.start(wait(), id="p")
        await until_it_waits(host, "p", "event")
        ending = storage.hold_commit(lambda batch: batch.ends)
        await host.raise_event("p", "go", 7)
        await ending.reached.wait()
        change(file, "INSERT INTO inbox (key, kind, name, payload, time) SELECT key, 99, 'x', x'', 1 FROM process")
        change(file, "UPDATE process SET mail = mail + 1, wake_at = 1")
        ending.open()
        await until(lambda: "p" not in host._engine.by_id)
        waiting = asyncio.create_task(handle.result(SOON))
        change(file, "DELETE FROM inbox")
        change(file, "UPDATE process SET mail = mail - 1")
        async with ProcessHost(url, [wait]):
            assert await waiting == 7
