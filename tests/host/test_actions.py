"""Actions: where they run, how often, how they end, and what a process sees of it."""

from __future__ import annotations

import asyncio
import functools
import threading
from datetime import timedelta

import pytest

from durable import (
    EncodeError,
    InvalidAction,
    InvalidDefinition,
    PayloadTooLarge,
    Process,
    ProcessFailed,
    ProcessHost,
    Retry,
    StepError,
    StepInterrupted,
    current_step,
    process,
)
from durable.testing import ManualClock

SOON = timedelta(seconds=20)


class Service:
    """Methods as an application has them."""

    async def fetch(self, value: int) -> int:
        await asyncio.sleep(0)
        return value

    def compute(self, value: int) -> tuple[int, str]:
        return value, threading.current_thread().name


service = Service()


async def test_async_actions_run_on_the_loop_and_sync_ones_in_threads(url: str) -> None:
    """However an action is written, a sync one never runs on the event loop's thread, an async one always does."""
    loop_thread = threading.current_thread().name

    async def where() -> str:
        return threading.current_thread().name

    @process
    async def places(proc: Process) -> list[object]:
        return [
            await proc.do(where, "function"),
            await proc.do(lambda: where(), "lambda"),
            await proc.do(functools.partial(where), "partial"),
            await proc.do(lambda: service.fetch(1), "method in lambda"),
            (await proc.do(lambda: service.compute(1), "sync in lambda"))[1],
            (await proc.do(functools.partial(service.compute, 1), "sync partial"))[1],
            await proc.do(lambda: asyncio.get_running_loop().create_task(where()), "wants the loop"),
        ]

    async with ProcessHost(url, [places]) as host:
        found = await (await host.start(places(), id="p")).result(SOON)
    assert found[0] == found[1] == found[2] == found[6] == loop_thread
    assert found[3] == 1
    assert found[4] != loop_thread
    assert found[5] != loop_thread


async def test_an_exception_is_caught_as_its_own_type(url: str) -> None:
    """`except` in a process catches what the action raised, and the handle raises what the process raised."""

    class Refused(Exception):
        def __init__(self, amount: int) -> None:
            super().__init__(f"refused {amount}")
            self.amount = amount

    import durable

    durable.register(Refused)

    def refuse() -> None:
        raise Refused(7)

    @process
    async def pay(proc: Process) -> int:
        try:
            await proc.do(refuse, "pay")
        except Refused as error:
            if error.amount == 7:
                raise KeyError("seven") from None
        return 0

    async with ProcessHost(url, [pay]) as host:
        with pytest.raises(KeyError, match="seven"):
            await (await host.start(pay(), id="p")).result(SOON)


async def test_an_exception_that_cannot_be_restored_keeps_its_facts(url: str) -> None:
    """A failure of a class that does not survive the journal is a `StepError` inside and a `ProcessFailed` outside."""

    class Local(Exception):
        def __init__(self, lock: threading.Lock) -> None:
            super().__init__("cannot be written down", lock)

    def fail() -> None:
        raise Local(threading.Lock())

    @process
    async def failing(proc: Process) -> None:
        with pytest.raises(StepError, match="cannot be written down"):
            await proc.do(fail, "fail")
        await proc.do(fail, "fail again")

    async with ProcessHost(url, [failing]) as host:
        with pytest.raises(ProcessFailed, match="cannot be written down"):
            await (await host.start(failing(), id="p")).result(SOON)


async def test_a_retry_waits_and_tries_again(url: str) -> None:
    """Failed attempts are recorded with their pause; the last outcome is what the process sees."""
    attempts: list[int] = []

    def flaky() -> str:
        attempts.append(current_step().attempt)
        if len(attempts) < 4:
            raise ConnectionError("not yet")
        return "at last"

    @process
    async def trying(proc: Process) -> str:
        return await proc.do(
            flaky, "try", retry=Retry(5, delay=timedelta(hours=1), longest=timedelta(days=1), jitter=0)
        )

    clock = ManualClock(autojump=True)
    started = clock.now()
    async with ProcessHost(url, [trying], clock=clock) as host:
        handle = await host.start(trying(), id="p")
        assert await handle.result(SOON) == "at last"
        kinds = [entry.kind for entry in await handle.history()]
    assert attempts == [1, 2, 3, 4]
    assert kinds == ["STARTED", "ATTEMPT", "ATTEMPT", "ATTEMPT", "DONE", "COMPLETED"]
    assert clock.now() - started >= 7 * 3600 * 1_000_000


async def test_a_back_off_of_hours_survives_a_restart(url: str) -> None:
    """The pause before the second attempt goes on in the next host, and the first attempt is not repeated."""
    attempts: list[int] = []

    def flaky() -> str:
        attempts.append(current_step().attempt)
        if len(attempts) == 1:
            raise ConnectionError("not yet")
        return "at last"

    @process
    async def trying(proc: Process) -> str:
        return await proc.do(
            flaky, "try", retry=Retry(2, delay=timedelta(hours=5), longest=timedelta(days=1), jitter=0)
        )

    clock = ManualClock()
    async with ProcessHost(url, [trying], clock=clock) as host:
        await host.start(trying(), id="p")
        await clock.advance(timedelta(hours=3))
    assert attempts == [1]
    async with ProcessHost(url, [trying], clock=clock) as host:
        await clock.advance(timedelta(hours=1))
        assert attempts == [1]
        await clock.advance(timedelta(hours=1, seconds=1))
        assert await host.get("p").result(SOON) == "at last"
    assert attempts == [1, 2]


async def test_errors_not_worth_a_retry_fail_at_once(url: str) -> None:
    """`on=` decides which errors are tried again."""

    def fail() -> None:
        raise ValueError("no use")

    @process
    async def trying(proc: Process) -> None:
        await proc.do(fail, "try", retry=Retry(5, on=ConnectionError))

    async with ProcessHost(url, [trying]) as host:
        handle = await host.start(trying(), id="p")
        with pytest.raises(ValueError, match="no use"):
            await handle.result(SOON)
        assert [entry.kind for entry in await handle.history()] == ["STARTED", "FAILED", "ERRED"]


async def test_an_attempt_that_takes_too_long_times_out(url: str) -> None:
    """The timeout of an attempt is a failure the process can catch; the action is told to stop."""
    stopped = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @process
    async def patient(proc: Process) -> str:
        try:
            await proc.do(hang, "hang", timeout=timedelta(seconds=30))
        except TimeoutError:
            return "gave up"
        return "?"

    clock = ManualClock()
    async with ProcessHost(url, [patient], clock=clock) as host:
        handle = await host.start(patient(), id="p")
        clock.jump(timedelta(seconds=31))
        assert await handle.result(SOON) == "gave up"
        assert stopped.is_set()


async def test_no_action_starts_under_one_that_has_not_ended(url: str) -> None:
    """Compensation waits until a timed-out sync action has really ended."""
    may_end = threading.Event()
    running = asyncio.Event()
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def stubborn() -> None:
        loop.call_soon_threadsafe(running.set)
        may_end.wait(20)
        assert current_step().cancelled
        order.append("action ended")

    @process
    async def careful(proc: Process) -> None:
        try:
            await proc.do(stubborn, "stubborn", timeout=timedelta(seconds=5))
        except TimeoutError:
            order.append("process knows")
            await proc.do(lambda: order.append("compensated"), "compensate")

    clock = ManualClock()
    async with ProcessHost(url, [careful], clock=clock) as host:
        handle = await host.start(careful(), id="p")
        await running.wait()
        clock.jump(timedelta(seconds=6))
        while "process knows" not in order:
            await asyncio.sleep(0)
        may_end.set()
        await handle.result(SOON)
    assert order == ["process knows", "action ended", "compensated"]


async def test_an_at_most_once_action_is_not_started_again(url: str) -> None:
    """After a host left in the middle of it, the process is told that the outcome is unknown."""
    starts: list[int] = []

    async def charge() -> None:
        starts.append(1)
        await asyncio.Event().wait()

    @process
    async def pay(proc: Process) -> str:
        try:
            await proc.do(charge, "charge", at_most_once=True)
        except StepInterrupted as error:
            return f"unknown: {error.code}"
        return "?"

    async with ProcessHost(url, [pay], grace=timedelta(0)) as host:
        await host.start(pay(), id="p")
        while not starts:
            await asyncio.sleep(0)
    async with ProcessHost(url, [pay]) as host:
        assert await host.get("p").result(SOON) == "unknown: D107"
    assert starts == [1]


async def test_an_action_that_was_interrupted_runs_again(url: str) -> None:
    """At least once: what a host left behind unfinished runs again in the next, under the same key."""
    keys: list[str] = []

    async def work() -> str:
        keys.append(current_step().key)
        if len(keys) == 1:
            await asyncio.Event().wait()
        return "done"

    @process
    async def working(proc: Process) -> tuple[str, bool]:
        done = await proc.do(work, "work")
        return done, proc.key("work") == keys[0]

    async with ProcessHost(url, [working], grace=timedelta(0)) as host:
        await host.start(working(), id="p")
        while not keys:
            await asyncio.sleep(0)
    async with ProcessHost(url, [working]) as host:
        assert await host.get("p").result(SOON) == ("done", True)
    assert len(keys) == 2
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("result", "error"),
    [(object(), EncodeError), ("x" * 5000, PayloadTooLarge)],
    ids=["unencodable", "too large"],
)
async def test_a_result_that_cannot_be_recorded_is_the_failure_of_that_line(
    url: str, result: object, error: type[Exception]
) -> None:
    """The action ran, so it is not retried; the process gets an error that names the checkpoint, and can go on."""
    ran: list[int] = []

    def work() -> object:
        ran.append(1)
        return result

    @process
    async def working(proc: Process) -> str:
        try:
            await proc.do(work, "work", retry=Retry(3))
        except error as caught:
            assert "work" in str(caught)
            return await proc.do(lambda: "went on", "next")
        return "?"

    async with ProcessHost(url, [working], payload_limit=4000) as host:
        assert await (await host.start(working(), id="p")).result(SOON) == "went on"
    assert ran == [1]


@pytest.mark.parametrize(
    "raised", [StopIteration("x"), asyncio.CancelledError()], ids=["StopIteration", "CancelledError"]
)
async def test_odd_exceptions_of_actions_become_step_errors(url: str, raised: BaseException) -> None:
    """What would confuse a coroutine if it were raised in it arrives as `StepError`, once, and is recorded."""

    async def odd() -> None:
        raise raised

    def odd_sync() -> None:
        raise raised

    @process
    async def working(proc: Process) -> str:
        with pytest.raises(StepError):
            await proc.do(odd_sync, "odd")
        if isinstance(raised, asyncio.CancelledError):
            with pytest.raises(StepError):
                await proc.do(odd, "odd async")
        return "fine"

    async with ProcessHost(url, [working]) as host:
        assert await (await host.start(working(), id="p")).result(SOON) == "fine"


async def test_misuse_of_do_is_told_at_the_line(url: str) -> None:
    """A coroutine instead of a callable, no callable, contradicting options: an error with the line to write."""

    async def work() -> None: ...

    @process
    async def wrong(proc: Process) -> list[str]:
        texts = []
        for number, attempt in enumerate(
            (
                lambda: proc.do(work(), "a"),  # type: ignore[call-overload]
                lambda: proc.do(5, "b"),  # type: ignore[call-overload]
                lambda: proc.do(work, "c", at_most_once=True, retry=Retry()),
                lambda: proc.do(work, "d", timeout=timedelta(0)),
                lambda: proc.do(work, "d2", retry=3),  # type: ignore[call-overload]
                lambda: proc.do(work, "d3", timeout=5),  # type: ignore[call-overload]
                lambda: proc.get(work(), "e"),
                lambda: proc.do(work, ""),
                lambda: proc.do(work, "x" * 201),
            )
        ):
            try:
                await attempt()  # type: ignore[no-untyped-call]
            except (InvalidAction, InvalidDefinition, ValueError) as error:
                texts.append(f"{number}: {error}")
        return texts

    async with ProcessHost(url, [wrong]) as host:
        texts = await (await host.start(wrong(), id="p")).result(SOON)
    assert len(texts) == 9
    assert "await proc.do(lambda: " in texts[0]


async def test_actions_of_one_process_run_side_by_side(url: str) -> None:
    """`gather` over actions runs them at the same time: each waits for all the others."""
    barrier = asyncio.Barrier(5)

    @process
    async def together(proc: Process) -> int:
        arrived = await asyncio.gather(*(proc.scope(str(n)).do(barrier.wait, "meet") for n in range(5)))
        return len(arrived)

    async with ProcessHost(url, [together]) as host:
        assert await (await host.start(together(), id="p")).result(SOON) == 5


async def test_the_loser_of_a_race_is_told_to_stop(url: str) -> None:
    """An action whose waiter was cancelled is cancelled itself, and nothing is recorded for it."""
    cancelled = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @process
    async def race(proc: Process) -> str | None:
        fast = asyncio.create_task(proc.do(lambda: "fast", "fast"))
        other = asyncio.create_task(proc.do(slow, "slow"))
        done, _ = await asyncio.wait([fast, other], return_when=asyncio.FIRST_COMPLETED)
        other.cancel()
        return next(iter(done)).result()

    async with ProcessHost(url, [race]) as host:
        handle = await host.start(race(), id="p")
        assert await handle.result(SOON) == "fast"
        assert cancelled.is_set()
        assert [entry.name for entry in await handle.history() if entry.kind == "DONE"] == ["fast"]


async def test_a_result_of_a_process_that_is_too_large_is_its_failure(url: str) -> None:
    """What the function returns has the limit of every payload; the process ends, and says why it failed."""

    @process
    async def large(proc: Process) -> str:
        return "x" * 5000

    async with ProcessHost(url, [large], payload_limit=4000) as host:
        with pytest.raises(PayloadTooLarge, match="result of process 'p'"):
            await (await host.start(large(), id="p")).result(SOON)


async def test_waiting_for_a_thread_is_not_the_time_of_the_action(url: str) -> None:
    """With one thread, an action that waits for another one to end does not time out before it has begun."""
    busy = asyncio.Event()
    free = threading.Event()
    loop = asyncio.get_running_loop()

    def occupy() -> None:
        loop.call_soon_threadsafe(busy.set)
        free.wait(20)

    @process
    async def first(proc: Process) -> None:
        await proc.do(occupy, "occupy")

    @process
    async def second(proc: Process) -> str:
        return await proc.do(lambda: "in time", "quick", timeout=timedelta(seconds=5))

    clock = ManualClock()
    async with ProcessHost(url, [first, second], threads=1, clock=clock) as host:
        await host.start(first(), id="first")
        await busy.wait()
        handle = await host.start(second(), id="second")
        clock.jump(timedelta(seconds=60))
        await asyncio.sleep(0)
        free.set()
        assert await handle.result(SOON) == "in time"
