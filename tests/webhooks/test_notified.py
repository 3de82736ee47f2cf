"""Processes whose end is told: with their outcome, once, though their code knows nothing of it."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from typing import Any

import pytest

from durable import Handle, Process, ProcessCancelled, ProcessHost, ProcessTerminated, ProcessTimedOut, process
from durable.webhooks import Webhook, Webhooks, new_secret, verify
from tests.webhooks.receiver import SOON, Receiver

SECRET = new_secret()


@process
async def order(proc: Process, goods: str, *, amount: int = 1) -> str:
    """Ships, unless there is nothing to ship; waits for a word if there is one."""
    if amount == 0:
        raise ValueError("nothing to ship")
    if goods == "gold":
        try:
            await proc.event("paid")
        except asyncio.CancelledError:
            await proc.do(lambda: None, "put back")
            raise
    return f"{amount} {goods}"


@process(timeout=timedelta(milliseconds=1))
async def hurried(proc: Process) -> None:
    """Takes too long."""
    await proc.event("never")


@process
async def counting(proc: Process, left: int) -> str:
    """Lives several lives."""
    if left:
        await proc.restart(counting(left - 1))
    return "counted"


@pytest.fixture
def webhooks(receiver: Receiver) -> Webhooks:
    return Webhooks({"shop": Webhook(receiver.url(), SECRET, allow_private=True)})


async def told(receiver: Receiver) -> tuple[str, str, dict[str, Any]]:
    """Type, process and data of the next message."""
    received = await receiver.next()
    message = verify(SECRET, received.headers, received.body)
    return message["type"], message["process"], message["data"]


async def test_a_result_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """The end of a process that returned is told with its result, and is the end of the process around it."""
    notified = webhooks.notified(order, "shop")
    async with ProcessHost(url, [order, notified, webhooks.deliver]) as host:
        handle = await host.start(notified("tea", amount=2), id="order-1")
        assert await handle.result() == "2 tea"
        end = {"process": "order-1/order", "definition": "order", "status": "completed", "result": "2 tea"}
        assert await told(receiver) == ("process.completed", "order-1", end)
    assert len(receiver.received) == 1


async def test_an_error_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """The end of a process that raised is told with type and message, and the very error comes out."""
    notified = webhooks.notified(order, "shop")
    async with ProcessHost(url, [order, notified, webhooks.deliver]) as host:
        handle = await host.start(notified("tea", amount=0), id="order-1")
        with pytest.raises(ValueError, match="nothing to ship"):
            await handle.result()
        event, _, data = await told(receiver)
    assert (event, data["error"]) == ("process.failed", {"type": "ValueError", "message": "nothing to ship"})
    assert b"Traceback" not in receiver.received[0].body


@pytest.mark.parametrize("whom", ["order-1", "order-1/order"])
async def test_a_cancellation_is_told(url: str, receiver: Receiver, webhooks: Webhooks, whom: str) -> None:
    """Whether the process or the one around it is cancelled: it compensates, both end, and that is told, once."""
    notified = webhooks.notified(order, "shop")
    async with ProcessHost(url, [order, notified, webhooks.deliver]) as host:
        handle = await host.start(notified("gold"), id="order-1")
        await child_of(host, handle)
        await host.cancel(whom, "changed our mind")
        with pytest.raises(ProcessCancelled):
            await handle.result()
        event, _, data = await told(receiver)
        assert (event, data["status"], data["error"]["type"]) == ("process.cancelled", "cancelled", "ProcessCancelled")
        assert "put back" in [entry.name for entry in await host.get("order-1/order").history()]
    assert len(receiver.received) == 1


async def test_a_termination_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A process that was ended from outside, by none of its code, is told of too."""
    notified = webhooks.notified(order, "shop")
    async with ProcessHost(url, [order, notified, webhooks.deliver]) as host:
        handle = await host.start(notified("gold"), id="order-1")
        await child_of(host, handle)
        await host.terminate("order-1/order", "out of gold")
        with pytest.raises(ProcessTerminated):
            await handle.result()
        event, _, data = await told(receiver)
    assert event == "process.terminated"
    assert "out of gold" in data["error"]["message"]


async def test_a_timeout_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A process that ran into its own timeout is told of as cancelled, and the error says by what."""
    notified = webhooks.notified(hurried, "shop")
    async with ProcessHost(url, [hurried, notified, webhooks.deliver]) as host:
        with pytest.raises(ProcessTimedOut):
            await (await host.start(notified(), id="hurried-1")).result()
        event, _, data = await told(receiver)
    assert (event, data["error"]["type"]) == ("process.cancelled", "ProcessTimedOut")


async def test_the_last_life_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """Of a process that restarts itself only the end of its last life is told."""
    notified = webhooks.notified(counting, "shop")
    async with ProcessHost(url, [counting, notified, webhooks.deliver]) as host:
        assert await (await host.start(notified(3), id="counting-1")).result() == "counted"
        event, _, data = await told(receiver)
    assert (event, data["result"]) == ("process.completed", "counted")
    assert len(receiver.received) == 1


async def test_it_waits_parked(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """While the process waits, the one around it needs no memory: it can be parked."""
    notified = webhooks.notified(order, "shop")
    async with ProcessHost(url, [order, notified, webhooks.deliver], park_after=timedelta(0)) as host:
        handle = await host.start(notified("gold"), id="order-1")
        async for status in handle.watch():
            if not status.resident:
                break
        await child_of(host, handle)
        await host.raise_event("order-1/order", "paid")
        assert await handle.result() == "1 gold"
        assert (await told(receiver))[0] == "process.completed"


def test_it_looks_like_what_it_runs(webhooks: Webhooks) -> None:
    """Parameters and description are those of the process it runs, the name says what is added."""
    notified = webhooks.notified(order, "shop")
    assert notified.name == "order.notified"
    assert webhooks.notified(order, "shop", name="order 2").name == "order 2"
    assert inspect.signature(notified.function) == inspect.signature(order.function)
    assert notified.__doc__ == order.__doc__
    with pytest.raises(TypeError, match=r"order\.notified"):
        notified()  # type: ignore[call-arg]


async def child_of(host: ProcessHost, handle: Handle[Any]) -> None:
    """Return when the order inside waits to be paid."""
    async with asyncio.timeout(SOON):
        while not any(entry.name == "order" for entry in await handle.history()):
            await asyncio.sleep(0)
        async for status in host.get(f"{handle.id}/order").watch():
            if any("paid" in what for what in status.waits_for) or not status.resident:
                break
