"""One order: races are decided by the journal, and the sets inside asyncio iterate the same way every time."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Coroutine
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from durable.errors import InvalidAction
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import CODEC, START, Driver, Make, fed, program_of, replayed, started


async def _aborted_group(proc: Process, trace: list[Any]) -> None:
    async def child(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            trace.append(number)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(9):
                group.create_task(child(number))
            await proc.get(1, "begin")
            raise ValueError
    except* ValueError:
        pass


async def _cancelled_rest(proc: Process, trace: list[Any]) -> None:
    async def child(number: int) -> int:
        try:
            return await proc.get(number, f"child {number}") if number == 4 else await asyncio.Event().wait()
        finally:
            trace.append(number)

    done, pending = await asyncio.wait(
        [asyncio.create_task(child(number)) for number in range(9)], return_when=asyncio.FIRST_COMPLETED
    )
    for task in pending:
        task.cancel()
    trace.append([task.get_name() for task in (*done, *pending)])


async def _as_completed(proc: Process, trace: list[Any]) -> None:
    async def child(number: int) -> str:
        await asyncio.sleep(0)
        trace.append((number, asyncio.current_task().get_name()))  # type: ignore[union-attr]
        return await proc.get(f"value {number}", f"child {number}")

    for next_done in asyncio.as_completed([child(number) for number in range(9)]):
        trace.append(await next_done)


async def _left_behind(proc: Process, trace: list[Any]) -> None:
    async def child(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            trace.append(number)

    try:
        async with asyncio.timeout(5):
            for next_done in asyncio.as_completed([child(number) for number in range(9)]):
                await next_done
    except TimeoutError:
        pass


@pytest.mark.parametrize("code", [_aborted_group, _cancelled_rest, _as_completed, _left_behind])
def test_sets_of_tasks_iterate_the_same_way_every_time(code: Callable[..., Coroutine[Any, Any, Any]]) -> None:
    """An aborted `TaskGroup`, the rest of a `wait`, and coroutines in `as_completed` have one order in 200 runs."""
    traces = set()
    ballast = []
    for number in range(200):
        ballast.append([object() for _ in range(number % 7)])  # other addresses each time
        driver = Driver(program_of(code))
        driver.go()
        traces.add(repr(driver.run.trace))
        if number % 50 == 0:
            driver.check_replays()
    assert len(traces) == 1


def test_bare_coroutines_in_as_completed_start_in_the_order_written() -> None:
    """Tasks made by `as_completed` are named and started by their place in its argument; a set is refused."""
    driver = Driver(program_of(_as_completed))
    driver.go()
    assert driver.run.trace[:9] == [(number, str(number + 1)) for number in range(9)]

    async def unordered(proc: Process, trace: list[Any]) -> None:
        coroutines = {proc.get(1, "a"), proc.get(2, "b")}
        try:
            for next_done in asyncio.as_completed(coroutines):
                await next_done
        finally:
            for coroutine in coroutines:
                coroutine.close()

    refused = Driver(program_of(unordered))
    assert isinstance(refused.outcome(), InvalidAction)


@pytest.mark.parametrize("steps", range(20, 40))
def test_checkpoints_that_do_not_suspend_leave_no_mark(steps: int) -> None:
    """However many checkpoints a replay passes without suspending, later sets of tasks have the order they had live."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for number in range(steps):
            await proc.get(number, f"step {number}")
        await _aborted_group(proc, trace)

    driver = Driver(program_of(code))
    driver.go()
    assert replayed(program_of(code), driver.journal).trace == driver.run.trace


async def _race(proc: Process, trace: list[Any]) -> None:
    names = ("a", "b", "c")
    tasks = [asyncio.create_task(proc.do(lambda: 1, name), name=name) for name in names]
    left = set(tasks)
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        trace.append([task.get_name() for task in done])


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_the_journal_decides_a_race(order: tuple[str, ...]) -> None:
    """The first record wins, each result is seen before the next arrives, and a replay makes the same choice."""
    driver = Driver(program_of(_race))
    for name in order:
        driver.answer(("checkpoint", name))
    assert driver.run.trace == [[name] for name in order]
    driver.check_replays()


@pytest.mark.parametrize("timer_first", [True, False])
def test_a_timeout_races_by_the_journal_too(timer_first: bool) -> None:
    """Whether a timeout or the result came first is what the journal says, whichever form the timeout has."""

    async def code(proc: Process, trace: list[Any]) -> None:
        async def one(name: str) -> str:
            try:
                if name == "timeout":
                    async with asyncio.timeout(5):
                        return await proc.do(lambda: "in time", name)
                if name == "wait_for":
                    return await asyncio.wait_for(proc.do(lambda: "in time", name), 5)
                async with proc.timeout(timedelta(seconds=5), "limit"):
                    return await proc.do(lambda: "in time", name)
            except TimeoutError:
                return "too late"

        trace.append(await asyncio.gather(*map(one, ("timeout", "wait_for", "named"))))

    driver = Driver(program_of(code))
    driver.answer(("timer", "limit"))
    kinds = ("alarm", "timer") if timer_first else ("checkpoint",)
    for slot in [slot for slot in driver.open if slot[0] in kinds]:
        driver.answer(slot)
    late, driver.late = driver.late, []
    for record in late:
        driver.record(*record)
    driver.go()
    assert driver.run.trace == [["too late" if timer_first else "in time"] * 3]
    driver.check_replays()


def test_time_is_the_time_of_the_last_record() -> None:
    """`loop.time()` counts from the first record, stands still within a step, and never goes back."""

    async def code(proc: Process, trace: list[Any]) -> None:
        for number in range(4):
            trace.append(asyncio.get_running_loop().time())
            await proc.get(1, f"step {number}")

    journal = [started()]
    for number, seconds in enumerate((5, 3, 7)):
        payload = CODEC.encode(1)
        journal.append(Record(2 + number, Kind.VALUE, f"step {number}", payload, START + seconds * 1_000_000))
    assert replayed(program_of(code), journal).trace == fed(program_of(code), journal).trace == [0, 5, 5, 7]


def test_very_long_timers_fit_the_stores() -> None:
    """A sleep for ever or for a million years is due at a time that fits 64 bits."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await asyncio.gather(asyncio.sleep(math.inf), asyncio.sleep(1e15), asyncio.sleep(86_400 * 365))

    driver = Driver(program_of(code))
    dues = [command.due for command in driver.open.values()]  # type: ignore[union-attr]
    assert all(due is not None and START < due < 2**63 for due in dues)
    assert dues[2] == START + 86_400 * 365 * 1_000_000
    driver.run.drop()


def test_a_process_leaves_nothing_behind() -> None:
    """Dropped and ended processes are freed without waiting for the garbage collector to find a cycle too many."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.event("never")

    def count(make: Make) -> int:
        drivers = [Driver(make) for _ in range(50)]
        for driver in drivers:
            driver.run.drop()
        drivers.clear()
        gc.collect()
        return sum(
            type(thing).__name__ in ("Execution", "ProcessLoop", "ProcessTask", "Ask") for thing in gc.get_objects()
        )

    before = count(program_of(code))
    assert count(program_of(code)) == before
