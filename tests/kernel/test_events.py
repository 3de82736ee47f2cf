"""Events: first in first out, put back when their waiter gives up, de-duplicated by key."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import given

from durable._kernel.commands import Take
from durable.errors import DuplicateCheckpoint
from durable.event import Event
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import CODEC, SECOND, Choices, Driver, program_of
from tests.kernel.programs import EVENTS, Node, choices, make_program, programs


def test_events_are_first_in_first_out_per_name() -> None:
    """Events raised before anyone waits are kept, and taken in the order of their records, each name for itself."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "gate")
        for number in range(2):
            trace.append(await proc.event("red", name=f"red {number}"))
        trace.append(await proc.event(Event("blue", str)))

    driver = Driver(program_of(code))
    for name, value in [("blue", "b"), ("red", 1), ("red", 2), ("red", 3)]:
        driver.raise_event(name, value)
    driver.go()
    assert driver.run.trace == [1, 2, "b"]
    assert driver.notes() == ("event never taken: red",)
    driver.check_replays()


def test_waiters_are_served_in_the_order_they_came() -> None:
    """Two waits for one event get the first and the second, the older wait first."""

    async def code(proc: Process, trace: list[Any]) -> None:
        trace.append(await asyncio.gather(*(proc.event("red", name=name) for name in ("old", "young"))))

    driver = Driver(program_of(code))
    assert driver.run.execution.next_waiter("red") == "old"
    driver.raise_event("red", 1)
    assert driver.run.execution.next_waiter("red") == "young"
    driver.raise_event("red", 2)
    assert driver.run.execution.next_waiter("red") is None
    driver.answer(("take", "young"))  # recorded in another order than asked
    driver.go()
    assert driver.run.trace == [[1, 2]]
    driver.check_replays()


def test_a_cancelled_waiter_leaves_its_event_first_in_line() -> None:
    """An event on its way to a waiter that is cancelled is the next one taken, before younger ones."""

    async def code(proc: Process, trace: list[Any]) -> None:
        waiter = asyncio.create_task(proc.event("red", name="first"))
        await proc.get(1, "gate")
        waiter.cancel()
        trace.append(await proc.event("red", name="second"))
        trace.append(await proc.event("red", name="third"))

    driver = Driver(program_of(code))
    driver.raise_event("red", 1)
    driver.raise_event("red", 2)
    driver.answer(("checkpoint", "gate"))
    driver.record(*driver.late.pop())  # TAKEN by the first, too late
    driver.go()
    assert driver.run.trace == [1, 2]
    assert driver.names(Kind.TAKEN) == ["first", "second", "third"]
    driver.check_replays()


def test_a_promised_event_goes_to_the_next_waiter_when_the_first_gives_up() -> None:
    """A waiter that times out while its event is on the way leaves it to the next; its late TAKEN changes nothing."""

    async def code(proc: Process, trace: list[Any]) -> None:
        async def wait(name: str, timeout: timedelta | None) -> Any:
            try:
                return await proc.event("red", name=name, timeout=timeout)
            except TimeoutError:
                return "too late"

        trace.append(await asyncio.gather(wait("hurried", timedelta(seconds=1)), wait("patient", None)))

    driver = Driver(program_of(code))
    driver.answer(("timer", "hurried"))
    driver.raise_event("red", 1)
    stale = driver.open[("take", "hurried")]
    driver.answer(("timer", "hurried"))
    assert Take("patient", 3) in driver.run.execution.outstanding()
    assert stale == Take("hurried", 3)
    driver.record(*driver.late.pop())
    driver.go()
    assert driver.run.trace == [["too late", 1]]
    driver.check_replays()


def test_an_event_that_is_there_wins_over_a_timeout_of_zero() -> None:
    """A wait with a timeout of zero takes an event that has come, and times out at once if none has."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for number in range(2):
            try:
                trace.append(await proc.event("red", name=f"poll {number}", timeout=timedelta(0)))
            except TimeoutError as error:
                trace.append(str(error))
            await proc.get(1, f"gate {number}")

    driver = Driver(program_of(lambda proc, trace: _after_gate(proc, trace, code)))
    driver.raise_event("red", "there")
    driver.go()
    assert driver.run.trace == ["there", "No event 'red' came in time for checkpoint 'poll 1'"]
    driver.check_replays()


async def _after_gate(proc: Process, trace: list[Any], code: Any) -> None:
    await proc.get(1, "gate")
    await code(proc, trace)


def test_a_key_counts_once_for_the_life_of_the_process() -> None:
    """Of events with one name and key only the first arrives; another name or key is another event."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for number in range(3):
            trace.append(await proc.event("red", name=f"red {number}"))

    driver = Driver(program_of(code))
    for value, key in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, None)]:
        driver.raise_event("red", value, key)
        driver.go(limit=len(driver.journal) + 1)
    assert driver.run.trace == [1, 3, 5]
    assert driver.run.execution.has_event_key("red", "a")
    assert not driver.run.execution.has_event_key("blue", "a")
    assert driver.notes() == ()
    driver.check_replays()


def test_a_name_used_twice_raises_where_it_is_written() -> None:
    """A duplicate name raises at its line, live as on replay, and names the fix."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "name")
        for kind in (
            proc.get(1, "name"),
            proc.do(lambda: 1, "name"),
            proc.event("name"),
            proc.delay(timedelta(1), "name"),
        ):
            try:
                await kind
            except DuplicateCheckpoint as error:
                trace.append("proc.scope" in str(error))
        trace.append(await proc.scope("other").get(2, "name"))

    driver = Driver(program_of(code))
    driver.go()
    assert driver.run.trace == [True, True, True, True, 2]
    driver.check_replays()


@given(programs, choices)
def test_every_event_reaches_one_waiter_in_order(tree: Node, numbers: list[int]) -> None:
    """In any run, what the waits of one event name returned is a part of what was raised, nothing twice."""
    driver = Driver(make_program(tree), Choices(numbers), events=EVENTS)
    driver.go()
    for name in EVENTS:
        raised = [
            CODEC.decode(record.payload)[0]
            for record in driver.journal
            if record.kind is Kind.EVENT and record.name == name
        ]
        seen = [entry[2] for entry in driver.run.trace if entry[0] == "event" and len(entry) == 3]
        mine = [value for value in seen if value in raised]
        assert len(mine) == len(set(mine))
    driver.run.drop()


def test_the_lateness_of_a_delay_and_delays_that_are_over() -> None:
    """A delay of zero or less, or until a moment in the past, is one record; it returns how late it woke."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for number, seconds in enumerate((0, -5, 60)):
            trace.append(await proc.delay(timedelta(seconds=seconds), f"delay {number}"))

    driver = Driver(program_of(code))
    driver.answer(("timer", "delay 0"))
    driver.answer(("timer", "delay 1"))
    driver.answer(("timer", "delay 2"))
    driver.now += 3600 * SECOND
    driver.go()
    assert driver.names(Kind.FIRED) == ["delay 2"]
    assert driver.run.trace[0] == timedelta(0)
    assert driver.run.trace[1] == timedelta(seconds=5)
    assert timedelta(seconds=3539) < driver.run.trace[2] < timedelta(seconds=3541)
    driver.check_replays()


def test_records_of_events_that_cannot_be_read_stall_only_their_taker() -> None:
    """An event whose payload cannot be read stalls the process when it is taken, not when it arrives."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "gate")
        await proc.event("red")

    driver = Driver(program_of(code))
    driver.record(Kind.EVENT, "red", b"\xff\xff")
    driver.answer(("checkpoint", "gate"))
    assert driver.run.execution.stalled is None
    commands = driver.run.execution.feed(Record(99, Kind.TAKEN, "red", CODEC.encode(2), driver.now))
    assert [type(command).__name__ for command in commands] == ["Stall"]
    driver.run.drop()
