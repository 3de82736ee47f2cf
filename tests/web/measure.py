"""
Measured by hand, not a test: how soon an update reaches 500 listeners, and how many queries they cost.

``python -m tests.web.measure`` runs host, server and listeners as OS processes of their own, on one SQLite file: first
with the server in the host's program, then with a client of its own elsewhere. The time counts from the moment an
event is raised that makes a process report progress, to the moment a listener has the report; the event's way to
storage is in it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from durable import ProcessClient, ProcessHost
from durable.web import Limits, app
from tests.web.counting import Counted
from tests.web.listening import Listener, listening
from tests.web.served import serving
from tests.web.shop import SHOP, Report, reporting

UPDATES, PAUSE = 20, 0.5
FREE = Limits(rate=None)


async def listen(address: str, ids: list[str], number: int) -> None:
    """Open *number* streams over *ids*; say so; say for each update how long it took to the first and the last."""
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(listening(address, ids[index % len(ids)])) for index in range(number)
        ]
        print("listening", flush=True)
        delays: list[list[float]] = [[] for _ in range(UPDATES)]

        async def follow(listener: Listener) -> None:
            seen = 0
            while seen < UPDATES:
                told = await listener.next()
                assert told is not None
                progress = told.status["progress"]
                if progress and progress["message"] == f"step {seen + 1}":
                    delays[seen].append(time.time() - progress["done"] / 1e6)
                    seen += 1

        await asyncio.gather(*map(follow, listeners))
    last = [max(some) * 1000 for some in delays]
    half = statistics.median(delay * 1000 for some in delays for delay in some)
    print(f"half within {half:.0f} ms, all within {statistics.median(last):.0f} ms (worst update {max(last):.0f} ms)")


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


async def measure(where: str, processes: int, listeners: int) -> None:
    """One figure: *where* is "here" or "elsewhere"."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'processes.db'}"
        storage = Counted(url)
        async with ProcessHost(storage, SHOP) as host, AsyncExitStack() as stack:
            ids = [f"r{number}" for number in range(processes)]
            await asyncio.gather(*(host.start(reporting(), id=id) for id in ids))
            elsewhere = None
            if where == "here":
                address = (await stack.enter_async_context(serving(app(host, limits=FREE), grace=1))).address
            else:
                elsewhere = await child("serve", url)
                address = await said(elsewhere)
            listening = await child("listen", address, str(listeners), *ids)
            assert await said(listening) == "listening"
            before = storage.reads if elsewhere is None else await reads_of(elsewhere)
            began = time.monotonic()
            for _ in range(UPDATES):
                await asyncio.sleep(PAUSE)
                for id in ids:
                    await host.raise_event(id, Report, time.time_ns() // 1000)
            figure = await said(listening)
            reads = (storage.reads if elsewhere is None else await reads_of(elsewhere)) - before
            rate = reads / (time.monotonic() - began)
            print(f"{listeners} listeners of {processes} processes, {where}: {figure};", end=" ")
            print(f"{rate:.1f} queries a second, {rate / listeners:.3f} each", flush=True)
            await listening.wait()
            if elsewhere is not None:
                assert elsewhere.stdin is not None
                elsewhere.stdin.close()
                await elsewhere.wait()
            for id in ids:
                await host.terminate(id, "measured")


async def main(arguments: list[str]) -> None:
    match arguments:
        case ["listen", address, number, *ids]:
            await listen(address, ids, int(number))
        case ["serve", url]:
            await serve_elsewhere(url)
        case _:
            for where in ("here", "elsewhere"):
                for processes in (1, 50):
                    await measure(where, processes, 500)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
