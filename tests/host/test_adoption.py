"""Taking in many processes at once: in slices between which the loop is free, and none of them once the host leaves."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from durable import Process, ProcessClient, ProcessHost, current_step, process
from tests.host.staging import SOON, until

MANY = 30


@pytest.fixture
def each_takes_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it really takes: to the one who measures it, taking in one process takes a second."""
    seconds = count(1.0)
    monkeypatch.setattr("durable._host.engine.adoption.monotonic", lambda: next(seconds))


async def test_other_callbacks_have_their_turn_between_slices(url: str, each_takes_a_slice: None) -> None:
    """A host that takes in many processes does not keep its program from anything else for longer than a slice."""
    turn = 0
    turns: list[int] = []

    @process
    async def note_turn(proc: Process) -> None:
        turns.append(turn)

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with ProcessClient(url) as client:
        for number in range(MANY):
            await client.start(note_turn(), id=f"p{number}")
    taking = asyncio.create_task(take_turns())
    async with ProcessHost(url, [note_turn]) as host:
        for number in range(MANY):
            await host.get(f"p{number}").result(SOON)
    taking.cancel()
    await asyncio.wait([taking])
    assert len(set(turns)) == MANY


async def test_a_host_that_leaves_takes_in_no_more(url: str, each_takes_a_slice: None) -> None:
    """Processes it has claimed and not taken in run nothing here; the next host goes on with them."""
    began: list[str] = []
    has_begun = asyncio.Event()

    @process
    async def note(proc: Process) -> str:
        began.append(proc.id)
        has_begun.set()
        return str(await proc.event("go"))

    async with ProcessClient(url) as client:
        for number in range(MANY):
            await client.start(note(), id=f"p{number}")
    async with ProcessHost(url, [note]):
        await has_begun.wait()
    for _ in range(MANY):  # as many turns as all of them would have needed
        await asyncio.sleep(0)
    assert 0 < len(began) < MANY
    async with ProcessHost(url, [note]) as host:
        for number in range(MANY):
            await host.raise_event(f"p{number}", "go", number)
            assert await host.get(f"p{number}").result(SOON) == str(number)


async def test_what_is_being_taken_in_has_its_place(url: str, each_takes_a_slice: None) -> None:
    """Who is started while a host takes in as many as it may have waits for its turn."""
    began: list[str] = []
    has_begun, release = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.append(current_step().process_id)
        has_begun.set()
        await release.wait()

    @process
    async def busy(proc: Process) -> None:
        await proc.do(work, "work")

    async with ProcessClient(url) as client:
        for number in range(MANY):
            await client.start(busy(), id=f"p{number}")
    async with ProcessHost(url, [busy], limit=MANY) as host:
        await has_begun.wait()
        assert len(began) < MANY
        late = await host.start(busy(), id="late")
        assert not (await late.status()).resident
        await until(lambda: len(began) == MANY)
        release.set()
        await late.result(SOON)
        assert began[-1] == "late"
