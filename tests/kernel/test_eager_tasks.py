"""Tasks of a process never start eagerly, whatever they or the program around them ask for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from durable.errors import IOOutsideCheckpoint
from durable.process import Process
from tests.kernel.driver import Driver, program_of

_loop: Callable[[], Any] = asyncio.get_running_loop


async def _make_tasks(proc: Process, trace: list[Any]) -> None:
    async def step(name: str) -> None:
        trace.append(f"{name} begins")
        trace.append(await proc.get(name, name))

    first = _loop().create_task(step("first"), eager_start=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(step("second"))
        trace.append("both are made")
    await first


ORDER = ["both are made", "first begins", "second begins", "first", "second"]


def test_an_eager_task_starts_in_its_turn() -> None:
    """`eager_start` is accepted and ignored: a task runs when its maker waits, live as on replay, on every Python."""
    driver = Driver(program_of(_make_tasks))
    driver.go()
    assert driver.run.trace == ORDER
    driver.check_replays()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_an_eager_program_makes_no_eager_process() -> None:
    """The task factory of the host's loop is not that of its processes."""
    drivers: list[Driver] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        driven = asyncio.Event()

        def drive() -> None:
            drivers.append(Driver(program_of(_make_tasks)))
            driven.set()

        loop.call_soon(drive)
        await driven.wait()

    asyncio.run(main())
    [driver] = drivers
    driver.go()
    assert driver.run.trace == ORDER
    driver.check_replays()


def test_a_process_sets_no_task_factory() -> None:
    """Asking its loop for another way to make tasks is refused at the line."""

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            _loop().set_task_factory(None)
        except IOOutsideCheckpoint as error:
            trace.append("set_task_factory" in str(error))

    driver = Driver(program_of(code))
    assert driver.run.trace == [True]
    driver.check_replays()
