"""
A program whose processes hold everything open that Python closes by itself, and that leaves them in one of many ways.

Run as ``python -m tests.host.held_open WAY URL FILE``: whatever runs on the way out of a process is noted in FILE.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from datetime import timedelta
from typing import Any

from durable import Process, ProcessCancelled, ProcessHost, ProcessTerminated, process
from durable.storage import open_storage

Note = Callable[[str], None]


def note(what: str) -> None:
    with open(sys.argv[3], "a", encoding="utf-8") as file:
        file.write(what + "\n")


class Plain:
    """A context manager, sync and async."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        note("with")

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *error: object) -> None:
        note("async with")


@contextlib.contextmanager
def managed() -> Iterator[None]:
    try:
        yield
    finally:
        note("contextmanager")


@contextlib.asynccontextmanager
async def managed_async() -> AsyncIterator[None]:
    try:
        yield
    finally:
        note("asynccontextmanager")


async def waiting_generator(proc: Process) -> AsyncGenerator[int, None]:
    try:
        yield 1
        await proc.event("never")
        yield 2
    finally:
        note("async generator that waits")


async def idle_generator() -> AsyncGenerator[int, None]:
    try:
        yield 1
        yield 2
    finally:
        note("async generator that is held")


def plain_generator() -> Generator[int, None, None]:
    try:
        yield 1
        yield 2
    finally:
        note("generator that is held")


# --- what a process holds open; the value is what is noted when it really ends ---


async def in_finally(proc: Process) -> None:
    try:
        await proc.event("never")
    finally:
        note("finally")


async def in_with(proc: Process) -> None:
    with Plain():
        await proc.event("never")


async def in_async_with(proc: Process) -> None:
    async with Plain():
        await proc.event("never")


async def in_except_base(proc: Process) -> None:
    try:
        await proc.event("never")
    except BaseException:
        note("except BaseException")
        raise


async def in_bare_except(proc: Process) -> None:
    try:
        await proc.event("never")
    except:
        note("bare except")
        raise


async def in_except_cancelled(proc: Process) -> None:
    try:
        await proc.event("never")
    except asyncio.CancelledError:
        note("except CancelledError")
        raise


async def in_contextmanager(proc: Process) -> None:
    with managed():
        await proc.event("never")


async def in_asynccontextmanager(proc: Process) -> None:
    async with managed_async():
        await proc.event("never")


async def in_exit_stack(proc: Process) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(note, "exit stack")
        await proc.event("never")


async def in_async_for(proc: Process) -> None:
    async for _ in waiting_generator(proc):
        pass


async def with_idle_async_generator(proc: Process) -> None:
    generator = idle_generator()
    await anext(generator)
    await proc.event("never")


async def with_idle_generator(proc: Process) -> None:
    generator = plain_generator()
    next(generator)
    await proc.event("never")
    generator.close()


async def in_tasks(proc: Process) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_finally(proc))


async def in_gather(proc: Process) -> None:
    await asyncio.gather(in_with(proc), asyncio.sleep(3600))


async def in_timeout(proc: Process) -> None:
    async with asyncio.timeout(3600):
        await asyncio.wait_for(in_finally(proc), 1800)


async def in_lock(proc: Process) -> None:
    lock = asyncio.Lock()
    async with lock, Plain():
        await lock.acquire()


async def in_delay_in_finally(proc: Process) -> None:
    """Stopped while it clears up already: the clearing up is not cut short either."""
    try:
        await proc.get(1, "first")
    finally:
        try:
            await proc.event("never")
        finally:
            note("finally in finally")


HELD: dict[Callable[[Process], Awaitable[None]], str] = {
    in_finally: "finally",
    in_with: "with",
    in_async_with: "async with",
    in_except_base: "except BaseException",
    in_bare_except: "bare except",
    in_except_cancelled: "except CancelledError",
    in_contextmanager: "contextmanager",
    in_asynccontextmanager: "asynccontextmanager",
    in_exit_stack: "exit stack",
    in_async_for: "async generator that waits",
    with_idle_async_generator: "async generator that is held",
    with_idle_generator: "generator that is held",
    in_tasks: "finally",
    in_gather: "with",
    in_timeout: "finally",
    in_lock: "async with",
    in_delay_in_finally: "finally in finally",
}
_BY_NAME = {function.__name__: function for function in HELD}


@process
async def held(proc: Process, what: str) -> None:
    await _BY_NAME[what](proc)


@process
async def touched(proc: Process) -> int:
    return await proc.do(lambda: 1, "one")


# --- ways to leave them ---


async def start_all(host: ProcessHost) -> None:
    for name in _BY_NAME:
        await host.start(held(name), id=name)
    await (await host.start(touched(), id=f"touched by {os.getpid()}")).result()  # so all of them have come to rest


async def leave(url: str) -> None:
    """The host is left as it should be."""
    async with ProcessHost(url, [held, touched]) as host:
        await start_all(host)
    gc.collect()


async def leave_with_error(url: str) -> None:
    """The host is left because something else in the program failed."""
    with contextlib.suppress(LookupError):
        async with ProcessHost(url, [held, touched]) as host:
            await start_all(host)
            raise LookupError


async def forget(url: str) -> None:
    """The host is never left: `asyncio.run` cancels what it finds, and closes the generators it knows."""
    host = await ProcessHost(url, [held, touched]).__aenter__()
    await start_all(host)


async def fall_out(url: str) -> None:
    """The program ends in the middle, with its host open."""
    await forget(url)
    raise SystemExit(3)


async def interrupt(url: str) -> None:
    """Ctrl-C: `asyncio.run` cancels its main task, which leaves the host on its way out."""
    async with ProcessHost(url, [held, touched]) as host:
        await start_all(host)
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()


@process
async def interrupted(proc: Process) -> None:
    """Where a Ctrl-C happens to strike: in the code of a process."""
    await proc.get(1, "first")
    raise KeyboardInterrupt


async def interrupt_step(url: str) -> None:
    """Ctrl-C while the code of one process runs: that step is void, and the others notice nothing."""
    async with ProcessHost(url, [held, touched, interrupted]) as host:
        await start_all(host)
        await host.start(interrupted(), id="interrupted")
        await asyncio.Event().wait()


async def park(url: str) -> None:
    """What can be parked is parked; what cannot stays in memory until the host is left."""
    async with ProcessHost(url, [held, touched], park_after=timedelta(milliseconds=1)) as host:
        await start_all(host)
        # One by one: a resident that waits is either parked or known to be unparkable.
        while any(host._engine.by_id[id] not in host._engine.parking.unparkable for id in host._engine.by_id):
            await asyncio.sleep(0.005)
        assert len(host._engine.residents) < len(HELD), "nothing was parked"
    gc.collect()


async def lose(url: str) -> None:
    """The session is declared dead under the host, which lets go of everything and begins another."""
    async with ProcessHost(url, [held, touched]) as host:
        await start_all(host)
        first = host._session
        other = open_storage(url)
        await other.open()
        other._lease_clock = lambda: 1e9  # type: ignore[attr-defined]  # a year from now, every lease has run out
        assert await other.bury() == 1
        await other.close()
        with contextlib.suppress(Exception):
            await host.start(touched(), id="the store says no")
        while host._session is first or len(host._engine.residents) < len(HELD):
            await asyncio.sleep(0.005)
        gc.collect()
    gc.collect()


async def terminate_all(url: str) -> None:
    """Ended from outside: that none of their code runs is what `terminate` is for."""
    async with ProcessHost(url, [held, touched]) as host:
        await start_all(host)
        for name in _BY_NAME:
            await host.terminate(name, "hopeless")
        for name in _BY_NAME:
            with contextlib.suppress(ProcessTerminated):
                await host.get(name).result()
    gc.collect()


async def cancel_all(url: str) -> None:
    """Really cancelled: everything runs."""
    async with ProcessHost(url, [held, touched]) as host:
        await start_all(host)
        for name in _BY_NAME:
            note(f"# {name}")
            await host.get(name).cancel("enough")
            with contextlib.suppress(ProcessCancelled):
                await host.get(name).result()
            gc.collect()  # an abandoned plain generator is closed when it is freed, as in any program


async def end_all(url: str) -> None:
    """Come to their end by themselves: everything runs."""
    async with ProcessHost(url, [held, touched]) as host:
        await start_all(host)
        for name in _BY_NAME:
            if name not in ("in_gather", "in_lock"):  # these wait for time, or for ever
                note(f"# {name}")
                await host.raise_event(name, "never")
                await host.get(name).result()


def main() -> None:
    way: Callable[[str], Any] = globals()[sys.argv[1]]
    logging.getLogger("durable").addHandler(logging.NullHandler())
    asyncio.run(way(sys.argv[2]))


if __name__ == "__main__":
    main()
