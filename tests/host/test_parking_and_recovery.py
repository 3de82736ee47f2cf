"""What leaves memory and comes back; what one host leaves and another takes over."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from datetime import timedelta

import pytest

from durable import Event, Process, ProcessClient, ProcessHost, process
from durable.testing import ManualClock

SOON = timedelta(seconds=20)
AT_ONCE = timedelta(0)
Go = Event("go", int)


@process
async def wait(proc: Process) -> int:
    return await proc.event(Go)


async def until_parked(host: ProcessHost, count: int = 0) -> None:
    while len(host._engine.residents) > count:
        await asyncio.sleep(0.001)


async def test_a_parked_process_costs_no_memory_and_wakes_by_event(url: str) -> None:
    """After it was parked nothing of it is in memory; an event brings it back at once."""
    async with ProcessHost(url, [wait], park_after=AT_ONCE) as host:
        handle = await host.start(wait(), id="p")
        task = weakref.ref(host._engine.by_id["p"].execution.tasks()[0])
        await until_parked(host)
        gc.collect()
        assert task() is None
        assert not (await handle.status()).resident
        await host.raise_event("p", Go, 5)
        assert await handle.result(SOON) == 5


async def test_a_parked_process_wakes_when_its_time_has_come(url: str) -> None:
    """A delay goes on while its process is not in memory, and fires on time."""

    @process
    async def sleeper(proc: Process) -> timedelta:
        return await proc.delay(timedelta(days=365), "year")

    clock = ManualClock()
    async with ProcessHost(url, [sleeper], clock=clock, park_after=AT_ONCE) as host:
        handle = await host.start(sleeper(), id="p")
        await until_parked(host)
        await clock.advance(timedelta(days=366))
        late = await handle.result(SOON)
    assert late < timedelta(seconds=1)


async def test_every_kind_of_wait_can_be_parked_and_goes_on(url: str) -> None:
    """In timeouts, task groups, queues, locks, `try/finally`: parked where it waits, then finished as if not."""
    unwound: list[str] = []

    async def in_group(proc: Process) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(proc.scope(str(n)).event(Go)) for n in range(2)]
        return sum(task.result() for task in tasks)

    async def in_timeout(proc: Process) -> int:
        async with asyncio.timeout(3600):
            return await proc.event(Go)

    async def in_finally(proc: Process) -> int:
        try:
            return await proc.event(Go)
        finally:
            unwound.append(proc.id)

    async def in_lock(proc: Process) -> int:
        lock, queue = asyncio.Lock(), asyncio.Queue[int]()

        async def produce() -> None:
            async with lock:
                queue.put_nowait(await proc.event(Go))

        task = asyncio.create_task(produce())
        value = await queue.get()
        await task
        return value

    async def in_wait(proc: Process) -> int:
        first, second = (asyncio.create_task(proc.scope(str(n)).event(Go)) for n in range(2))
        done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
        return sum(task.result() for task in done)

    bodies = [in_group, in_timeout, in_finally, in_lock, in_wait]

    @process
    async def waiting(proc: Process, body: int) -> int:
        return await bodies[body](proc)

    async with ProcessHost(url, [waiting], park_after=AT_ONCE) as host:
        for number in range(len(bodies)):
            await host.start(waiting(number), id=f"p{number}")
        await until_parked(host)
        assert unwound == []
        for number in range(len(bodies)):
            await host.raise_event(f"p{number}", Go, 1)
            await host.raise_event(f"p{number}", Go, 1) if number == 0 else None
        results = [await host.get(f"p{number}").result(SOON) for number in range(len(bodies))]
    assert results == [2, 1, 1, 1, 1]
    assert unwound == ["p2"]


async def test_waiting_processes_beyond_the_limit_are_parked(url: str) -> None:
    """With room for 10, 100 processes wait, 10 at most in memory; each can be reached."""
    async with ProcessHost(url, [wait], limit=10) as host:
        for number in range(100):
            await host.start(wait(), id=f"p{number}")
        await until_parked(host, 10)
        for number in range(100):
            await host.raise_event(f"p{number}", Go, number)
        assert [await host.get(f"p{n}").result(SOON) for n in range(100)] == list(range(100))


async def test_what_cannot_be_dropped_stays_and_is_named_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A process that holds an object which would notice being freed stays resident, with a warning that says why."""

    class Noticing:
        def __del__(self) -> None:
            pass

    @process
    async def holding(proc: Process) -> int:
        noticing = Noticing()
        value = await proc.event(Go)
        del noticing
        return value

    async with ProcessHost(url, [holding], park_after=AT_ONCE) as host:
        with caplog.at_level(logging.WARNING, logger="durable.host"):
            await host.start(holding(), id="p0")
            await host.start(holding(), id="p1")
            while len(host._engine.parking.unparkable) < 2:
                await asyncio.sleep(0.001)
        assert len([record for record in caplog.records if "Noticing" in record.getMessage()]) == 1
        assert len(host._engine.residents) == 2
        await host.raise_event("p0", Go, 1)
        await host.raise_event("p1", Go, 1)
        assert await host.get("p0").result(SOON) + await host.get("p1").result(SOON) == 2


async def test_the_next_host_goes_on_where_the_last_one_left(url: str) -> None:
    """Recorded steps do not run again; the process finishes as if nothing had happened."""
    ran: list[str] = []

    @process
    async def steps(proc: Process) -> list[str]:
        await proc.do(lambda: ran.append("first"), "first")
        await proc.event(Go)
        await proc.do(lambda: ran.append("second"), "second")
        return ran

    async with ProcessHost(url, [steps]) as host:
        handle = await host.start(steps(), id="p")
        while "event 'go'" not in (await handle.status()).waits_for:
            await asyncio.sleep(0)
    async with ProcessHost(url, [steps]) as host:
        await host.raise_event("p", Go, 1)
        await host.get("p").result(SOON)
    assert ran == ["first", "second"]


async def test_leaving_waits_for_running_actions_and_records_them(url: str) -> None:
    """Within the grace period a running action finishes, and its end is in the journal for the next host."""
    started, ran = asyncio.Event(), []

    async def work() -> None:
        started.set()
        await asyncio.sleep(0.05)
        ran.append(1)

    @process
    async def working(proc: Process) -> str:
        await proc.do(work, "work")
        await proc.do(lambda: None, "next")
        return "done"

    async with ProcessHost(url, [working]) as host:
        await host.start(working(), id="p")
        await started.wait()
    async with ProcessHost(url, [working]) as host:
        assert await host.get("p").result(SOON) == "done"
    assert ran == [1]


async def test_two_hosts_share_a_store(url: str) -> None:
    """Each process runs in exactly one of them, whoever started it; results and events cross over."""
    ran: list[str] = []

    @process
    async def once(proc: Process) -> int:
        await proc.do(lambda: ran.append(proc.id), "once")
        return await proc.event(Go)

    async with ProcessHost(url, [once], name="a") as a, ProcessHost(url, [once], name="b") as b:
        for number in range(20):
            await (a if number % 2 else b).start(once(), id=f"p{number}")
        for number in range(20):
            await (b if number % 2 else a).raise_event(f"p{number}", Go, number)
        results = [await (b if number % 3 else a).get(f"p{number}").result(SOON) for number in range(20)]
    assert results == list(range(20))
    assert sorted(ran) == sorted(f"p{number}" for number in range(20))


async def test_a_session_declared_dead_writes_nothing_and_begins_anew(url: str) -> None:
    """A host that lost its session lets go without unwinding, and its processes go on in a new session."""
    unwound: list[int] = []

    @process
    async def waiting(proc: Process) -> int:
        try:
            return await proc.event(Go)
        finally:
            unwound.append(1)

    async with ProcessHost(url, [waiting], lease=timedelta(seconds=1)) as host:
        handle = await host.start(waiting(), id="p")
        first = host._session.id
        await host._storage.end_session(first)  # as another host would do after the lease
        async with ProcessClient(url) as client:
            await client.raise_event("p", Go, 7)
            assert await client.get("p").result(SOON) == 7
        assert host._session.id != first
        assert await handle.result(SOON) == 7
    assert unwound == [1]
