"""Values whose class is gone: what can be done about a process does not depend on reading them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from durable import Process, ProcessCancelled, ProcessHost, ProcessTerminated, process
from tests.host.staging import SOON, until_it_waits, until_stalled


@pytest.fixture
def cargo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with a class `Cargo` that the next deploy does not have any more: the test deletes it."""
    module = ModuleType("cargo_of_old")
    made = type("Cargo", (), {"__module__": module.__name__, "__annotations__": {"weight": int}})
    module.Cargo = dataclass(made)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@process(queue="elsewhere")
async def carry(proc: Process, what: object) -> object:
    await proc.event("go")
    return what


@process
async def send(proc: Process, weight: int) -> object:
    made = sys.modules["cargo_of_old"].Cargo(weight)
    return await proc.call(carry(made))


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown definition"])
async def test_the_end_of_a_child_with_lost_arguments_reaches_its_parent(
    url: str, cargo: ModuleType, known: bool
) -> None:
    """A child that can never run again is terminated, and its parent hears of that where it waits."""
    async with ProcessHost(url, [send]) as host:
        handle = await host.start(send(3), id="p")
        await until_it_waits(host, "p", "child")
        del cargo.Cargo
        async with ProcessHost(url, [carry] if known else [], queues=["elsewhere"]) as other:
            await until_stalled(other, "p/carry")
            await other.terminate("p/carry", "nobody can carry that")
            with pytest.raises(ProcessTerminated):
                await handle.result(SOON)


@process
async def receive(proc: Process) -> object:
    first = await proc.start(carry(1), "first")
    await proc.start(carry(2), "second")
    await first.result()
    return await proc.event("received")


async def test_a_parent_with_a_lost_result_is_terminated_with_its_children(url: str, cargo: ModuleType) -> None:
    """That one child returned what nobody can read any more keeps nobody from stopping the other."""

    @process(name="carry", queue="elsewhere")
    async def carry_cargo(proc: Process, what: int) -> object:
        if what == 1:
            return cargo.Cargo(what)
        return await proc.event("go")

    async with ProcessHost(url, [carry_cargo]) as other:
        async with ProcessHost(url, [receive]) as host:
            await host.start(receive(), id="p")
            await until_it_waits(host, "p", "event")
        del cargo.Cargo
        async with ProcessHost(url, [], queues=["default"]) as host:
            await host.terminate("p", "its function is gone")
            with pytest.raises(ProcessTerminated):
                await host.get("p").result(SOON)
        with pytest.raises(ProcessCancelled):
            await other.get("p/second").result(SOON)
