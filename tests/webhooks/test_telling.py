"""Blocks whose end is told; and what is told is true, whatever happens while it is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import InvalidDefinition, Process, ProcessHost, process
from durable._kernel.commands import StartChild
from durable._kernel.started import decode_started
from durable.journal import Kind
from durable.webhooks import Webhook, Webhooks, new_secret, verify
from tests.kernel.driver import CODEC, ActionFailed, Choices, Driver, Slot, program_of
from tests.webhooks.receiver import Receiver

SECRET = new_secret()
WEBHOOKS = Webhooks({"shop": Webhook("https://shop.example/hooks", SECRET)})
TELLING = ("checkpoint", "webhook/end")


async def test_the_ends_of_blocks_are_told(url: str, receiver: Receiver) -> None:
    """Each block is told of by its own end, and in its own words; None is nobody; the process goes on after them."""
    webhooks = Webhooks({"shop": Webhook(receiver.url(), SECRET, allow_private=True)})

    @process
    async def shop(proc: Process) -> str:
        async with webhooks.telling(proc, "shop", event="packing"):
            await proc.do(lambda: None, "packed")
        async with webhooks.telling(proc, None):
            await proc.do(lambda: None, "looked")
        with pytest.raises(ZeroDivisionError):
            async with webhooks.telling(proc.scope("second"), "shop"):
                await proc.do(lambda: 1 / 0, "paid")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), webhooks.telling(proc.scope("third"), "shop"):
                await proc.event("never")
        return "open"

    async with ProcessHost(url, [shop, webhooks.deliver]) as host:
        assert await (await host.start(shop(), id="shop-1")).result() == "open"
        messages = [await receiver.next() for _ in range(3)]
        deliveries = sorted(process.id for process in await host.list(name="durable.webhook"))
    told = {message["type"]: message["data"] for message in (verify(SECRET, it.headers, it.body) for it in messages)}
    assert told == {
        "packing.completed": {"definition": "shop", "status": "completed"},
        "process.failed": {
            "definition": "shop",
            "status": "failed",
            "error": {"type": "ZeroDivisionError", "message": "division by zero"},
        },
        "process.cancelled": {
            "definition": "shop",
            "status": "cancelled",
            "error": {"type": "CancelledError", "message": ""},
        },
    }
    assert deliveries == ["shop-1/second/webhook/end", "shop-1/third/webhook/end", "shop-1/webhook/end"]


def test_a_target_is_a_name() -> None:
    """A `Webhook` where its name is meant is refused before the block: its secret would get into the journal."""

    async def code(proc: Process, trace: list[Any]) -> None:
        with pytest.raises(InvalidDefinition, match="told by its name, and this is Webhook"):
            WEBHOOKS.telling(proc, Webhook("https://shop.example/hooks", SECRET))  # type: ignore[arg-type]
        with pytest.raises(InvalidDefinition, match="told by its name, and this is Webhook"):
            await WEBHOOKS.notify(proc, Webhook("https://shop.example/hooks", SECRET), "x")  # type: ignore[arg-type]

    driver = Driver(program_of(code))
    assert driver.end is not None
    assert driver.end.kind is Kind.COMPLETED


def said(driver: Driver) -> str:
    """What a process has asked to be told."""
    command = driver.open[TELLING]
    assert isinstance(command, StartChild)
    return str(decode_started(CODEC, command.payload).args[1])


@pytest.mark.parametrize("fails", [False, True])
def test_cancelled_while_it_tells_of_a_block(fails: bool) -> None:
    """It is told how the block ended, once, and then the process hears that it has to stop."""

    async def code(proc: Process, trace: list[Any]) -> None:
        async with WEBHOOKS.telling(proc, "shop"):
            if fails:
                raise ActionFailed("no")
        trace.append("after")

    driver = Driver(program_of(code))
    assert said(driver) == ("process.failed" if fails else "process.completed")
    driver.cancel()
    driver.answer(TELLING)
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    assert driver.run.trace == []
    assert driver.names(Kind.CHILD) == ["webhook/end"]
    driver.check_replays()


@pytest.mark.parametrize("fails", [False, True])
def test_cancelled_while_it_tells_of_its_end(fails: bool) -> None:
    """That is too late: the process ends as it was told, once."""

    @WEBHOOKS.notified("shop")
    async def code(proc: Process, trace: list[Any]) -> int:
        if fails:
            raise ActionFailed("no")
        return 17

    driver = Driver(program_of(code))
    if not fails:
        driver.answer(("checkpoint", "webhook/result"))
    assert said(driver) == ("process.failed" if fails else "process.completed")
    driver.cancel()
    driver.answer(TELLING)
    assert driver.end is not None
    assert driver.end.kind is (Kind.ERRED if fails else Kind.COMPLETED)
    assert driver.names(Kind.CHILD) == ["webhook/end"]
    driver.check_replays()


def test_cancelled_while_its_result_is_kept() -> None:
    """A request that comes before anything is told is obeyed, and told."""

    @WEBHOOKS.notified("shop")
    async def code(proc: Process, trace: list[Any]) -> int:
        return 17

    driver = Driver(program_of(code))
    driver.cancel()
    assert said(driver) == "process.cancelled"
    driver.answer(TELLING)
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    driver.check_replays()


@process
async def again(proc: Process) -> None:
    """The next life of `busy`."""


@WEBHOOKS.notified("shop")
async def busy(proc: Process, trace: list[Any]) -> str:
    """Works, compensates, and may go on with another life or end in any other way."""
    try:
        choice = await proc.event("choice")
        await asyncio.gather(*(proc.do(lambda: None, f"step {number}") for number in range(2)))
        if choice % 2:
            await proc.restart(again())
        return "done"
    finally:
        await proc.do(lambda: None, "cleaned up")


ENDS = {"process.completed": Kind.COMPLETED, "process.failed": Kind.ERRED, "process.cancelled": Kind.CANCELLED}


class Listening(Driver):
    """Keeps what the process has asked to be told."""

    told = ""

    def answer(self, slot: Slot) -> None:
        if slot == TELLING:
            assert not self.told
            self.told = said(self)
        super().answer(slot)


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=60))
def test_what_is_told_is_true(numbers: list[int]) -> None:
    """However outcomes, failures, requests and crashes follow each other: a process ends as it was told, once."""
    driver = Listening(program_of(busy), Choices(numbers), events=["choice"])
    driver.go()
    if driver.end is not None:
        assert ENDS[driver.told] is driver.end.kind
    if driver.next_life is not None:
        assert not driver.told
    driver.check_replays()
