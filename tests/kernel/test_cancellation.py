"""Cancellation: journaled, at the same await on replay, with compensation that works as in a fresh process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from durable.journal import Kind
from durable.process import Process
from tests.kernel.driver import Driver, program_of


def test_a_request_arrives_at_the_await_and_compensation_runs() -> None:
    """`CancelledError` with the reason comes out of the awaited checkpoint; `except` and `finally` use the process."""

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.do(lambda: 1, "booked")
            await proc.do(lambda: 2, "paid")
        except asyncio.CancelledError as error:
            trace.append(("why", *error.args))
            await proc.do(lambda: 3, "unbooked")
            raise
        finally:
            trace.append(await proc.get(4, "last"))

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "booked"))
    driver.cancel("a change of mind")
    driver.go()
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    assert driver.outcome() == "a change of mind"
    assert driver.run.trace == [("why", "a change of mind"), 4]
    assert driver.ran == {"booked": 1, "paid": 1, "unbooked": 1}
    driver.check_replays()


def test_a_second_request_does_not_disturb_compensation() -> None:
    """Requests and the deadline after the first request change nothing; the first reason stays."""

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.event("never")
        finally:
            for number in range(3):
                trace.append(await proc.get(number, f"step {number}"))

    driver = Driver(program_of(code), timeout=timedelta(hours=1))
    deadline = driver.open[("deadline", "")]
    driver.cancel("first")
    for _ in range(2):
        driver.cancel("again")
        driver.answer(next(iter(driver.open)))
    driver.open[("deadline", "")] = deadline
    driver.answer(("deadline", ""))
    driver.go()
    assert driver.run.trace == [0, 1, 2]
    assert driver.outcome() == "first"
    driver.check_replays()


def test_compensation_has_timeouts_and_groups_as_in_a_fresh_process() -> None:
    """After the request was delivered, `timeout`, `wait_for` and a failing `TaskGroup` do what they always do."""

    async def fail() -> None:
        raise ValueError("in the group")

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.event("never")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            trace.append(("cancelling", task.cancelling()))
            try:
                async with asyncio.timeout(1):
                    await proc.event("never either")
            except TimeoutError:
                trace.append("timed out")
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    await proc.event("nor this")
            except* ValueError:
                trace.append("group failed")
            await asyncio.sleep(1)  # on 3.13 a group that failed under a cancellation cancels its parent again
            trace.append(await proc.get(1, "undone"))
            raise

    driver = Driver(program_of(code))
    driver.cancel()
    driver.go()
    assert driver.run.trace == [("cancelling", 0), "timed out", "group failed", 1]
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    driver.check_replays()


def test_what_the_end_cancels_compensates_as_in_a_fresh_process() -> None:
    """A task cancelled because the function returned may use a `TaskGroup` that fails in its `finally`."""

    async def fail() -> None:
        raise ValueError("in the group")

    async def child(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.event("never")
        finally:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
            except* ValueError:
                trace.append("group failed")
            await asyncio.sleep(1)
            trace.append(await proc.get(1, "undone"))

    async def code(proc: Process, trace: list[Any]) -> str:
        trace.append(asyncio.create_task(child(proc, trace)).get_name())
        await proc.get(0, "begin")
        return "returned"

    driver = Driver(program_of(code))
    driver.go()
    assert driver.run.trace == ["1", "group failed", 1]
    assert driver.outcome() == "returned"
    driver.check_replays()


def test_the_deadline_cancels_with_its_own_reason() -> None:
    """The time limit of a definition is outstanding from the start, and cancels the process with its own reason."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.event("never")

    driver = Driver(program_of(code), timeout=timedelta(days=1))
    assert driver.journal[0].time + 86_400_000_000 == driver.open[("deadline", "")].due  # type: ignore[union-attr]
    driver.answer(("deadline", ""))
    assert driver.run.execution.cancelled_by_deadline
    assert driver.outcome() == "its time was over"
    driver.check_replays()


def test_a_swallowed_cancellation_is_an_ordinary_end() -> None:
    """A process that catches its cancellation and returns has completed; one that raises something else has failed."""

    async def returns(proc: Process, trace: list[Any]) -> str:
        try:
            await proc.event("never")
        except asyncio.CancelledError:
            return "done anyway"
        return "not reached"

    async def raises(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.event("never")
        finally:
            raise ValueError("in finally")

    for code, kind in ((returns, Kind.COMPLETED), (raises, Kind.ERRED)):
        driver = Driver(program_of(code))
        driver.cancel()
        assert driver.end is not None
        assert driver.end.kind is kind
        driver.check_replays()


def test_cancelling_itself_is_no_cancellation_of_the_process() -> None:
    """A `CancelledError` nobody asked for ends the process as a failure."""

    async def code(proc: Process, trace: list[Any]) -> None:
        raise asyncio.CancelledError("on its own")

    driver = Driver(program_of(code))
    assert driver.end is not None
    assert driver.end.kind is Kind.ERRED


def test_what_nobody_waits_for_is_withdrawn() -> None:
    """A cancelled child's action is cancelled at the host; what comes of it later reaches nobody."""

    async def code(proc: Process, trace: list[Any]) -> None:
        task = asyncio.create_task(proc.do(lambda: 1, "slow"))
        await proc.get(1, "gate")
        task.cancel()
        trace.append(await proc.get(2, "after"))
        trace.append(task.cancelled())

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "gate"))
    assert driver.late[0][:2] == (Kind.DONE, "slow")
    driver.record(*driver.late.pop())
    driver.go()
    assert driver.run.trace == [2, True]
    driver.check_replays()


def test_asked_and_given_up_in_one_step_is_never_heard_of() -> None:
    """What is asked for and cancelled before the process waits again makes no command at all."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for kind in ("get", "do"):
            task = asyncio.create_task(getattr(proc, kind)(lambda: 1, kind))
            await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(5), proc.timeout(timedelta(seconds=5), "unused"):
            pass
        await asyncio.sleep(0)
        await proc.get(1, "only this")

    driver = Driver(program_of(code))
    assert list(driver.open) == [("checkpoint", "only this")]
    assert driver.late == []
    driver.check_replays()


def test_a_circle_of_tasks_stalls_when_it_is_cancelled() -> None:
    """Tasks that wait for each other cannot be cancelled by asyncio: the process stalls, and `feed` does not raise."""

    async def code(proc: Process, trace: list[Any]) -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def wait_for(other: int) -> None:
            await asyncio.gather(tasks[other])

        tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
        if await proc.get(True, "return"):
            return
        await asyncio.gather(*tasks)

    for wanted in (True, False):
        driver = Driver(program_of(code))
        del driver.open["checkpoint", "return"]
        driver.record(Kind.VALUE, "return", driver.codec.encode(wanted))
        if not wanted:
            driver.cancel()
        assert "in a circle" in str(driver.run.execution.stalled)
        driver.check_replays()
