"""Processes whose end is told: as it is recorded, once, under the one id they have."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from durable import (
    EncodeError,
    Handle,
    InvalidDefinition,
    PayloadTooLarge,
    Process,
    ProcessCancelled,
    ProcessFailed,
    ProcessHost,
    ProcessTimedOut,
    process,
)
from durable.definition import Definition
from durable.webhooks import Webhook, Webhooks, new_secret, verify
from tests.webhooks.receiver import SOON, Receiver

SECRET = new_secret()


def nested(levels: int) -> list[Any]:
    """A list in a list in a list, so many times."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


Function = Callable[..., Coroutine[Any, Any, Any]]


async def order(proc: Process, goods: str, *, amount: int = 1) -> str:
    """Ships, unless there is nothing to ship; waits for a word if there is one."""
    if amount == 0:
        raise ValueError("nothing to ship")
    proc.progress(1, 2, "packed")
    if goods == "gold":
        try:
            await proc.event("paid")
        except asyncio.CancelledError:
            await proc.do(lambda: None, "put back")
            raise
    return f"{amount} {goods}"


@pytest.fixture
def webhooks(receiver: Receiver) -> Webhooks:
    return Webhooks({"shop": Webhook(receiver.url(), SECRET, allow_private=True)})


def notified(webhooks: Webhooks, function: Function, **options: Any) -> Definition[..., Any]:
    return process(**options)(webhooks.notified("shop")(function))


async def told(receiver: Receiver) -> tuple[str, str, dict[str, Any]]:
    """Type, process and data of the next message."""
    received = await receiver.next()
    message = verify(SECRET, received.headers, received.body)
    return message["type"], message["process"], message["data"]


async def test_a_result_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """The end of a process that returned is told with its result, under its own id."""
    told_order = notified(webhooks, order)
    async with ProcessHost(url, [told_order, webhooks.deliver]) as host:
        handle = await host.start(told_order("tea", amount=2), id="order-1")
        assert await handle.result() == "2 tea"
        end = {"definition": "order", "status": "completed", "result": "2 tea"}
        assert await told(receiver) == ("process.completed", "order-1", end)
        assert await host.get("order-1/webhook/end").result() == 204
    assert len(receiver.received) == 1


async def test_an_error_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """The end of a process that raised is told with type and message, and the very error comes out."""
    told_order = notified(webhooks, order)
    async with ProcessHost(url, [told_order, webhooks.deliver]) as host:
        handle = await host.start(told_order("tea", amount=0), id="order-1")
        with pytest.raises(ValueError, match="nothing to ship"):
            await handle.result()
        event, _, data = await told(receiver)
    assert (event, data["error"]) == ("process.failed", {"type": "ValueError", "message": "nothing to ship"})
    assert b"Traceback" not in receiver.received[0].body


async def test_its_id_is_the_only_one(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """Progress is seen and events are taken under the id that was given, and the process can be parked meanwhile."""
    told_order = notified(webhooks, order)
    async with ProcessHost(url, [told_order, webhooks.deliver], park_after=timedelta(0)) as host:
        handle = await host.start(told_order("gold"), id="order-1")
        async for status in handle.watch():
            if not status.resident:
                break
        progress = (await handle.status()).progress
        assert progress is not None
        assert progress.message == "packed"
        assert [process.id for process in await host.list()] == ["order-1"]
        await host.raise_event("order-1", "paid")
        assert await handle.result() == "1 gold"
        assert (await told(receiver))[0] == "process.completed"


async def test_a_cancellation_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A process that is cancelled compensates first, then it is told, once, with the reason."""
    told_order = notified(webhooks, order)
    async with ProcessHost(url, [told_order, webhooks.deliver]) as host:
        handle = await host.start(told_order("gold"), id="order-1")
        await waits_for(handle, "paid")
        await handle.cancel("changed our mind")
        with pytest.raises(ProcessCancelled):
            await handle.result()
        error = {"type": "ProcessCancelled", "message": "changed our mind"}
        end = {"definition": "order", "status": "cancelled", "error": error}
        assert await told(receiver) == ("process.cancelled", "order-1", end)
        names = [entry.name for entry in await handle.history()]
        assert names.index("put back") < names.index("webhook/end")
    assert len(receiver.received) == 1


async def test_a_timeout_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A process that ran into its own timeout is told of as cancelled, and the error says by what."""

    async def hurried(proc: Process) -> None:
        await proc.event("never")

    told_hurried = notified(webhooks, hurried, timeout=timedelta(milliseconds=1))
    async with ProcessHost(url, [told_hurried, webhooks.deliver]) as host:
        with pytest.raises(ProcessTimedOut):
            await (await host.start(told_hurried(), id="hurried-1")).result()
        event, _, data = await told(receiver)
    assert (event, data["error"]["type"]) == ("process.cancelled", "ProcessTimedOut")


async def test_the_last_life_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """Of a process that restarts itself only the end of its last life is told: a restart is no cancellation."""

    async def counting(proc: Process, left: int) -> str:
        if left:
            await proc.restart(told_counting(left - 1))
        return "counted"

    told_counting = notified(webhooks, counting)
    async with ProcessHost(url, [told_counting, webhooks.deliver]) as host:
        handle = await host.start(told_counting(3), id="counting-1")
        assert await handle.result() == "counted"
        event, _, data = await told(receiver)
    assert (event, data["result"]) == ("process.completed", "counted")
    assert len(receiver.received) == 1


async def test_a_restart_that_is_cancelled_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """Cancelled on its way to the next life a process has no next one, and that is told."""

    async def leaving(proc: Process) -> None:
        try:
            await proc.restart(told_leaving())
        finally:
            await proc.event("gone")

    told_leaving = notified(webhooks, leaving)
    async with ProcessHost(url, [told_leaving, webhooks.deliver]) as host:
        handle = await host.start(told_leaving(), id="leaving-1")
        await waits_for(handle, "gone")
        await handle.cancel()
        with pytest.raises(ProcessCancelled):
            await handle.result()
        assert (await told(receiver))[0] == "process.cancelled"
    assert len(receiver.received) == 1


async def test_a_failure_on_the_way_to_the_next_life_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A process that fails on its way to the next life has failed, and that is told."""

    async def failing(proc: Process) -> None:
        try:
            await proc.restart(told_failing())
        finally:
            raise ValueError("not so fast")

    told_failing = notified(webhooks, failing)
    async with ProcessHost(url, [told_failing, webhooks.deliver]) as host:
        with pytest.raises(ValueError, match="not so fast"):
            await (await host.start(told_failing(), id="failing-1")).result()
        assert (await told(receiver))[0] == "process.failed"


@pytest.mark.parametrize(
    ("result", "error"), [(object(), EncodeError), (b"x" * 5_000_000, PayloadTooLarge)], ids=["odd", "large"]
)
async def test_what_cannot_be_the_result_is_told_as_a_failure(
    url: str, receiver: Receiver, webhooks: Webhooks, result: object, error: type[Exception]
) -> None:
    """A process fails whose result cannot be recorded; so it is never told as completed."""

    async def odd(proc: Process) -> object:
        return result

    told_odd = notified(webhooks, odd)
    async with ProcessHost(url, [told_odd, webhooks.deliver]) as host:
        with pytest.raises(error):
            await (await host.start(told_odd(), id="odd-1")).result()
        event, _, data = await told(receiver)
    assert (event, data["error"]["type"]) == ("process.failed", error.__name__)


@pytest.mark.parametrize("result", ["x" * 30_000, {frozenset({1}): 1}, nested(210)], ids=["large", "no JSON", "deep"])
async def test_a_result_that_makes_no_message_is_left_out(
    url: str, receiver: Receiver, webhooks: Webhooks, result: object
) -> None:
    """A large result, or one that JSON cannot hold, is the result of the process and no part of the message."""

    async def large(proc: Process) -> object:
        return result

    told_large = notified(webhooks, large)
    async with ProcessHost(url, [told_large, webhooks.deliver]) as host:
        assert await (await host.start(told_large(), id="large-1")).result() == result
        assert await told(receiver) == ("process.completed", "large-1", {"definition": "large", "status": "completed"})


class Unspeakable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise KeyError("text")


async def test_an_error_without_text_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """An error whose `__str__` fails ends the process as it would have, and its type is told."""

    async def odd(proc: Process) -> None:
        raise Unspeakable

    told_odd = notified(webhooks, odd)
    async with ProcessHost(url, [told_odd, webhooks.deliver]) as host:
        with pytest.raises((ProcessFailed, Unspeakable)):
            await (await host.start(told_odd(), id="odd-1")).result()
        assert (await told(receiver))[2]["error"] == {"type": "Unspeakable", "message": ""}


async def test_an_error_with_odd_text_is_told(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """The name of a file that is no text, in the message of an error, does not keep the news from being sent."""

    async def odd(proc: Process) -> None:
        raise FileNotFoundError("no \udc80.bin")

    told_odd = notified(webhooks, odd)
    async with ProcessHost(url, [told_odd, webhooks.deliver]) as host:
        with pytest.raises(ProcessFailed, match="no"):
            await (await host.start(told_odd(), id="odd-1")).result()
        assert (await told(receiver))[2]["error"]["message"] == r"no \udc80.bin"


async def test_a_cancellation_that_nobody_asked_for_is_a_failure(
    url: str, receiver: Receiver, webhooks: Webhooks
) -> None:
    """A process fails if a `CancelledError` of its own making gets out; it is told so."""

    async def confused(proc: Process) -> None:
        raise asyncio.CancelledError

    told_confused = notified(webhooks, confused)
    async with ProcessHost(url, [told_confused, webhooks.deliver]) as host:
        handle = await host.start(told_confused(), id="confused-1")
        assert (await told(receiver))[0] == "process.failed"
        assert [update.status async for update in handle.watch()][-1] == "failed"


async def test_the_target_may_depend_on_the_arguments(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A function of the arguments says who is told, or that nobody is; then the journal holds nothing of it."""

    @process
    @webhooks.notified(lambda goods, to=None: to, event="order")
    async def ship(proc: Process, goods: str, to: str | None = None) -> str:
        return goods

    async with ProcessHost(url, [ship, webhooks.deliver]) as host:
        quiet = await host.start(ship("tea"), id="order-1")
        assert await quiet.result() == "tea"
        assert [entry.kind for entry in await quiet.history()] == ["STARTED", "COMPLETED"]
        await (await host.start(ship("tea", to="shop"), id="order-2")).result()
        assert (await told(receiver))[:2] == ("order.completed", "order-2")
    assert len(receiver.received) == 1


async def test_a_process_that_was_started_before_is_told_of(url: str, receiver: Receiver, webhooks: Webhooks) -> None:
    """A deploy that adds the telling reaches processes that are under way."""
    silent = process(order)
    async with ProcessHost(url, [silent]) as host:
        await waits_for(await host.start(silent("gold"), id="order-1"), "paid")
    async with ProcessHost(url, [notified(webhooks, order), webhooks.deliver]) as host:
        await host.raise_event("order-1", "paid")
        assert (await told(receiver))[:2] == ("process.completed", "order-1")
        assert await host.get("order-1").result() == "1 gold"


async def test_an_id_that_is_taken_is_logged(
    url: str, receiver: Receiver, webhooks: Webhooks, caplog: pytest.LogCaptureFixture
) -> None:
    """If the delivery cannot be started, the log says so, and the process ends as it would have."""
    told_order = notified(webhooks, order)
    async with ProcessHost(url, [told_order, webhooks.deliver]) as host:
        await host.start(webhooks.deliver("shop", "other"), id="order-1/webhook/end")
        with caplog.at_level(logging.ERROR, "durable.process"):
            assert await (await host.start(told_order("tea"), id="order-1")).result() == "1 tea"
    assert "Nobody is told that it has completed" in caplog.text


def test_it_looks_like_what_it_stands_above(webhooks: Webhooks) -> None:
    """Name, parameters and description are those of the function."""
    told_order = notified(webhooks, order)
    assert told_order.name == "order"
    assert inspect.signature(told_order.function) == inspect.signature(order)
    assert told_order.__doc__ == order.__doc__


def test_it_stands_below_process(webhooks: Webhooks) -> None:
    """The other way round it is refused, with the lines to write."""
    with pytest.raises(InvalidDefinition, match="write `@process` above"):
        webhooks.notified("shop")(process(order))  # type: ignore[arg-type]


async def waits_for(handle: Handle[Any], event: str) -> None:
    """Return when the process waits for an event."""
    async with asyncio.timeout(SOON):
        async for status in handle.watch():
            if any(event in what for what in status.waits_for) or not status.resident:
                break
