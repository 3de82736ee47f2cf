"""
The scenarios that are killed at every write: small processes that together use everything a process can do.

A scenario more: write an async function of a `Stage` that starts processes under fixed ids and returns what must come
out, and add it to `SCENARIOS`. It is run again after each kill, so "is there already" and "has ended" are no errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

from durable import (
    Event,
    Process,
    ProcessCancelled,
    ProcessClient,
    ProcessEnded,
    ProcessHost,
    ProcessNotFound,
    Retry,
    StepInterrupted,
    current_step,
    process,
)
from durable.testing.crash import Stage
from tests.crash.outside import Outside

Paid = Event("paid", int)


def milliseconds(number: float) -> timedelta:
    return timedelta(milliseconds=number)


# --- get, do (async and sync), delay ---


@process
async def steps(proc: Process, outside: str) -> str:
    world = Outside(outside)
    secret = await proc.get(uuid4, "secret")
    first = await proc.do(lambda: world.receive_async("first"), "first")
    await proc.delay(milliseconds(5), "pause")
    second = await proc.do(lambda: world.receive("second"), "second")
    return f"{first} {second} {len(str(secret))}"


async def run_steps(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [steps]) as host:
        handle = await host.start(steps(str(world)), id="steps")
        return await handle.result(), Outside(world).seen()


# --- events, de-duplicated, and timeouts in three forms ---


@process
async def shop(proc: Process) -> tuple[int, int, str, str, str]:
    first = await proc.event(Paid)
    second = await proc.event(Paid, name="paid again")
    late = [await _give_up(proc.event("never", timeout=milliseconds(4)))]
    async with asyncio.TaskGroup():
        late.append(await _give_up(_within_plain(proc)))
    late.append(await _give_up(_within_named(proc)))
    return first, second, *late  # type: ignore[return-value]


async def _within_plain(proc: Process) -> None:
    async with asyncio.timeout(0.004):
        await proc.event("never", name="never, plainly")


async def _within_named(proc: Process) -> None:
    async with proc.timeout(milliseconds(4), "patience"):
        await proc.event("never", name="never, by name")


async def _give_up(wait: Awaitable[object]) -> str:
    try:
        return f"got {await wait}"
    except TimeoutError:
        return "late"


async def run_events(stage: Stage) -> object:
    async with ProcessHost(stage.url, [shop]) as host:
        handle = await host.start(shop(), id="shop")
        with suppress(ProcessEnded):
            for key, amount in (("one", 1), ("one", 1), ("two", 2)):
                await host.raise_event("shop", Paid, amount, key=key)
        return await handle.result()


# --- at most once ---


@process
async def letter(proc: Process, outside: str) -> str:
    world = Outside(outside)
    try:
        await proc.do(lambda: world.receive("letter"), "post", at_most_once=True)
    except StepInterrupted:
        # The doubt is real: it may be out or not. A second letter is worse than none, so look before writing again.
        arrived = await proc.do(lambda: world.has_seen("letter"), "look")
        if not arrived:
            await proc.do(lambda: world.receive("letter"), "post after all")
    return "posted"


async def run_at_most_once(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [letter]) as host:
        handle = await host.start(letter(str(world)), id="letter")
        return await handle.result(), Outside(world).seen()


# --- retry, and failure for good ---


async def _third_time_lucky() -> int:
    if current_step().attempt < 3:
        raise ConnectionError("not yet")
    return current_step().attempt


def _never() -> None:
    raise ValueError("never")


@process
async def persistent(proc: Process) -> str:
    attempt = await proc.do(_third_time_lucky, "call", retry=Retry(5, delay=milliseconds(3)))
    try:
        await proc.do(_never, "hopeless", retry=Retry(2, delay=milliseconds(1), on=ConnectionError))
    except ValueError as error:
        return f"{attempt}, then {error}"
    return "unreachable"


async def run_retry(stage: Stage) -> object:
    async with ProcessHost(stage.url, [persistent]) as host:
        return await (await host.start(persistent(), id="persistent")).result()


# --- compensation ---


@process
async def transfer(proc: Process, outside: str) -> None:
    world = Outside(outside)
    await proc.do(lambda: world.receive("withdrawn"), "withdraw")
    try:
        await proc.do(_never, "deposit")
    except ValueError:
        await proc.do(lambda: world.receive("refunded"), "refund")
        raise


async def run_compensation(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [transfer]) as host:
        handle = await host.start(transfer(str(world)), id="transfer")
        try:
            await handle.result()
        except ValueError as error:
            return str(error), Outside(world).seen()
    return "unreachable"


# --- cancellation, a deadline, termination ---


@process
async def patient(proc: Process, outside: str) -> None:
    try:
        await proc.event("never")
    finally:
        await proc.do(lambda: Outside(outside).receive(f"{proc.id} cleared up"), "clear up")


@process(timeout=milliseconds(15))
async def hurried(proc: Process, outside: str) -> None:
    try:
        await proc.delay(timedelta(days=1), "sleep")
    finally:
        await proc.do(lambda: Outside(outside).receive(f"{proc.id} cleared up"), "clear up")


async def run_cancel(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [patient, hurried]) as host:
        handles = [
            await host.start(patient(str(world)), id="cancelled"),
            await host.start(patient(str(world)), id="terminated"),
            await host.start(hurried(str(world)), id="hurried"),
        ]
        with suppress(ProcessEnded):
            await handles[0].cancel("not wanted")
        with suppress(ProcessEnded):
            await host.terminate("terminated", "hopeless")
        ends = await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
        return [type(end).__name__ for end in ends], Outside(world).seen()


# --- branches: gather, TaskGroup, create_task, wait, Queue ---


@process
async def branches(proc: Process, outside: str) -> object:
    world = Outside(outside)
    both = await asyncio.gather(
        proc.do(lambda: world.receive("left"), "left"), proc.do(lambda: world.receive_async("right"), "right")
    )
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def produce(scope: Process) -> None:
        for number in range(2):
            await queue.put(await scope.get(f"item {number}", f"item {number}"))

    async with asyncio.TaskGroup() as group:
        group.create_task(produce(proc.scope("producer")))
        items = [await queue.get() for _ in range(2)]
    fast = asyncio.create_task(proc.delay(milliseconds(2), "fast"))
    slow = asyncio.create_task(proc.delay(timedelta(days=1), "slow"))
    done, _ = await asyncio.wait({fast, slow}, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail(proc))
            group.create_task(_undo(proc, world))
    except* ValueError as errors:
        items.append(str(errors.exceptions[0]))
    return both, items, fast in done, slow in done


async def _fail(proc: Process) -> None:
    await proc.do(_never, "fails")


async def _undo(proc: Process, world: Outside) -> None:
    try:
        await proc.event("never")
    finally:
        await proc.do(lambda: world.receive("undone"), "undo")


async def run_branches(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [branches]) as host:
        handle = await host.start(branches(str(world)), id="branches")
        return await handle.result(), Outside(world).seen()


# --- parked, and woken by time and by mail ---


@process
async def sleeper(proc: Process) -> str:
    await proc.delay(milliseconds(60), "nap")
    return await proc.do(lambda: "awake", "wake")


@process
async def waiter(proc: Process) -> int:
    return await proc.event(Paid)


async def run_parking(stage: Stage) -> object:
    async with ProcessHost(stage.url, [sleeper, waiter], park_after=milliseconds(1)) as host:
        waiting = await host.start(waiter(), id="waiter")
        sleeping = await host.start(sleeper(), id="sleeper")
        slept = await sleeping.result()  # meanwhile both were parked, and the sleeper was claimed again
        with suppress(ProcessEnded):
            await host.raise_event("waiter", Paid, 7, key="once")
        return slept, await waiting.result()


# --- two hosts and a client on one store ---


@process(queue="back")
async def bill(proc: Process, amount: int) -> int:
    paid = await proc.event(Paid)
    return await proc.do(lambda: amount - paid, "rest")


async def run_two_hosts(stage: Stage) -> object:
    async with (
        ProcessHost(stage.url, [steps]) as front,
        ProcessHost(stage.url, [bill]) as back,
        ProcessClient(stage.url) as client,
    ):
        await client.start(bill(10), id="bill")
        with suppress(ProcessEnded):
            await front.raise_event("bill", Paid, 4, key="once")
        return await front.get("bill").result(), await back.get("bill").result()


# --- many at once: group commit ---


@process
async def little(proc: Process, number: int) -> int:
    doubled = await proc.do(lambda: _double(number), "double")
    return await proc.do(lambda: _double(doubled), "double again")


async def _double(number: int) -> int:
    return 2 * number


async def run_many(stage: Stage) -> object:
    async with ProcessHost(stage.url, [little], limit=8) as host:  # more are started than may be resident
        handles = await asyncio.gather(*(host.start(little(number), id=f"little-{number}") for number in range(12)))
        return await asyncio.gather(*(handle.result() for handle in handles))


# --- a host that leaves while its processes wait, and one that follows it ---


async def run_shutdown(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [steps, sleeper]) as host:
        await host.start(steps(str(world)), id="steps")
        await host.start(sleeper(), id="sleeper")
    async with ProcessHost(stage.url, [steps, sleeper]) as host:
        return await host.get("steps").result(), await host.get("sleeper").result(), Outside(world).seen()


# --- a client without a host: what it asked for waits for one ---


async def run_cancelled_by_client(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessClient(stage.url) as client:
        await client.start(patient(str(world)), id="asked")
        with suppress(ProcessEnded):
            await client.cancel("asked", "from outside")
    async with ProcessHost(stage.url, [patient]) as host:
        try:
            await host.get("asked").result()
        except ProcessCancelled as error:
            return error.reason, Outside(world).seen()
    return "unreachable"


# --- children: awaited, cancelled with their parent, left over, detached, and on another host ---


@process
async def errand(proc: Process, outside: str, what: str) -> str:
    return await proc.do(lambda: Outside(outside).receive(what), "fetch")


@process
async def family(proc: Process, outside: str) -> object:
    both = await asyncio.gather(
        proc.call(errand(outside, "milk"), "milk"), proc.call(errand(outside, "bread"), "bread")
    )
    letter = await proc.start(bill(10), "bill")
    await proc.start(patient(outside), "left over")
    try:
        async with asyncio.timeout(0.02):
            await proc.call(patient(outside), "too slow")
    except TimeoutError:
        await proc.do(lambda: Outside(outside).receive("no patience"), "give up")
    await proc.start(errand(outside, "free"), "free", detached=True)
    return both, await letter.result()


async def run_children(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with (
        ProcessHost(stage.url, [family, errand, patient], park_after=milliseconds(1)) as front,
        ProcessHost(stage.url, [bill]),
    ):
        handle = await front.start(family(str(world)), id="family")
        with suppress(ProcessEnded):
            await raise_until_there(front, "family/bill", 4)
        result = await handle.result()
        return result, await front.get("family/free").result(), Outside(world).seen()


async def raise_until_there(host: ProcessHost, id: str, amount: int) -> None:
    """A child comes when its parent has got so far."""
    while True:
        try:
            return await host.raise_event(id, Paid, amount, key="once")
        except ProcessNotFound:
            await asyncio.sleep(0.001)


# --- a parent that is cancelled, and one that is terminated: their children compensate ---


@process
async def guardian(proc: Process, outside: str) -> None:
    try:
        await proc.call(patient(outside), "child")
    finally:
        await proc.do(lambda: Outside(outside).receive(f"{proc.id} is the last"), "last")


async def run_cancelled_parents(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [guardian, patient]) as host:
        handles = [await host.start(guardian(str(world)), id=name) for name in ("cancelled", "terminated")]
        with suppress(ProcessEnded):
            await until_started(host, "cancelled/child")
            await handles[0].cancel("not wanted")
        with suppress(ProcessEnded):
            await until_started(host, "terminated/child")
            await host.terminate("terminated", "hopeless")
        waited = [*handles, host.get("cancelled/child"), host.get("terminated/child")]
        ends = await asyncio.gather(*(handle.result() for handle in waited), return_exceptions=True)
        return [type(end).__name__ for end in ends], Outside(world).seen()


async def until_started(host: ProcessHost, id: str) -> None:
    while True:
        try:
            await host.get(id).status()
            return
        except ProcessNotFound:
            await asyncio.sleep(0.001)


# --- a process that goes on for ever, life after life ---


@process
async def teller(proc: Process, outside: str, last: int) -> int:
    number = await proc.event(Paid)
    if number > last:  # what is sent again after a kill reaches another life, which has not seen its key
        last = await proc.do(lambda: _note(outside, number), "note")
    if last < 4:
        await proc.restart(teller(outside, last))
    return await proc.call(little(last), id="the teller's child")


def _note(outside: str, number: int) -> int:
    Outside(outside).receive(f"number {number}")
    return number


async def run_restarts(stage: Stage) -> object:
    world = stage.directory / "outside"
    async with ProcessHost(stage.url, [teller, little]) as host:
        handle = await host.start(teller(str(world), 0), id="teller")
        with suppress(ProcessEnded):
            for number in (1, 2, 3, 4):
                await host.raise_event("teller", Paid, number)
        return await handle.result(), Outside(world).seen()


SCENARIOS = (
    run_steps,
    run_events,
    run_at_most_once,
    run_retry,
    run_compensation,
    run_cancel,
    run_branches,
    run_parking,
    run_two_hosts,
    run_many,
    run_shutdown,
    run_cancelled_by_client,
    run_children,
    run_cancelled_parents,
    run_restarts,
)
