"""Events from outside, cancellation, deadlines, termination, stalls: how a process is reached and how it ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable import (
    Event,
    Process,
    ProcessCancelled,
    ProcessClient,
    ProcessEnded,
    ProcessHost,
    ProcessNotFound,
    ProcessTerminated,
    ProcessTimedOut,
    process,
)
from durable.testing import ManualClock

SOON = timedelta(seconds=20)
Number = Event("number", int)


@process
async def collect(proc: Process, count: int) -> list[int]:
    return [await proc.scope(str(index)).event(Number) for index in range(count)]


async def test_events_arrive_once_and_in_order(url: str) -> None:
    """A hundred events, some raised before anybody waits, come out as they went in."""
    async with ProcessHost(url, [collect]) as host:
        handle = await host.start(collect(100), id="p")
        for number in range(100):
            await host.raise_event("p", Number, number)
        assert await handle.result(SOON) == list(range(100))


async def test_events_from_a_client_arrive_in_order_too(url: str) -> None:
    """The way through the inbox keeps the order of a sender."""
    async with ProcessHost(url, [collect]) as host, ProcessClient(url) as client:
        handle = await host.start(collect(30), id="p")
        for number in range(30):
            await client.raise_event("p", Number, number)
        assert await handle.result(SOON) == list(range(30))


async def test_an_event_key_is_taken_once_for_the_life_of_the_process(url: str) -> None:
    """A second event with the same key changes nothing, raised here, by a client, or after a restart."""
    async with ProcessHost(url, [collect]) as host, ProcessClient(url) as client:
        await host.start(collect(3), id="p")
        await host.raise_event("p", Number, 1, key="k")
        await host.raise_event("p", Number, 99, key="k")
        await client.raise_event("p", Number, 99, key="k")
    async with ProcessHost(url, [collect]) as host:
        await host.raise_event("p", Number, 99, key="k")
        await host.raise_event("p", Number, 2, key="other")
        await host.raise_event("p", Number, 3)
        assert await host.get("p").result(SOON) == [1, 2, 3]


async def test_raising_to_nobody_is_an_error(url: str) -> None:
    """An unknown id, an ended process, a payload of the wrong type: told at the line."""
    async with ProcessHost(url, [collect]) as host:
        with pytest.raises(ProcessNotFound):
            await host.raise_event("nobody", Number, 1)
        await (await host.start(collect(0), id="ended")).result(SOON)
        with pytest.raises(ProcessEnded):
            await host.raise_event("ended", Number, 1)
        await host.start(collect(1), id="p")
        with pytest.raises(TypeError, match="int"):
            await host.raise_event("p", Number, "one")  # type: ignore[misc]
        with pytest.raises(ProcessNotFound):
            await host.get("nobody").status()
        with pytest.raises(ProcessNotFound):
            await host.get("nobody").result(SOON)


async def test_events_nobody_took_are_noted_at_the_end(url: str) -> None:
    """The end record lists them; nothing is lost silently."""

    @process
    async def ignore(proc: Process) -> None:
        await proc.event("go")

    async with ProcessHost(url, [ignore]) as host:
        handle = await host.start(ignore(), id="p")
        await host.raise_event("p", "other", 1)
        await host.raise_event("p", "go")
        await handle.result(SOON)
        row = await host._storage.row("p")
        assert row is not None
        last = (await host._storage.journal(row.key))[-1]
        assert "other" in str(host._codec.decode(last.payload))


async def test_an_event_that_does_not_come_times_out(url: str) -> None:
    """The timeout is durable: half of it passes in one host, half in the next."""

    @process
    async def patient(proc: Process) -> str:
        try:
            return str(await proc.event("go", timeout=timedelta(days=2)))
        except TimeoutError:
            return "nobody came"

    clock = ManualClock()
    async with ProcessHost(url, [patient], clock=clock) as host:
        await host.start(patient(), id="p")
        await clock.advance(timedelta(days=1))
    async with ProcessHost(url, [patient], clock=clock) as host:
        await clock.advance(timedelta(hours=23))
        assert not (await host.get("p").status()).ended
        await clock.advance(timedelta(hours=2))
        assert await host.get("p").result(SOON) == "nobody came"


async def test_cancelling_runs_compensation(url: str) -> None:
    """`except CancelledError` and `finally` do durable work; the handle says cancelled and why."""
    done: list[str] = []

    @process
    async def booking(proc: Process) -> None:
        await proc.do(lambda: done.append("booked"), "book")
        try:
            await proc.event("paid")
        except asyncio.CancelledError:
            await proc.do(lambda: done.append("unbooked"), "unbook")
            raise
        finally:
            await proc.delay(timedelta(milliseconds=1), "settle")
            await proc.do(lambda: done.append("tidied"), "tidy")

    async with ProcessHost(url, [booking]) as host:
        handle = await host.start(booking(), id="p")
        while "event 'paid'" not in (await handle.status()).waits_for:
            await asyncio.sleep(0)
        await asyncio.gather(handle.cancel("changed my mind"), handle.cancel("again"))
        with pytest.raises(ProcessCancelled, match="changed my mind"):
            await handle.result(SOON)
        assert (await handle.status()).reason == "changed my mind"
        with pytest.raises(ProcessEnded):
            await handle.cancel()
    assert done == ["booked", "unbooked", "tidied"]


async def test_a_process_may_decline_to_be_cancelled(url: str) -> None:
    """As with asyncio: a process that catches its cancellation and returns has completed."""

    @process
    async def stubborn(proc: Process) -> str:
        try:
            await proc.event("go")
        except asyncio.CancelledError:
            return "no"
        return "?"

    async with ProcessHost(url, [stubborn]) as host:
        handle = await host.start(stubborn(), id="p")
        await handle.cancel()
        assert await handle.result(SOON) == "no"


async def test_a_process_past_its_timeout_is_cancelled(url: str) -> None:
    """The deadline of a definition is durable, compensates, and has its own error."""
    done: list[str] = []

    @process(timeout=timedelta(days=30))
    async def limited(proc: Process) -> None:
        try:
            await proc.event("never")
        finally:
            await proc.do(lambda: done.append("tidied"), "tidy")

    clock = ManualClock()
    async with ProcessHost(url, [limited], clock=clock) as host:
        await host.start(limited(), id="p")
        await clock.advance(timedelta(days=20))
    async with ProcessHost(url, [limited], clock=clock) as host:
        await clock.advance(timedelta(days=11))
        with pytest.raises(ProcessTimedOut):
            await host.get("p").result(SOON)
    assert done == ["tidied"]


async def test_terminating_runs_no_code(url: str) -> None:
    """No `finally` of the process runs, its action is told to stop, and the reason is kept."""
    ran: list[str] = []
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    @process
    async def doomed(proc: Process) -> None:
        try:
            await proc.do(work, "work")
        finally:
            ran.append("finally")

    async with ProcessHost(url, [doomed]) as host:
        handle = await host.start(doomed(), id="p")
        await started.wait()
        await host.terminate("p", "beyond repair")
        with pytest.raises(ProcessTerminated, match="beyond repair"):
            await handle.result(SOON)
        assert [entry.kind for entry in await handle.history()] == ["STARTED", "TERMINATED"]
    assert ran == []


async def test_a_process_without_its_definition_stalls_and_goes_on_after_a_deploy(url: str) -> None:
    """A host that lacks the definition keeps the process as it is; the next one that has it finishes it."""
    async with ProcessHost(url, [collect]) as host:
        await host.start(collect(1), id="p")
    async with ProcessHost(url, [], queues=["default"]) as host:
        while (await host.get("p").status()).status != "stalled":
            await asyncio.sleep(0)
        assert "collect" in str((await host.get("p").status()).reason)
        await host.raise_event("p", Number, 5)
    async with ProcessHost(url, [collect]) as host:
        assert await host.get("p").result(SOON) == [5]


async def test_a_process_that_does_not_fit_its_journal_stalls_and_can_be_resumed(url: str) -> None:
    """Another kind of checkpoint under a recorded name: stalled with both sides named, then fixed and resumed."""

    def version(kind: str) -> object:
        @process(name="job")
        async def job(proc: Process) -> str:
            if kind == "do":
                await proc.do(lambda: 1, "first")
            else:
                await proc.get(1, "first")
            await proc.event("go")
            return kind

        return job

    async with ProcessHost(url, [version("do")]) as host:  # type: ignore[list-item]
        definition = host._definitions["job"]
        await host.start(definition(), id="p")  # type: ignore[operator]
        while (await host.get("p").status()).waits_for != ("event 'go'",):
            await asyncio.sleep(0)
    async with ProcessHost(url, [version("get")]) as host:  # type: ignore[list-item]
        while (await host.get("p").status()).status != "stalled":
            await asyncio.sleep(0)
        reason = str((await host.get("p").status()).reason)
        assert "D101" in reason
        assert "'first'" in reason
        host._definitions["job"] = version("do")  # type: ignore[assignment]
        await host.resume("p")
        await host.raise_event("p", "go")
        assert await host.get("p").result(SOON) == "do"


async def test_watching_shows_progress_until_the_end(url: str) -> None:
    """`watch` gives each change and stops when the process has ended; a client sees it too."""

    @process
    async def working(proc: Process) -> None:
        for done in range(1, 4):
            proc.progress(done, 3, f"part {done}")
            await proc.event(f"go {done}")

    async with ProcessHost(url, [working]) as host, ProcessClient(url) as client:
        await host.start(working(), id="p")
        updates = []
        async for status in host.get("p").watch():
            updates.append((status.progress.done if status.progress else None, status.status.value))
            if status.progress and not status.ended:
                await host.raise_event("p", f"go {int(status.progress.done)}")
        assert [done for done, status in updates if status == "running" and done] == [1, 2, 3]
        assert updates[-1][1] == "completed"
        final = [status async for status in client.get("p").watch()]
        assert [status.status for status in final] == ["completed"]


async def test_listing_filters_and_pages(url: str) -> None:
    """Newest first, by status and definition, page by page."""
    async with ProcessHost(url, [collect]) as host:
        for number in range(5):
            await host.start(collect(number % 2), id=f"p{number}")
        for number in (0, 2, 4):
            await host.get(f"p{number}").result(SOON)
        assert [status.id for status in await host.list()] == ["p4", "p3", "p2", "p1", "p0"]
        assert [status.id for status in await host.list(status="running")] == ["p3", "p1"]
        assert [status.id for status in await host.list(status=["completed"], limit=2)] == ["p4", "p2"]
        page = await host.list(limit=2)
        assert [status.id for status in await host.list(limit=2, before=page[-1])] == ["p2", "p1"]
        assert await host.list(name="no such") == []
        assert await host.count(status="completed") == 3
        with pytest.raises(ValueError, match="nonsense"):
            await host.list(status="nonsense")
