"""
Many hosts on one PostgreSQL: how long a process stands still when its host is gone, and until an event reaches it.

Hosts are OS processes of their own. Each prints the time of every step, on a clock that is the same for all of them, so
a pause is what lies between the last step on one host and the first on another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from benchmarks.report import Row, milliseconds
from benchmarks.stores import Store
from durable import Process, ProcessClient, ProcessHost, process
from durable.storage import open_storage
from tests.postgres_server import with_options

_LEASE = 2.0
_ROUNDS = 5
_EVENTS = 100
_SETTLED = 1.5  # seconds after which a host is one that has been there for a while, not one that has just begun


@process
async def ticking(proc: Process) -> None:
    """A step every few milliseconds, for as long as it is let."""
    for number in range(100_000):
        await proc.do(_tick, f"tick {number}")


async def _tick() -> None:
    print(time.monotonic(), flush=True)
    await asyncio.sleep(0.005)


@process
async def woken(proc: Process) -> float:
    """When the step after an event began."""
    await proc.event("go")
    return await proc.do(_now, "went")


async def _now() -> float:
    return time.monotonic()


async def takeover(store: Store) -> list[Row]:
    """Pauses after a crash and after a clean shutdown; an event from elsewhere into a parked process."""
    url = store.url("takeover")
    crash = await _pauses(url, signal.SIGKILL)
    leaving = await _pauses(url, signal.SIGTERM)
    listening = await _wake_ups(url)
    polling = await _wake_ups(with_options(store.url("polled"), pooler="transaction"))
    listened, polled = statistics.median(listening), statistics.median(polling)
    return [
        Row(
            f"PostgreSQL: takeover after kill -9, lease {_LEASE:.0f} s, longest of {_ROUNDS}",
            f"{max(crash):.2f} s (median {statistics.median(crash):.2f})",
            f"< {_LEASE + 1:.0f} s",
        ),
        Row(
            f"… after a clean shutdown, longest of {_ROUNDS}",
            f"{milliseconds(max(leaving))} (median {milliseconds(statistics.median(leaving))})",
            "< 200 ms",
        ),
        Row(
            "… event of a client into a parked process, to its next step, p50, LISTEN",
            milliseconds(listened),
            "< 10 ms",
        ),
        Row("… by polling alone", milliseconds(polled), "< 250 ms"),
    ]


async def _pauses(url: str, end: signal.Signals) -> list[float]:
    """How long a process stands still when its host ends so, several times."""
    pauses = []
    for _ in range(_ROUNDS):
        async with ProcessClient(url) as client, _host(url) as first:
            handle = await client.start(ticking())
            await _line(first)
            async with _host(url) as second:
                await asyncio.sleep(_SETTLED)
                first.send_signal(end)
                then = float(await _line(second))
                *_, last = [float(line) async for line in _lines(first)]
                pauses.append(then - last)
                await client.terminate(handle.id, "measured")
                await asyncio.wait_for(_ended(client, handle.id), 30)
    return pauses


async def _wake_ups(url: str) -> list[float]:
    """Seconds from the raise of an event in this OS process to the next step of a parked process in another one."""
    storage, seconds = open_storage(url), []
    async with _host(url), ProcessClient(url) as client:
        await storage.open()
        for _ in range(_EVENTS):
            handle = await client.start(woken())
            while (row := await storage.row(handle.id)) is None or row.owner is not None or row.wake_at is not None:
                await asyncio.sleep(0.005)
            before = time.monotonic()
            await client.raise_event(handle.id, "go")
            seconds.append(await handle.result() - before)
        await storage.close()
    return seconds


async def _ended(client: ProcessClient, id: str) -> None:
    async for _ in client.get(id).watch():
        pass


@asynccontextmanager
async def _host(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A host in an OS process of its own, ready; killed at the end if it still runs."""
    command = [sys.executable, "-m", "benchmarks.takeover", url]
    host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        await _line(host)
        yield host
    finally:
        if host.returncode is None:
            host.kill()
        await host.wait()


async def _line(host: asyncio.subprocess.Process) -> bytes:
    assert host.stdout is not None
    return await host.stdout.readline()


async def _lines(host: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """What it has still to say, until its end."""
    while line := await _line(host):
        yield line


async def _serve(url: str) -> None:
    host = ProcessHost(
        url,
        [ticking, woken],
        name=f"host {os.getpid()}",
        lease=timedelta(seconds=_LEASE),
        park_after=timedelta(milliseconds=1),
    )
    async with host:
        print("ready", flush=True)
        await host.serve()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
