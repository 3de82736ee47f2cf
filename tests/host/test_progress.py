"""Progress: of the process and of each action that runs, for watchers here and elsewhere, however often it is said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from durable import Process, ProcessClient, ProcessHost, ProcessStatus, current_step, process
from durable.storage import JournalStorage, ProcessRow, open_storage
from durable.testing.storage_proxy import Operation, StorageProxy

REPORTS = 20_000
T = TypeVar("T")


class Gate:
    """Lets sync actions wait for the test."""

    def __init__(self) -> None:
        self.event = threading.Event()


gates: dict[str, Gate] = {}


def count_to(name: str, number: int) -> None:
    """Report in a tight loop, then wait until the test has seen the last report."""
    for done in range(1, number + 1):
        current_step().progress(done, number, f"{name} {done}")
    assert gates[name].event.wait(20)


@process
async def two_counters(proc: Process) -> str:
    proc.progress(0, 2, "begun")
    await asyncio.gather(*(proc.do(lambda name=name: count_to(name, REPORTS), name) for name in ("left", "right")))
    proc.progress(2, 2, "counted")
    await proc.event("go")
    return "over"


async def until(updates: AsyncIterator[ProcessStatus], **steps: float) -> ProcessStatus:
    """The first update in which these steps have got so far."""
    async for status in updates:
        found = {} if status.progress is None else {name: one.done for name, one in status.progress.steps.items()}
        if found == steps:
            return status
    raise AssertionError("it ended")


async def watch_both(watching: ProcessClient, host: ProcessHost) -> None:
    gates.update(left=Gate(), right=Gate())
    await host.start(two_counters(), id="p")
    updates = watching.get("p").watch()
    async with asyncio.timeout(20):
        both = await until(updates, left=REPORTS, right=REPORTS)
        assert both.progress is not None
        assert both.progress.steps["left"].message == f"left {REPORTS}"
        assert both.progress.message in {f"{name} {REPORTS}" for name in gates}
        gates["left"].event.set()
        await until(updates, right=REPORTS)
        gates["right"].event.set()
        last = await until(updates)
        while last.progress is None or last.progress.message != "counted":
            last = await anext(updates)
        assert (last.progress.done, last.progress.steps) == (2, {})
        await host.raise_event("p", "go")
        assert [status.status.value async for status in updates][-1] == "completed"


async def test_a_watcher_here_sees_process_and_steps(url: str) -> None:
    """In the host itself, the last report of each action that runs gets through, and goes when the action ends."""
    async with ProcessHost(url, [two_counters]) as host:
        await watch_both(host, host)


async def test_a_watcher_elsewhere_sees_the_same(url: str) -> None:
    """A client finds the same in the store, the last report included, while the process runs on."""
    async with ProcessHost(url, [two_counters]) as host, ProcessClient(url) as client:
        await watch_both(client, host)


class CountingWrites(StorageProxy):
    """Counts the reports of progress that are written."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.written = 0

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.batch is not None:
            self.written += len(operation.batch.progress)
        return await call()


@process
async def talkative(proc: Process) -> None:
    for done in range(REPORTS):
        proc.progress(done)
    await proc.do(report_much, "much")


async def report_much() -> None:
    for done in range(REPORTS):
        current_step().progress(done)


async def test_many_reports_are_few_writes(url: str) -> None:
    """Tens of thousands of reports cost a handful of writes, and none of them is a record."""
    storage = CountingWrites(open_storage(url))
    async with ProcessHost(storage, [talkative]) as host:
        handle = await host.start(talkative())
        await handle.result()
        status = await handle.status()
        assert status.progress is not None
        assert status.progress.done == REPORTS - 1
        assert len(await handle.history()) == 3
    assert storage.written < 100


class CountingReads(StorageProxy):
    """Counts how often the row of a process is read."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.read = 0

    async def row(self, id: str) -> ProcessRow | None:
        self.read += 1
        return await super().row(id)

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        self.read += 1
        return await super().rows_by_id(ids)


@process
async def stepwise(proc: Process) -> None:
    for done in range(50):
        proc.progress(done, 50)
        await proc.get(done, f"step {done}")


async def test_watching_here_asks_the_store_nothing(url: str) -> None:
    """Listeners in the host that runs a process see its progress without a query each time."""
    storage = CountingReads(open_storage(url))
    async with ProcessHost(storage, [stepwise]) as host:
        handle = await host.start(stepwise())

        async def listen() -> int:
            return len([status async for status in handle.watch()])

        seen = await asyncio.gather(*(listen() for _ in range(10)))
        assert min(seen) > 5
        assert len(seen) <= storage.read <= len(seen) + 3  # each once at the beginning, and the end for all together
