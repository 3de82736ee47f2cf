"""What a process knows of its children: who failed unseen, whom it waits for, whom it has told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from durable._kernel.commands import Alarm, CancelChild
from durable._kernel.program import Program
from durable.codec import describe_error
from durable.definition import process
from durable.errors import IOOutsideCheckpoint
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import CODEC, ActionFailed, Driver, program_of, replayed

FAILURE = describe_error(CODEC, ActionFailed("no"))


@process
async def child(proc: Process) -> int:
    return 1


def with_three_running(make: Callable[[list[Any]], Program]) -> Driver:
    driver = Driver(make)
    for name in ("seen", "unseen", "free"):
        driver.answer(("checkpoint", name))
    return driver


def test_only_failures_that_concern_the_process_are_noted() -> None:
    """The end names an attached child that failed and was not awaited; not one that was, and not a detached one."""

    async def code(proc: Process, trace: list[Any]) -> None:
        seen = await proc.start(child(), "seen")
        await proc.start(child(), "unseen")
        await proc.start(child(), "free", detached=True)
        await proc.event("go")
        with pytest.raises(ActionFailed):
            await seen.result()

    driver = with_three_running(program_of(code))
    for name in ("seen", "unseen", "free"):
        driver.return_child(name, Kind.ERRED, FAILURE)
    driver.raise_event("go", 1)
    driver.go()
    assert driver.notes() == ("child process 'p/unseen' failed, and nobody awaited it",)
    driver.check_replays()


def test_a_result_that_is_wanted_once_is_not_kept() -> None:
    """`call` frees what its child returned when it has handed it over; a handle may be asked again, and keeps it."""

    async def code(proc: Process, trace: list[Any]) -> None:
        trace.append(await proc.call(child(), "called"))
        started = await proc.start(child(), "started")
        trace.append(await started.result())
        await proc.event("go")
        trace.append(await started.result())

    driver = Driver(program_of(code))
    for name, value in (("called", "first"), ("started", "second")):
        driver.answer(("checkpoint", name))
        driver.return_child(name, Kind.COMPLETED, value)
    kin = driver.run.execution.kin
    assert kin is not None
    assert kin["called"].ended == (Kind.COMPLETED, None)
    assert kin["started"].ended == (Kind.COMPLETED, "second")
    driver.raise_event("go", 1)
    driver.go()
    assert driver.run.trace == ["first", "second", "second"]
    driver.check_replays()


def test_nobody_waits_for_a_child_any_more() -> None:
    """What a process waits for names a child only as long as somebody really does."""

    async def code(proc: Process, trace: list[Any]) -> None:
        free = await proc.start(child(), detached=True)
        try:
            async with asyncio.timeout(5):
                await free.result()
        except TimeoutError:
            await proc.event("go")

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    assert driver.run.execution.waits() == [("child", "child", None)]
    driver.answer(next(slot for slot in driver.open if slot[0] == "alarm"))
    assert driver.run.execution.waits() == [("event", "go", "go")]
    driver.check_replays()


def test_a_child_is_awaited_in_its_own_process_only() -> None:
    """Asked for in an action or anywhere else outside, the result of a child is refused with what to do about it."""
    kept: list[Any] = []

    async def code(proc: Process, trace: list[Any]) -> None:
        started = await proc.start(child())
        kept.append(started)
        trace.append(await started.result())

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    with pytest.raises(IOOutsideCheckpoint, match="outside its process function"):
        asyncio.run(kept[0].result())
    driver.return_child("child", Kind.COMPLETED, 5)
    assert driver.run.trace == [5]
    driver.check_replays()


# --- under another name ---


async def _ask_for_old(proc: Process, trace: list[Any]) -> None:
    trace.append(await proc.call(child(), "old"))


async def _ask_for_new(proc: Process, trace: list[Any]) -> None:
    trace.append(await proc.call(child(), "new"))


def test_a_running_child_is_found_under_its_new_name() -> None:
    """After a deploy with `renames` the result of a child started before reaches the new line, live as on replay."""
    driver = Driver(program_of(_ask_for_old))
    driver.answer(("checkpoint", "old"))
    driver.run.drop()
    driver.make = make = program_of(_ask_for_new, renames={"old": "new"})
    driver.recover()
    driver.return_child("old", Kind.COMPLETED, 7)
    assert driver.run.trace == [7]
    for fast in (True, False):
        with replayed(make, driver.journal, fast=fast) as run:
            assert run.moment() == driver.moments[-1]
    driver.run.drop()


def test_of_two_children_under_one_name_the_line_has_the_first() -> None:
    """Renamed after the new name had started a child of its own: the line waits for the one whose id it was given."""
    driver = Driver(program_of(_ask_for_old))
    driver.answer(("checkpoint", "old"))
    for renames in ({}, {"old": "new"}):
        driver.run.drop()
        driver.make = make = program_of(_ask_for_new, renames=renames)
        driver.recover()
        if not renames:
            driver.answer(("checkpoint", "new"))
    driver.return_child("old", Kind.COMPLETED, 7)
    assert driver.run.trace == [7]
    with replayed(make, driver.journal) as run:
        assert run.trace == [7]
    driver.run.drop()


# --- told to stop ---


def test_a_child_is_told_to_stop_once() -> None:
    """Two waiters cancelled at one moment, and whoever is cancelled after them, send one request to their child."""

    async def code(proc: Process, trace: list[Any]) -> None:
        one = await proc.start(child())
        try:
            async with asyncio.timeout(5):
                await asyncio.gather(one.result(), one.result())
        finally:
            await one.result()

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    [timeout] = [command for command in driver.open.values() if isinstance(command, Alarm)]
    journal = driver.journal
    told = [
        *driver.run.execution.feed(Record(len(journal) + 1, Kind.ALARM, timeout.name, b"", timeout.due)),
        *driver.run.execution.feed(Record(len(journal) + 2, Kind.CANCEL, "request", CODEC.encode("no"), timeout.due)),
    ]
    assert [type(command) for command in told] == [CancelChild]
    driver.run.drop()


def test_a_stalled_process_knows_which_children_are_left() -> None:
    """When no code of it runs any more, children still start and end; those that run are to be stopped at its end."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for name in ("over", "running"):
            await proc.start(child(), name)
        await proc.start(child(), "free", detached=True)
        await asyncio.gather(proc.event("never"), proc.start(child(), "late"))

    driver = Driver(program_of(code))
    for name in ("over", "running", "free"):
        driver.answer(("checkpoint", name))
    start = driver.open["checkpoint", "late"]
    driver.record(Kind.VALUE, "never", CODEC.encode("not an event"))
    assert driver.run.execution.stalled is not None
    driver.return_child("over", Kind.COMPLETED, 1)
    driver.open["checkpoint", "late"] = start
    driver.answer(("checkpoint", "late"))
    assert [child.id for child in driver.run.execution.children_left()] == ["p/running", "p/late"]
    for fast in (True, False):
        with replayed(driver.make, driver.journal, fast=fast) as run:
            assert [child.id for child in run.execution.children_left()] == ["p/running", "p/late"]
    driver.run.drop()
