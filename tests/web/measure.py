"""
Measured by hand, not a test: how soon an update reaches 500 listeners, and how many queries they cost.

``python -m tests.web.measure`` runs host, server and listeners as OS processes of their own, on one SQLite file (with
``postgres`` as argument: on one server). First the web server is in the host's program, then it serves a client of its
own elsewhere; first all listeners are on one process, then each on a process of its own. The time counts from the
moment an event is raised that makes a process report progress, to the moment a listener has the report over HTTP; the
event's way to storage is in it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from durable import ProcessClient, ProcessHost
from durable.web import Limits, app
from tests.postgres_server import running, with_options
from tests.web.counting import Counted
from tests.web.listening import Listener, listening
from tests.web.served import serving
from tests.web.shop import SHOP, Report, reporting

ROUNDS, PAUSE = 20, 0.5
AT_ONCE = 25  # processes that report in one round
FREE = Limits(rate=None)


async def listen(address: str, ids: list[str], number: int) -> None:
    """Open *number* streams over *ids*; say so; say how long the updates took."""
    updates = ROUNDS * min(AT_ONCE, len(ids)) // len(ids)
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(listening(address, ids[index % len(ids)])) for index in range(number)
        ]
        print("listening", flush=True)
        delays: list[float] = []

        async def follow(listener: Listener) -> None:
            seen = 0
            while seen < updates:
                told = await listener.next()
                assert told is not None
                progress = told.status["progress"]
                if progress and progress["message"] == f"step {seen + 1}":
                    delays.append((time.time() - progress["done"] / 1e6) * 1000)
                    seen += 1

        await asyncio.gather(*map(follow, listeners))
    *_, last = statistics.quantiles(delays, n=20)
    print(f"median {statistics.median(delays):.0f} ms, p95 {last:.0f} ms, max {max(delays):.0f} ms")


async def serve_elsewhere(url: str) -> None:
    """A client with its own server; ends when its input does."""
    storage = Counted(url)
    async with ProcessClient(storage) as client, serving(app(client, limits=FREE), grace=1) as server:
        print(server.address, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(storage.reads if line else 0, flush=True)


async def child(*arguments: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "tests.web.measure", *arguments]
    return await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)


async def said(program: asyncio.subprocess.Process) -> str:
    assert program.stdout is not None
    return (await program.stdout.readline()).decode().strip()


async def reads_of(elsewhere: asyncio.subprocess.Process) -> int:
    assert elsewhere.stdin is not None
    elsewhere.stdin.write(b"how many?\n")
    return int(await said(elsewhere))


async def measure(url: str, where: str, processes: int, listeners: int) -> None:
    """One figure: *where* is "same host" or "across hosts"."""
    storage = Counted(url)
    async with ProcessHost(storage, SHOP) as host, AsyncExitStack() as stack:
        ids = [f"r{number}" for number in range(processes)]
        await asyncio.gather(*(host.start(reporting(), id=id) for id in ids))
        elsewhere = None
        if where == "same host":
            address = (await stack.enter_async_context(serving(app(host, limits=FREE), grace=1))).address
        else:
            elsewhere = await child("serve", url)
            address = await said(elsewhere)
        listening = await child("listen", address, str(listeners), *ids)
        assert await said(listening) == "listening"
        before = storage.reads if elsewhere is None else await reads_of(elsewhere)
        began = time.monotonic()
        for number in range(ROUNDS):
            await asyncio.sleep(PAUSE)
            for index in range(min(AT_ONCE, processes)):
                await host.raise_event(ids[(number * AT_ONCE + index) % processes], Report, time.time_ns() // 1000)
        figure = await said(listening)
        reads = (storage.reads if elsewhere is None else await reads_of(elsewhere)) - before
        rate = reads / (time.monotonic() - began)
        print(f"{processes} × {listeners // processes} listeners, {where}: {figure};", end=" ")
        print(f"{rate:.1f} queries a second, {rate / listeners:.3f} each", flush=True)
        await listening.wait()
        if elsewhere is not None:
            assert elsewhere.stdin is not None
            elsewhere.stdin.close()
            await elsewhere.wait()
        await asyncio.gather(*(host.terminate(id, "measured") for id in ids))


@contextmanager
def store(kind: str) -> Iterator[str]:
    """The URL of stores to which a name is added."""
    with TemporaryDirectory(prefix="durable-measure-") as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/"
        else:
            with running(Path(folder, "server")) as server:
                yield with_options(server.url("postgres"), schema="measured")


async def main(arguments: list[str]) -> None:
    match arguments:
        case ["listen", address, number, *ids]:
            await listen(address, ids, int(number))
        case ["serve", url]:
            await serve_elsewhere(url)
        case _:
            with store(arguments[0] if arguments else "sqlite") as url:
                for where in ("same host", "across hosts"):
                    for processes in (1, 500):
                        await measure(f"{url}_{processes}_{where[:4]}", where, processes, 500)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
