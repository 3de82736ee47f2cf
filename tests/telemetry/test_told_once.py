"""However a process comes and goes, an observer hears of it once, and of each attempt of its actions once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from durable import (
    Event,
    Process,
    ProcessCancelled,
    ProcessClient,
    ProcessExists,
    ProcessHost,
    ProcessTerminated,
    Retry,
    current_step,
    process,
)
from durable.observer import Outcome
from durable.storage import open_storage
from durable.transfer import put, take
from tests.telemetry.hearing import Hearing

Paid = Event("paid", str)
MOMENT = timedelta(milliseconds=1)


@process
async def wait(proc: Process) -> str:
    return await proc.event(Paid)


@process(name="changing")
async def before_the_change(proc: Process) -> str:
    await proc.get(1, "asked")
    return await proc.event(Paid)


@process(name="changing")
async def after_the_change(proc: Process) -> str:
    await proc.delay(MOMENT, "asked")
    return await proc.event(Paid)


@process
async def family(proc: Process, ids: list[str]) -> int:
    refused = 0
    for number, id in enumerate(ids):
        try:
            await proc.start(wait(), f"child {number}", id=id, detached=True)
        except ProcessExists:
            refused += 1
    return refused


@process
async def attempts(proc: Process) -> str:
    """Fails twice, succeeds; then runs into a timeout."""

    def flaky() -> int:
        if current_step().attempt < 3:
            raise ConnectionError
        return current_step().attempt

    await proc.do(flaky, "flaky", retry=Retry(3, delay=MOMENT))
    try:
        await proc.do(lambda: asyncio.sleep(30), "slow", timeout=MOMENT)
    except TimeoutError:
        return "too slow"
    return "in time"


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4()}"


async def test_a_start_that_was_made_before(url: str) -> None:
    """Of several starts under one id, at once and later, here and by a client, the one that made it is told."""
    hearing = Hearing()
    async with ProcessHost(url, [wait], observer=hearing) as host, ProcessClient(url, observer=hearing) as client:
        await asyncio.gather(*(starter.start(wait(), id="1") for starter in (host, client) * 3))
        await host.start(wait(), id="1")
    assert len(hearing.of("process_started", "1")) == 1


async def test_children_that_are_there_already(url: str) -> None:
    """A child that cannot be started because its id is taken is not told, and the others are, each once."""
    hearing = Hearing()
    async with ProcessHost(url, [family, wait], observer=hearing) as host:
        await host.start(wait(), id="2")
        assert await (await host.start(family(["1", "2", "3", "1"]), id="family")).result() == 2
    assert [call.facts[2].id for call in hearing.of("child_started")] == ["1", "3"]
    assert [call.facts[0].id for call in hearing.of("process_started")] == ["2", "family", "1", "3"]


async def test_a_child_and_its_parent_have_one_moment(url: str) -> None:
    """The record of the checkpoint and the first record of the child have the same time, in the store as told."""
    hearing = Hearing()
    async with ProcessHost(url, [family, wait], observer=hearing) as host:
        await (await host.start(family(["1"]), id="family")).result()
        (entry,) = [entry for entry in await host.get("family").history() if entry.kind == "CHILD"]
        first = (await host.get("1").history())[0]
    (told,) = hearing.of("child_started")
    (started,) = hearing.of("process_started", "1")
    assert told.facts[1].time == started.facts[1].time
    assert entry.time == first.time


async def test_a_stall_and_a_fix(tmp_path: Path) -> None:
    """Parked by one host, stalled by the next, resumed and ended by a third: each tells its own part once."""
    url = f"sqlite:///{tmp_path}/processes.db"
    first, second, third = Hearing(), Hearing(), Hearing()
    async with ProcessHost(url, [before_the_change], observer=first, park_after=MOMENT) as host:
        await host.start(before_the_change(), id="1")
        await first.has_heard("process_parked", "1")
    async with ProcessHost(url, [after_the_change], observer=second) as host:
        await host.raise_event("1", Paid, "ann")
        await second.has_heard("process_stalled", "1")
    async with ProcessHost(url, [before_the_change], observer=third) as host:
        assert await host.get("1").result() == "ann"
    assert first.story("1") == ["process_started", "process_parked"]
    assert second.story("1") == ["process_resumed", "process_stalled"]
    assert third.story("1") == ["process_resumed", "process_ended"]


async def test_one_that_was_brought_from_another_store(url: str) -> None:
    """A process that was put into the store, and started by no host of it, is resumed there and ends."""
    source, target, hearing = f"memory://{uuid4()}", open_storage(url), Hearing()
    async with ProcessHost(source, [wait], park_after=MOMENT) as host:
        await host.start(wait(), id="1")
        snapshot = await take(host._storage, "1")
    await target.open()
    await put(target, snapshot)
    async with ProcessHost(url, [wait], observer=hearing) as host:
        await host.raise_event("1", Paid, "ann")
        assert await host.get("1").result() == "ann"
    await target.close()
    assert hearing.story("1")[0] == "process_resumed"
    assert hearing.story("1")[-1] == "process_ended"
    assert hearing.unbalanced() == {}


async def test_ends_that_were_asked_for(url: str) -> None:
    """A process that is cancelled twice, and one that is terminated twice, end once."""
    hearing = Hearing()
    async with ProcessHost(url, [wait], observer=hearing) as host:
        cancelled, terminated = await host.start(wait(), id="1"), await host.start(wait(), id="2")
        await asyncio.gather(cancelled.cancel(), cancelled.cancel())
        await asyncio.gather(host.terminate("2", "a mistake"), host.terminate("2", "a mistake"))
        with pytest.raises(ProcessCancelled):
            await cancelled.result()
        with pytest.raises(ProcessTerminated):
            await terminated.result()
    assert hearing.story("1") == hearing.story("2") == ["process_started", "process_ended"]


async def test_every_attempt_begins_and_ends_once(url: str) -> None:
    """Failed, tried again, done, and let go by its timeout: each attempt is told with its number, at start and end."""
    hearing = Hearing()
    async with ProcessHost(url, [attempts], observer=hearing) as host:
        assert await (await host.start(attempts(), id="1")).result() == "too slow"
        await hearing.has_heard("action_ended", count=4)
    begun = [call.facts[1] for call in hearing.of("action_started")]
    ended = [call.facts[0] for call in hearing.of("action_ended")]
    assert [(step.checkpoint, step.attempt) for step in begun] == [
        ("flaky", 1),
        ("flaky", 2),
        ("flaky", 3),
        ("slow", 1),
    ]
    assert [id(step) for step in ended] == [id(step) for step in begun]
    outcomes = [call.facts[1] for call in hearing.of("action_ended")]
    assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.DONE, Outcome.LET_GO]
    assert [type(call.facts[2]) for call in hearing.of("action_ended")[:3]] == [
        ConnectionError,
        ConnectionError,
        type(None),
    ]
