"""What a host keeps in memory does not grow with what it has done: what it held for a moment is gone afterwards."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import ref

import pytest

from durable import Process, ProcessClient, ProcessHost, ProcessTerminated, process
from durable._host.freeing.reachability import LIMIT
from durable._host.residents.resident import Resident
from durable.storage import InboxItem
from durable.testing.storage_proxy import Operation
from tests.host.staging import SOON, GatedStorage, until, until_it_waits, until_stalled

T = TypeVar("T")


class HeardStorage(GatedStorage):
    """A gated store that knows what mail was collected through it."""

    def __init__(self, store: str) -> None:
        super().__init__(store)
        self.collected: list[InboxItem] = []

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        answer = await super().around(operation, call)
        if operation.name == "collect":
            self.collected += answer  # type: ignore[arg-type]
        return answer


@process
async def gone(proc: Process) -> None: ...


@process
async def another(proc: Process) -> None: ...


async def test_mail_for_what_is_not_in_memory_is_not_kept_there(url: str) -> None:
    """Events come while a process without a definition is being marked as stalled: its inbox has them, the host not."""
    storage = HeardStorage(url)
    async with ProcessHost(storage, [another]) as host, ProcessClient(url) as client:
        marking = storage.hold_commit(lambda batch: batch.stalls)
        await client.start(gone(), id="p")
        await marking.reached.wait()
        await client.raise_event("p", "more", bytes(1000))
        await until(lambda: storage.collected)
        marking.open()
        await until_stalled(client, "p")
        [row] = await client._storage.rows()
        assert [item.name for item in await client._storage.inbox(row.key)] == ["more"]
        assert not host._engine._early


@process
async def moves_on(proc: Process) -> None:
    await proc.restart(gone())


async def test_mail_for_a_next_life_elsewhere_is_not_kept(url: str) -> None:
    """Events come while a process begins a life of a definition that is missing here: the host does not keep them."""
    storage = HeardStorage(url)
    async with ProcessHost(storage, [moves_on]) as host, ProcessClient(url) as client:
        restarting = storage.hold_commit(lambda batch: batch.restarts)
        await client.start(moves_on(), id="p")
        await restarting.reached.wait()
        await client.raise_event("p", "more", bytes(1000))
        await until(lambda: storage.collected)
        restarting.open()
        await until_stalled(client, "p")
        assert not host._engine._early


class Row:
    """Something that can be seen to be freed."""


@process
async def load(proc: Process, seen: str) -> None:
    rows = [Row() for _ in range(2 * LIMIT)]
    _seen[seen] = ref(rows[0])
    await proc.event("go")


_seen: dict[str, ref[Row]] = {}


async def test_a_large_process_that_is_terminated_is_freed(url: str) -> None:
    """It holds too much to be parked, and does not stay in memory for as long as the host lives."""
    async with ProcessHost(url, [load]) as host:
        handle = await host.start(load("terminated"))
        await until_it_waits(host, handle.id, "event")
        assert _seen["terminated"]() is not None
        await host.terminate(handle.id, "not needed")
        with pytest.raises(ProcessTerminated):
            await handle.result(SOON)
        gc.collect()
        assert _seen["terminated"]() is None


async def test_a_large_process_is_freed_when_its_session_is_lost(url: str) -> None:
    """It goes on in the next session, and what it was in the one before is not kept."""
    async with ProcessHost(url, [load]) as host:
        handle = await host.start(load("lost"))
        await until_it_waits(host, handle.id, "event")
        before = _seen["lost"]
        host._lost()
        await until(lambda: _seen["lost"] is not before)
        gc.collect()
        assert before() is None


_behind: list[asyncio.Task[None]] = []


async def open_a_pool() -> None:
    """What is opened by the first who needs it goes on in their context."""
    _behind.append(asyncio.create_task(asyncio.sleep(3600)))


@process
async def use_a_pool(proc: Process) -> None:
    await proc.do(open_a_pool, "opened")


async def test_what_an_action_leaves_behind_does_not_hold_its_process(url: str) -> None:
    """A task that an action began lives on when the process has ended; by the context of it nothing else does."""
    async with ProcessHost(url, [use_a_pool]) as host:
        handle = await host.start(use_a_pool())
        await handle.result(SOON)
        gc.collect()
        held = [found for found in gc.get_objects() if type(found) is Resident and found.id == handle.id]
        _behind.pop().cancel()
        assert held == []


@process
async def dawdle(proc: Process) -> None:
    await proc.event("go")
    time.sleep(0.03)  # longer than a slice of deliveries
    await proc.event("never")


def test_the_collector_is_on_when_hosts_have_left() -> None:
    """A host that loses its session while it delivers, and leaves, does not leave Python's collector switched off."""

    async def lose_and_leave() -> None:
        async with ProcessHost("memory://", [dawdle]) as host:
            ids = [(await host.start(dawdle())).id for _ in range(3)]
            calls = asyncio.gather(*(host.raise_event(id, "go") for id in ids), return_exceptions=True)
            await until(lambda: not host._writer._deliveries.is_empty())
            host._lost()
            await calls

    asyncio.run(lose_and_leave())
    assert gc.isenabled()
