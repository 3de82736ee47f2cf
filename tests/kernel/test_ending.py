"""The end: what is left behind is cancelled and awaited first, and nothing comes after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from durable.errors import EncodeError
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import CODEC, Driver, fed, program_of, replayed


def test_remaining_tasks_are_cancelled_and_awaited() -> None:
    """Before the end is asked for, left tasks are cancelled in the order made, and their `finally` uses the process."""

    async def child(proc: Process, trace: list[Any], name: str) -> None:
        try:
            await proc.event("never", name=f"{name} waits")
        finally:
            trace.append((name, await proc.do(lambda: name, f"{name} cleans up")))

    async def code(proc: Process, trace: list[Any]) -> str:
        for name in "abc":
            asyncio.create_task(child(proc, trace, name))
        await proc.get(1, "begin")
        return "value"

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "begin"))
    assert driver.end is None
    assert [slot[1] for slot in driver.open] == ["a cleans up", "b cleans up", "c cleans up"]
    driver.go()
    assert driver.run.trace == [("a", "a"), ("b", "b"), ("c", "c")]
    assert driver.outcome() == "value"
    driver.check_replays()


def test_what_a_finally_leaves_behind_is_cancelled_too() -> None:
    """A task that was made while the process closes is cancelled once those before it are done: every process ends."""

    async def forever(trace: list[Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            trace.append("stopped")

    async def child(trace: list[Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.create_task(forever(trace))
            await asyncio.sleep(1)
            trace.append("cleaned")

    async def code(proc: Process, trace: list[Any]) -> None:
        asyncio.create_task(child(trace))
        await proc.get(1, "begin")

    driver = Driver(program_of(code))
    driver.go()
    assert driver.end is not None
    assert driver.run.trace == ["cleaned", "stopped"]
    driver.check_replays()


def test_generators_are_closed_inside_the_process() -> None:
    """Abandoned generators and context managers are closed at the end, where their `finally` may use the process."""

    @asynccontextmanager
    async def lease(proc: Process, trace: list[Any]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            trace.append(await proc.do(lambda: "returned", "lease"))

    async def numbers(proc: Process, trace: list[Any]) -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            trace.append(await proc.do(lambda: "closed", "generator"))

    async def code(proc: Process, trace: list[Any]) -> None:
        manager = lease(proc, trace)
        await manager.__aenter__()
        async for number in numbers(proc, trace):
            trace.append(number)
            break
        await proc.get(1, "last")

    driver = Driver(program_of(code))
    driver.go()
    assert driver.run.trace == [1, "returned", "closed"]
    assert [record.name for record in driver.journal[1:]] == ["last", "lease", "generator"]
    driver.check_replays()


def test_nothing_comes_after_the_end() -> None:
    """Once the end is asked for, alarms, answers and requests run no code; an event is listed in a new end."""

    async def code(proc: Process, trace: list[Any]) -> str:
        loop = asyncio.get_running_loop()
        loop.call_later(5, trace.append, "after the end")
        loop.create_task(proc.do(lambda: 1, "left"))
        patience = proc.timeout(timedelta(seconds=5), "never left")
        await patience.__aenter__()
        await proc.get(1, "begin")
        return "over"

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "begin"))
    end = driver.end
    assert end is not None
    for kind, name in (
        (Kind.ALARM, "|5000000|1"),
        (Kind.CANCEL, "request"),
        (Kind.DONE, "left"),
        (Kind.FIRED, "never left"),
    ):
        driver.record(kind, name, CODEC.encode("late"))
    assert driver.run.trace == []
    assert driver.end == end
    driver.raise_event("red")
    assert driver.notes() == ("event never taken: red",)
    driver.record(end.kind, "", end.payload)
    driver.record(Kind.EVENT, "red", CODEC.encode((1, None)))
    assert driver.run.execution.outstanding() == [driver.end]
    driver.check_replays()


def test_a_failed_task_nobody_awaited_is_noted_once() -> None:
    """The end record names a task whose failure nobody saw, and none whose failure somebody did."""

    async def fail(name: str) -> None:
        raise ValueError(name)

    async def code(proc: Process, trace: list[Any]) -> None:
        asyncio.create_task(fail("unseen"), name="careless")
        seen = asyncio.create_task(fail("seen"))
        await asyncio.gather(seen, return_exceptions=True)
        await proc.get(1, "begin")

    driver = Driver(program_of(code))
    driver.go()
    driver.raise_event("red")
    assert [note for note in driver.notes() if "task" in note] == [
        "task 'careless' failed and was never awaited: ValueError('unseen')"
    ]
    driver.check_replays()


def test_a_result_that_cannot_be_recorded_is_a_failure() -> None:
    """A function that returns what the codec refuses ends with that error, which names the process and the part."""

    async def code(proc: Process, trace: list[Any]) -> Any:
        return {"call": lambda: None}

    driver = Driver(program_of(code))
    assert driver.end is not None
    assert driver.end.kind is Kind.ERRED
    error = driver.outcome()
    assert isinstance(error, EncodeError)
    assert str(error).startswith("[D401] The result: Cannot encode value['call']: ")
    assert "It is the result of process 'p'." in error.__notes__


def test_the_code_after_a_return_does_not_outrun_its_end() -> None:
    """A task left behind is cancelled at its ask even when the journal, of other code, holds the answer."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "gate")
        await proc.get(2, "later")

    async def new(proc: Process, trace: list[Any]) -> None:
        ready = asyncio.Event()

        async def child() -> None:
            await ready.wait()
            trace.append(await proc.get(2, "later"))

        asyncio.create_task(child())
        await proc.get(1, "gate")
        ready.set()

    driver = Driver(program_of(old))
    driver.go()
    make = program_of(new)
    moments = [replayed(make, driver.journal, fast=fast).moment() for fast in (True, False)]
    assert moments[0] == moments[1] == fed(make, driver.journal).moment()
    assert moments[0].trace == ()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("in_child", [True, False])
def test_an_interrupt_breaks_the_step_off(raised: type[BaseException], in_child: bool) -> None:
    """KeyboardInterrupt and SystemExit leave `feed`, and the journal knows how to go on afterwards."""

    async def interrupt(trace: list[Any]) -> None:
        raise raised

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "begin")
        if in_child:
            await asyncio.create_task(interrupt(trace))
        await interrupt(trace)

    driver = Driver(program_of(code))
    before = list(driver.journal)
    with pytest.raises(raised):
        driver.answer(("checkpoint", "begin"))
    driver.journal = before
    driver.recover()
    assert list(driver.open) == [("checkpoint", "begin")]
    with pytest.raises(raised):
        driver.run.execution.feed(Record(2, Kind.VALUE, "begin", CODEC.encode(1), driver.now))
