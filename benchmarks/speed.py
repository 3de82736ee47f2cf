"""Throughput and latency of a host on any store, with full durability."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial

from benchmarks import processes
from benchmarks.report import Row, milliseconds
from benchmarks.stores import Store
from durable import ProcessHost


async def throughput(store: Store, count: int = 10_000, rounds: int = 3) -> list[Row]:
    """10 000 processes × 5 steps, started together."""
    rates = []
    for number in range(rounds):
        async with ProcessHost(store.url(f"throughput{number}"), [processes.steps], limit=50_000) as host:
            before = time.perf_counter()
            handles = await asyncio.gather(*(host.start(processes.steps(5), id=f"p{n}") for n in range(count)))
            await asyncio.gather(*(handle.result() for handle in handles))
            rates.append(count * 5 / (time.perf_counter() - before))
    rate = f"{statistics.median(rates):,.0f} steps/s"
    return [Row(f"{count} processes × 5 steps, started together", rate, store.aims.throughput)]


async def latency(store: Store, rounds: int = 15) -> list[Row]:
    """One process at a time. The disk is never the same for long, so every round has its own bare inserts beside it."""
    bares: list[float] = []
    steps: list[float] = []
    ones: list[float] = []
    async with ProcessHost(store.url("latency"), [processes.steps, processes.many_events]) as host:
        for number in range(rounds):
            before = await store.bare()
            steps.append(await _sequential_step(host, number))
            ones.append(await _start_to_result(host, number))
            bares.append((before + await store.bare()) / 2)
        event = await _event_to_step(host)

    def beside(seconds: list[float]) -> str:
        ratio = statistics.median(one / bare for one, bare in zip(seconds, bares, strict=True))
        return f"{milliseconds(statistics.median(seconds))} = {ratio:.2f} × bare"

    return [
        Row(store.bare_name, milliseconds(statistics.median(bares)), ""),
        Row("one sequential step", beside(steps), store.aims.step),
        Row("start to result of a one-step process, p50", beside(ones), "≤ 5 ×"),
        Row("event raised to next step, same host, p50", milliseconds(event), "< 1 ms"),
    ]


async def _sequential_step(host: ProcessHost, number: int, steps: int = 100) -> float:
    before = time.perf_counter()
    await (await host.start(processes.steps(steps), id=f"sequence {number}")).result()
    return (time.perf_counter() - before) / steps


async def _start_to_result(host: ProcessHost, number: int, count: int = 30) -> float:
    seconds = []
    for one in range(count):
        before = time.perf_counter()
        await (await host.start(processes.steps(1), id=f"one {number} {one}")).result()
        seconds.append(time.perf_counter() - before)
    return statistics.median(seconds)


async def _event_to_step(host: ProcessHost, count: int = 200) -> float:
    arrived = asyncio.Event()
    moments: list[float] = []

    def note() -> None:
        moments.append(time.perf_counter())
        arrived.set()

    # Called in the body of the process, which may not touch asyncio objects of others: so through the host's loop.
    loop = asyncio.get_running_loop()
    processes.seen = partial(loop.call_soon, note)
    await host.start(processes.many_events(count), id="events")
    raised = []
    for number in range(count):
        arrived.clear()
        raised.append(time.perf_counter())
        await host.raise_event("events", "go", number)
        await arrived.wait()
    return statistics.median(seen - start for seen, start in zip(moments, raised, strict=True))
