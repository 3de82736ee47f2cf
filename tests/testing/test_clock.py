"""ManualClock: a year in a moment, without a sleep, and never under the feet of what is still running."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from durable import Event, Process, ProcessHost, Retry, process
from durable.testing import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Go = Event("go", str)


@process
async def monthly(proc: Process, months: int) -> timedelta:
    late = timedelta(0)
    for month in range(months):
        late += await proc.delay(30 * DAY, f"month {month}")
    return late


@process
async def patient(proc: Process) -> str:
    return await proc.event(Go, timeout=2 * DAY)


def host(clock: ManualClock, url: str = "memory://") -> ProcessHost:
    return ProcessHost(url, [monthly, patient, stubborn, flaky, hanging], clock=clock)


async def test_a_year_of_delays_takes_a_moment() -> None:
    """With autojump, delays follow each other by themselves, each on time, and the clock shows their sum."""
    clock = ManualClock(START, autojump=True)
    async with host(clock) as it, asyncio.timeout(10):
        assert await (await it.start(monthly(12))).result() == timedelta(0)
    assert clock.time == START + 360 * DAY


async def test_advance_stops_at_everything_due_on_the_way() -> None:
    """One call moves through delays that are only asked for on the way, and to the very end of the given length."""
    clock = ManualClock(START)
    async with host(clock) as it, asyncio.timeout(10):
        handle = await it.start(monthly(3))
        await clock.advance(89 * DAY)
        assert clock.time == START + 89 * DAY
        assert not (await handle.status()).ended
        await clock.advance(DAY)
        assert await handle.result() == timedelta(0)


async def test_time_stands_still_by_itself() -> None:
    """Without autojump nothing is due before the test says so, so an event can come in time."""
    clock = ManualClock(START)
    async with host(clock) as it, asyncio.timeout(10):
        handle = await it.start(patient())
        await clock.advance(2 * DAY - timedelta(microseconds=1))
        await it.raise_event(handle.id, Go, "in time")
        assert await handle.result() == "in time"


async def test_a_timeout_comes_when_nothing_else_can() -> None:
    """With autojump, a process that waits for an event nobody raises reaches its timeout."""
    clock = ManualClock(START, autojump=True)
    async with host(clock) as it, asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await (await it.start(patient())).result()
    assert clock.time == START + 2 * DAY


async def test_an_event_raised_next_is_not_jumped_over() -> None:
    """A test that starts a process and raises its event in the next line is quicker than the jump."""
    clock = ManualClock(START, autojump=True)
    async with host(clock) as it, asyncio.timeout(10):
        handle = await it.start(patient())
        await it.raise_event(handle.id, Go, "at once")
        assert await handle.result() == "at once"
    assert clock.time == START


@process
async def stubborn(proc: Process) -> str:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(proc.delay(DAY, "a day"))
        group.create_task(proc.do(_wait_for_permission, "permission"))
    return f"late by {waiting.result()}"


_permission: asyncio.Event


async def _wait_for_permission() -> None:
    await _permission.wait()


async def test_no_jump_while_an_action_runs() -> None:
    """A running action holds time still, however long it takes, since its host is not quiet."""
    global _permission
    _permission = asyncio.Event()
    clock = ManualClock(START, autojump=True)
    async with host(clock) as it, asyncio.timeout(10):
        handle = await it.start(stubborn())
        await asyncio.sleep(0.02)  # many looks of the clock
        assert clock.time == START
        _permission.set()
        await handle.result()
    assert clock.time == START + DAY


_failures = 0


@process
async def flaky(proc: Process) -> int:
    return await proc.do(_fail_twice, "flaky", retry=Retry(3, delay=timedelta(hours=6), longest=DAY, jitter=0))


def _fail_twice() -> int:
    global _failures
    _failures += 1
    if _failures < 3:
        raise ConnectionError("not now")
    return _failures


async def test_pauses_between_attempts_are_jumped_over() -> None:
    """A back-off of hours costs a test nothing."""
    clock = ManualClock(START, autojump=True)
    async with host(clock) as it, asyncio.timeout(10):
        assert await (await it.start(flaky())).result() == 3
    assert clock.time == START + timedelta(hours=18)


@process
async def hanging(proc: Process) -> None:
    await proc.do(asyncio.Event().wait, "for ever", timeout=timedelta(seconds=30))


async def test_jump_reaches_the_timeout_of_an_action_that_hangs() -> None:
    """`jump` waits for nothing, so it is the way to end what never ends by itself."""
    clock = ManualClock(START)
    async with host(clock) as it, asyncio.timeout(10):
        handle = await it.start(hanging())
        async for status in handle.watch():
            if "do 'for ever'" in status.waits_for:
                break
        clock.jump(timedelta(seconds=30))
        with pytest.raises(TimeoutError):
            await handle.result()


async def test_time_outlives_a_host() -> None:
    """The next host on the same store goes on at the time of the last, with what is left of a delay."""
    clock = ManualClock(START)
    store = "memory://manual-clock-outlives"
    async with host(clock, store) as it:
        handle = await it.start(monthly(1), id="one")
        await clock.advance(20 * DAY)
        assert not (await handle.status()).ended
    await clock.advance(9 * DAY)
    async with host(clock, store) as it, asyncio.timeout(10):
        await clock.advance(timedelta(0))
        assert not (await it.get("one").status()).ended
        await clock.advance(DAY)
        assert await it.get("one").result() == timedelta(0)


async def test_every_host_must_be_quiet() -> None:
    """Two hosts on one clock: what one of them does holds the time of both."""
    clock = ManualClock(START, autojump=True)
    busy = True
    first, second = clock.attach(lambda: not busy), clock.attach(lambda: True)
    rung = asyncio.Event()
    clock.call_at(clock.now() + 1, rung.set)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rung.wait(), 0.02)
    busy = False
    await asyncio.wait_for(rung.wait(), 10)
    first.cancel()
    second.cancel()


async def test_a_cancelled_alarm_is_not_jumped_to() -> None:
    """Time is not moved for an alarm that was called off, and a due one is rung from the loop, not at once."""
    clock = ManualClock(START)
    rung: list[str] = []
    clock.call_at(clock.now() + 1_000_000, lambda: rung.append("cancelled")).cancel()
    clock.call_at(clock.now(), lambda: rung.append("due"))
    assert rung == []
    await clock.advance(DAY)
    assert rung == ["due"]


async def test_time_does_not_go_back() -> None:
    """A negative length and a start without a time zone are refused where they are written."""
    with pytest.raises(ValueError, match="go back"):
        await ManualClock().advance(-DAY)
    with pytest.raises(ValueError, match="go back"):
        ManualClock().jump(-DAY)
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))
