"""Where the next life of a process runs, and what of its mail it has seen, when much happens at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from durable import Process, ProcessClient, ProcessHost, process
from durable.testing.storage_proxy import Operation
from tests.host.staging import SOON, GatedStorage, until, until_it_waits, until_stalled

T = TypeVar("T")


@process
async def count_down(proc: Process, lives: int) -> str:
    await proc.event("go")
    if lives == 1:
        return "done"
    await proc.restart(count_down(lives - 1))


async def test_the_next_life_does_not_begin_on_a_host_that_leaves(url: str) -> None:
    """A restart that becomes durable while the host drains runs nothing there; the next host goes on with it."""
    began: list[int] = []

    @process
    async def forever(proc: Process, life: int) -> int:
        began.append(life)
        if life == 1:
            await proc.restart(forever(2))
        return life

    storage = GatedStorage(url)
    restarting = storage.hold_commit(lambda batch: batch.restarts)
    async with ProcessHost(storage, [forever]) as host:
        await host.start(forever(1), id="p")
        await restarting.reached.wait()
        draining = asyncio.create_task(until(lambda: host._engine.draining))
        draining.add_done_callback(lambda _: restarting.open())
    await draining
    assert began == [1]
    async with ProcessHost(url, [forever]) as host:
        assert await host.get("p").result(SOON) == 2
    assert began == [1, 2]


async def test_the_next_life_waits_for_a_host_of_its_queue(url: str) -> None:
    """A host that knows the next definition, and does not serve its queue, leaves it to one that does."""
    began: list[str] = []

    @process
    async def light(proc: Process) -> None:
        await proc.restart(heavy())

    @process(queue="heavy")
    async def heavy(proc: Process) -> str:
        began.append(proc.id)
        return "done"

    async with ProcessHost(url, [light, heavy], queues=["default"]) as host:
        await host.start(light(), id="p")
        async with asyncio.timeout(SOON.total_seconds()):
            async for status in host.get("p").watch():
                if status.definition == "heavy" and not status.resident:
                    break
        assert began == []
        async with ProcessHost(url, [heavy]):
            assert await host.get("p").result(SOON) == "done"
    assert began == ["p"]


class SlowLook(GatedStorage):
    """Looks into the inbox before what was seen there the last time is taken, and tells it after the next restart."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.looks = 0
        self.looked_again = asyncio.Event()
        self.restarted = asyncio.Event()

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        batch = operation.batch
        if batch is not None and batch.taken:
            await self.looked_again.wait()
        result = await super().around(operation, call)
        if batch is not None and batch.restarts:
            self.restarted.set()
        if operation.name == "collect" and result:
            self.looks += 1
            if self.looks == 2:
                self.looked_again.set()
                await self.restarted.wait()
        return result


async def test_mail_that_is_seen_twice_counts_once(url: str) -> None:
    """What one life has taken is nothing to the next, though a slow look shows it again: no event comes twice."""
    storage = SlowLook(url)
    async with ProcessHost(storage, [count_down]) as host, ProcessClient(url) as client:
        handle = await host.start(count_down(3), id="p")
        await client.raise_event("p", "go", 1)
        await until(lambda: storage.looks)
        await client.raise_event("p", "more", 2)
        await storage.restarted.wait()
        await until(lambda: storage.looks == 2 and host._is_quiet())
        assert "event 'go'" in (await handle.status()).waits_for
        for number in (2, 3):
            await host.raise_event("p", "go", number)
        assert await handle.result(SOON) == "done"
        taken = [item for batch in storage.batches for item in batch.taken]
        assert sorted(taken) == sorted(set(taken))


@process
async def patient(proc: Process) -> None:
    await proc.get(1, "begin")
    await proc.event("never")


@process(name="patient")
async def broken(proc: Process) -> None:
    await proc.delay(timedelta(0), "begin")


async def test_mail_that_keeps_a_process_from_leaving_comes_first(url: str) -> None:
    """A process that could not be stalled, for mail had come, tries no other way out before that is in its journal."""
    async with ProcessHost(url, [patient]) as host:
        await host.start(patient(), id="p")
        await until_it_waits(host, "p", "event")
    storage = GatedStorage(url)
    stalling = storage.hold_commit(lambda batch: batch.stalls)
    looking = storage.hold("collect", when=stalling.reached.is_set)
    async with ProcessHost(storage, [broken]) as host, ProcessClient(url) as client:
        await stalling.reached.wait()
        stalled = host._engine.by_id["p"]
        await client.raise_event("p", "other")
        stalling.open()
        await until(lambda: stalled.flagged)
        looking.open()
        await until_stalled(host, "p")
        assert "EVENT" in [entry.kind for entry in await host.get("p").history()]
    assert sum(len(batch.stalls) for batch in storage.batches) == 2
    assert sum(len(batch.parks) for batch in storage.batches) == 1
