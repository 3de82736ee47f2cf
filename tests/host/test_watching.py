"""Waiting for processes of other hosts: how few looks it costs, who is told what, and what may come in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from typing import cast

import pytest

from durable import Event, HostClosed, Process, ProcessClient, ProcessHost, ProcessNotFound, ProcessStatus, process
from durable.storage import ProcessRow, open_storage
from durable.testing.faults import FaultyStorage
from tests.web.counting import Counted

SOON = 20.0
IDS = [f"p{number}" for number in range(500)]
Reached = Event("reached", int)


@process
async def climbing(proc: Process) -> int:
    """Shows as progress how far it has come; ends at 100."""
    reached = 0
    while reached < 100:
        reached = await proc.event(Reached, name=f"step {reached}")
        proc.progress(reached, 100)
    return reached


class Watcher:
    """Somebody who watches one process and keeps what was told."""

    def __init__(self, statuses: AsyncIterator[ProcessStatus]) -> None:
        self._statuses = statuses
        self.told: list[ProcessStatus] = []

    async def next(self) -> ProcessStatus:
        """The next that is told."""
        async with asyncio.timeout(SOON):
            self.told.append(await anext(self._statuses))
        return self.told[-1]

    async def until(self, done: int) -> ProcessStatus:
        """The first that is told of progress up to *done*."""
        while (status := await self.next()).progress is None or status.progress.done < done:
            pass
        return status

    async def end(self) -> ProcessStatus:
        """The last that is told."""
        async with asyncio.timeout(SOON):
            async for status in self._statuses:
                self.told.append(status)
        return self.told[-1]


@asynccontextmanager
async def watching(client: ProcessClient, id: str) -> AsyncIterator[Watcher]:
    """Watch a process; its first status has been told."""
    statuses = cast("AsyncGenerator[ProcessStatus, None]", client.get(id).watch())
    async with aclosing(statuses):
        watcher = Watcher(statuses)
        await watcher.next()
        yield watcher


@asynccontextmanager
async def watching_all(client: ProcessClient, ids: Sequence[str]) -> AsyncIterator[dict[str, Watcher]]:
    """Watch many processes, each by one."""
    async with AsyncExitStack() as stack:
        yield {id: await stack.enter_async_context(watching(client, id)) for id in ids}


class Held(Counted):
    """A store whose looks at several rows can be held up."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.free = asyncio.Event()
        self.free.set()
        self.held = asyncio.Event()
        self.looking = 0.0

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        self.held.set()
        began = asyncio.get_running_loop().time()
        await self.free.wait()
        rows = await super().rows_by_id(ids)
        self.looking += asyncio.get_running_loop().time() - began
        return rows


# --- many ---


async def test_500_watched_processes_cost_a_few_looks(url: str) -> None:
    """Each of 500 watchers has a process of its own, on another host: together they cost a few queries per change."""
    storage = Counted(url)
    async with ProcessHost(url, [climbing]) as host, ProcessClient(storage) as client:
        await asyncio.gather(*(host.start(climbing(), id=id) for id in IDS))
        async with watching_all(client, IDS) as watchers:
            first = {id: len(watcher.told) for id, watcher in watchers.items()}
            others = {id: asyncio.create_task(watcher.until(1)) for id, watcher in watchers.items() if id != "p7"}
            began, before = asyncio.get_running_loop().time(), storage.reads
            for number in range(1, 9):
                await host.raise_event("p7", Reached, number)
                assert (await watchers["p7"].until(number)).progress.done == number  # type: ignore[union-attr]
            elapsed = asyncio.get_running_loop().time() - began
            assert storage.reads - before <= 8 * 5 + 3 * elapsed
            assert not any(task.done() for task in others.values())
            assert all(len(watchers[id].told) == first[id] for id in others)  # a change wakes nobody else
            for task in others.values():
                task.cancel()
            await asyncio.wait(others.values())


async def test_nobody_misses_the_last_state(url: str) -> None:
    """500 processes change and end at the same time; each watcher is told of its end, and each result comes."""
    storage = Counted(url)
    async with ProcessHost(url, [climbing]) as host, ProcessClient(storage) as client:
        await asyncio.gather(*(host.start(climbing(), id=id) for id in IDS))
        async with watching_all(client, IDS) as watchers:
            results = [asyncio.create_task(client.get(id).result(timedelta(seconds=SOON))) for id in IDS]
            before = storage.reads
            for number in (50, 100):
                await asyncio.gather(*(host.raise_event(id, Reached, number) for id in IDS))
            last = await asyncio.gather(*(watcher.end() for watcher in watchers.values()))
            assert [(one.id, one.ended, one.progress.done) for one in last if one.progress] == [
                (id, True, 100) for id in IDS
            ]
            assert await asyncio.gather(*results) == [100] * len(IDS)
            assert storage.reads - before <= len(IDS) + 100  # a journal for each result, and the looks


async def test_results_of_one_process_share_its_journal(url: str) -> None:
    """However many wait for the result of a process, its journal is read once."""
    storage = Counted(url)
    async with ProcessHost(url, [climbing]) as host, ProcessClient(storage) as client:
        await host.start(climbing(), id="p")
        results = [asyncio.create_task(client.get("p").result(timedelta(seconds=SOON))) for _ in range(100)]
        await asyncio.sleep(0)
        await host.raise_event("p", Reached, 100)
        assert await asyncio.gather(*results) == [100] * 100
        journals = storage.journals
        assert journals == 1


async def test_looks_leave_a_busy_store_alone(url: str) -> None:
    """A store that changes all the time is looked at for a small part of the time, however slow it is."""
    storage = Held(url)
    async with ProcessHost(url, [climbing]) as host, ProcessClient(storage) as client:
        await host.start(climbing(), id="p")
        async with watching(client, "p") as watcher:
            time = asyncio.get_running_loop().time
            began = time()
            for number in range(1, 6):
                storage.held.clear()
                storage.free.clear()
                await host.raise_event("p", Reached, number)
                await storage.held.wait()
                asyncio.get_running_loop().call_later(0.05, storage.free.set)
                await watcher.until(number)
            assert storage.looking < 0.4 * (time() - began)


# --- what may come in between ---


async def test_a_purged_process_is_not_found(url: str) -> None:
    """Who watches a process, or waits for its result, is told if it is gone before they could see its end."""
    storage = Held(url)
    async with ProcessHost(url, [climbing]) as host, ProcessClient(storage) as client:
        handle = await host.start(climbing(), id="p")
        async with watching(client, "p") as watcher:
            storage.free.clear()
            result = asyncio.create_task(client.get("p").result())
            await host.raise_event("p", Reached, 100)
            await handle.result()
            await storage.held.wait()
            row = await host._storage.row("p")
            assert row is not None
            await host._storage.purge([row.key])
            storage.free.set()
            with pytest.raises(ProcessNotFound):
                await watcher.end()
            with pytest.raises(ProcessNotFound):
                await asyncio.wait_for(result, SOON)


async def test_waiting_outlives_a_store_that_fails(url: str) -> None:
    """While the store is away the waiting goes on, and what happened meanwhile is told when it is back."""
    storage = Counted(url)
    async with ProcessHost(url, [climbing]) as host, ProcessClient(storage) as client:
        await host.start(climbing(), id="p")
        async with watching(client, "p") as watcher:
            result = asyncio.create_task(client.get("p").result())
            following = asyncio.create_task(watcher.until(50))
            storage.broken = True
            before = storage.reads
            await host.raise_event("p", Reached, 50)
            async with asyncio.timeout(SOON):
                while storage.reads < before + 2:
                    await asyncio.sleep(0.01)
            assert not following.done()
            storage.broken = False
            await following
            storage.broken = True
            await host.raise_event("p", Reached, 100)
            await host.get("p").result()
            storage.broken = False
            assert (await watcher.end()).ended
            assert await asyncio.wait_for(result, SOON) == 100


async def test_closing_ends_the_waiting(url: str) -> None:
    """A client that is closed tells so to who watches and who waits for a result."""
    async with ProcessHost(url, [climbing]) as host:
        await host.start(climbing(), id="p")
        async with AsyncExitStack() as stack:
            async with ProcessClient(url) as client:
                watcher = await stack.enter_async_context(watching(client, "p"))
                result = asyncio.create_task(client.get("p").result())
                await asyncio.sleep(0)
            with pytest.raises(HostClosed):
                await watcher.end()
            with pytest.raises(HostClosed):
                await result


async def test_a_process_comes_and_leaves_while_it_is_watched(url: str) -> None:
    """It goes from one host to another, is parked there, and wakes up: who watches here and there is told."""
    async with ProcessHost(url, []) as elsewhere, AsyncExitStack() as stack:
        async with ProcessHost(url, [climbing]) as first:
            await first.start(climbing(), id="p")
            there = await stack.enter_async_context(watching(elsewhere, "p"))
            result = asyncio.create_task(elsewhere.get("p").result())
            await first.raise_event("p", Reached, 10)
            await there.until(10)
        async with ProcessHost(url, [climbing]) as second:
            here = await stack.enter_async_context(watching(second, "p"))
            while not here.told[-1].waits_for:
                await here.next()
            second._engine.parking.sweep(1)
            while here.told[-1].resident:
                await here.next()
            await elsewhere.raise_event("p", Reached, 100)
            assert (await here.end()).ended
            assert (await there.end()).ended
            assert await asyncio.wait_for(result, SOON) == 100
        for watcher in (here, there):
            done = [status.progress.done for status in watcher.told if status.progress]
            assert done == sorted(done)


async def test_waiting_outlives_a_lost_session(url: str) -> None:
    """A host that loses its session and begins another: who watches there is told on, and gets the result."""
    storage = FaultyStorage(open_storage(url))
    async with ProcessHost(storage, [climbing]) as host:
        handle = await host.start(climbing(), id="p")
        async with watching(host, "p") as watcher:
            result = asyncio.create_task(handle.result())
            await host.raise_event("p", Reached, 10)
            await watcher.until(10)
            before = host._session.id
            await storage.steal_lease(before)
            async with ProcessClient(url) as client:
                await client.raise_event("p", Reached, 100)
                assert (await watcher.end()).ended
                assert await asyncio.wait_for(result, SOON) == 100
            assert host._session.id != before
            done = [status.progress.done for status in watcher.told if status.progress]
            assert done == sorted(done)
