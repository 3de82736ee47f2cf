"""Children and restarts: cancelled with whoever waits for them, ended before their parent, and a life after a life."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from durable._kernel.commands import CancelChild, Restart, StartChild
from durable._kernel.execution import Execution
from durable._kernel.started import KERNEL_VERSION, Lineage, decode_started, encode_started, read_lineage
from durable.codec import Codec, CompressedCodec, JsonCodec, describe_error
from durable.definition import process
from durable.errors import EncodeError, InvalidAction, InvalidDefinition, ProcessCancelled, ProcessTerminated
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import CODEC, START, ActionFailed, Driver, program_of, replayed


@process(queue="elsewhere", timeout=timedelta(seconds=9))
async def child(proc: Process, number: int) -> int:
    return number


def test_a_child_knows_its_parent() -> None:
    """What a child begins with names its definition, queue, arguments, timeout, and the checkpoint that started it."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.scope("one").start(child(7))

    driver = Driver(program_of(code))
    command = driver.open["checkpoint", "one/child"]
    assert isinstance(command, StartChild)
    assert (command.id, command.definition, command.queue) == ("p/one/child", "child", "elsewhere")
    started = decode_started(CODEC, command.payload)
    assert (started.args, started.kwargs, started.timeout) == ((7,), {}, 9_000_000)
    assert started.lineage == Lineage(1, ("p", "one/child"), None)
    driver.check_replays()


@pytest.mark.parametrize(
    ("kind", "content", "seen"),
    [
        (Kind.COMPLETED, 5, "5"),
        (Kind.ERRED, describe_error(CODEC, ActionFailed("no")), "ActionFailed"),
        (Kind.CANCELLED, ("by hand", False), "ProcessCancelled"),
        (Kind.CANCELLED, ("too late", True), "ProcessTimedOut"),
        (Kind.TERMINATED, "gone", "ProcessTerminated"),
    ],
)
def test_the_outcome_of_a_child_is_that_of_its_process(kind: Kind, content: Any, seen: str) -> None:
    """Whoever waits gets what a caller outside would get, as often as wanted, and a note that names the child."""

    async def code(proc: Process, trace: list[Any]) -> None:
        one = await proc.start(child(1))
        for _ in range(2):
            try:
                trace.append(str(await one.result()))
            except (ActionFailed, ProcessCancelled, ProcessTerminated) as error:
                assert any("'p/child'" in note for note in error.__notes__)
                trace.append(type(error).__name__)

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    driver.return_child("child", kind, content)
    assert driver.run.trace == [seen, seen]
    driver.check_replays()


def test_a_child_may_end_before_anybody_asks() -> None:
    """How it ended is kept for the line that asks, and a later or foreign word about it changes nothing."""

    async def code(proc: Process, trace: list[Any]) -> int:
        one = await proc.start(child(1))
        await proc.delay(timedelta(seconds=5), "pause")
        return await one.result()

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    driver.record(Kind.RETURNED, "child", CODEC.encode(("another id", int(Kind.COMPLETED), 1)))
    driver.record(Kind.RETURNED, "no such checkpoint", CODEC.encode(("p/child", int(Kind.COMPLETED), 1)))
    driver.return_child("child", Kind.COMPLETED, 2)
    driver.record(Kind.RETURNED, "child", CODEC.encode(("p/child", int(Kind.COMPLETED), 3)))
    driver.go()
    assert driver.outcome() == 2
    assert driver.notes() == ()
    driver.check_replays()


def test_cancelling_who_waits_cancels_the_child_and_waits_for_it() -> None:
    """The cancellation goes to the child at once, and arrives where it was waited for when the child has ended."""

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.call(child(1))
        finally:
            trace.append("over")

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    driver.cancel()
    assert isinstance(driver.open["child", "child"], CancelChild)
    driver.cancel("again")
    assert driver.run.trace == []
    driver.crash()
    driver.answer(("child", "child"))
    assert driver.run.trace == ["over"]
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    driver.check_replays()


@pytest.mark.parametrize("kind", [Kind.COMPLETED, Kind.ERRED, Kind.TERMINATED])
def test_a_cancellation_is_not_lost_however_the_child_ends(kind: Kind) -> None:
    """A child that ends otherwise, perhaps in the same moment, does not take the cancellation from its parent."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.call(child(1))

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    driver.cancel()
    content = describe_error(CODEC, ActionFailed("no")) if kind is Kind.ERRED else "content"
    driver.return_child("child", kind, content)
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    assert [note for note in driver.notes() if "failed" in note] == (
        ["child process 'p/child' failed, and nobody awaited it"] if kind is Kind.ERRED else []
    )
    driver.check_replays()


def test_a_timeout_around_a_child_is_kept() -> None:
    """`asyncio.timeout` cancels the child, waits for it, and raises TimeoutError; `shield` leaves the child alone."""

    async def code(proc: Process, trace: list[Any]) -> int:
        slow = await proc.start(child(1))
        try:
            async with asyncio.timeout(5):
                await asyncio.shield(slow.result())
        except TimeoutError:
            trace.append("patient")
        try:
            async with asyncio.timeout(6):
                await slow.result()
        except TimeoutError:
            trace.append("enough")
        return 1

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    driver.answer(next(slot for slot in driver.open if slot[0] == "alarm"))
    assert driver.run.trace == ["patient"]
    assert not [slot for slot in driver.open if slot[0] == "child"]
    driver.answer(next(slot for slot in driver.open if slot[0] == "alarm"))
    assert driver.run.trace == ["patient"]
    driver.answer(("child", "child"))
    assert driver.run.trace == ["patient", "enough"]
    driver.check_replays()


def test_a_start_that_is_cancelled_is_known_before_anybody_goes_on() -> None:
    """Whoever is cancelled while a child is being started hears of it when that is decided, and the child is ended."""

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.start(child(1))
        except asyncio.CancelledError:
            trace.append("cancelled")
            raise

    driver = Driver(program_of(code))
    driver.cancel()
    assert driver.run.trace == []
    driver.crash()
    driver.answer(("checkpoint", "child"))
    assert driver.run.trace == ["cancelled"]
    assert driver.end is None
    driver.answer(("child", "child"))
    assert driver.end is not None
    assert driver.end.kind is Kind.CANCELLED
    driver.check_replays()


def test_a_process_ends_after_its_children() -> None:
    """Attached children that nobody awaits are cancelled and waited for before the end; detached ones are not."""

    async def code(proc: Process, trace: list[Any]) -> str:
        for name in ("one", "two"):
            await proc.start(child(1), name)
        await proc.start(child(1), "free", detached=True)
        return "value"

    driver = Driver(program_of(code))
    for name in ("one", "two", "free"):
        driver.answer(("checkpoint", name))
    assert list(driver.open) == [("child", "one"), ("child", "two")]
    driver.answer(("child", "two"))
    assert driver.end is None
    driver.return_child("one", Kind.ERRED, describe_error(CODEC, ActionFailed("no")))
    assert driver.outcome() == "value"
    assert driver.notes() == ("child process 'p/one' failed, and nobody awaited it",)
    driver.check_replays()


def test_a_detached_child_is_left_alone() -> None:
    """Its result can be awaited like any other, and cancelling who waits does nothing to it."""

    async def code(proc: Process, trace: list[Any]) -> int:
        free = await proc.start(child(1), detached=True)
        try:
            async with asyncio.timeout(5):
                await free.result()
        except TimeoutError:
            trace.append("gone on")
        return await free.result()

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    driver.answer(next(slot for slot in driver.open if slot[0] == "alarm"))
    assert driver.run.trace == ["gone on"]
    assert not driver.open
    driver.return_child("child", Kind.COMPLETED, 4)
    assert driver.outcome() == 4
    driver.check_replays()


def test_a_child_the_code_does_not_ask_for_any_more_is_ended_too() -> None:
    """Code without the checkpoint of a running child ends that child before it ends itself, and reports the drift."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.start(child(1))
        await proc.event("never")

    async def shorter(proc: Process, trace: list[Any]) -> int:
        return 1

    driver = Driver(program_of(code))
    driver.answer(("checkpoint", "child"))
    journal = [*driver.journal]
    with replayed(program_of(shorter), journal) as run:
        assert [type(command) for command in run.execution.outstanding()] == [CancelChild]
        ended = CODEC.encode(("p/child", int(Kind.CANCELLED), ("why", False)))
        run.execution.feed(Record(len(journal) + 1, Kind.RETURNED, "child", ended, journal[-1].time))
        [end] = run.moment().outstanding
        assert "recorded but never asked for: CHILD 'child'" in str(end)
    driver.run.drop()


@pytest.mark.parametrize("what", ["start", "restart"])
def test_what_cannot_be_started_is_refused_at_the_line(what: str) -> None:
    """Arguments that cannot be recorded, or no invocation at all, are errors where they are written."""

    async def code(proc: Process, trace: list[Any]) -> None:
        method: Any = getattr(proc, what)
        for wrong in (child(object()), child, 5):  # type: ignore[arg-type]
            try:
                await method(wrong)
            except (EncodeError, InvalidDefinition) as error:
                trace.append(type(error).__name__)

    driver = Driver(program_of(code))
    assert driver.run.trace == ["EncodeError", "InvalidDefinition", "InvalidDefinition"]
    assert driver.end is not None
    driver.check_replays()


# --- restarts ---


def test_a_restart_ends_the_life_and_keeps_what_nobody_took() -> None:
    """The function is left through its `finally`, tasks and children are ended, and untaken events go over."""

    async def code(proc: Process, trace: list[Any]) -> None:
        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                trace.append(await proc.get("task", "task"))

        await proc.event("news")
        await proc.start(child(1))
        asyncio.create_task(forever())
        try:
            await proc.restart(child(2))
        finally:
            trace.append(await proc.get("function", "function"))

    driver = Driver(program_of(code))
    for number in (1, 2):
        driver.raise_event("news", number, key=f"key {number}")
    driver.answer(("take", "news"))
    driver.answer(("checkpoint", "child"))
    driver.answer(("checkpoint", "function"))
    driver.answer(("checkpoint", "task"))
    assert driver.next_life is None
    driver.answer(("child", "child"))
    assert driver.run.trace == ["function", "task"]
    driver.raise_event("news", 3)
    restart: Any = driver.next_life
    assert isinstance(restart, Restart)
    assert (restart.definition, restart.queue, restart.notes) == ("child", "elsewhere", ())
    assert [(name, CODEC.decode(payload)) for name, payload in restart.events] == [
        ("news", (2, "key 2")),
        ("news", (3, None)),
    ]
    started = decode_started(CODEC, restart.payload)
    assert (started.args, started.timeout, started.lineage.life) == ((2,), 9_000_000, 2)
    driver.check_replays()


def test_the_next_life_keeps_its_parent_and_has_keys_of_its_own() -> None:
    """Later lives tell the same parent, remember the first definition, and share no idempotency key or child id."""

    async def code(proc: Process, trace: list[Any]) -> None:
        trace.append(proc.key("charge"))
        trace.append((await proc.start(child(1))).id)
        await proc.restart(child(2))

    make = program_of(code, name="mine")
    lives = [Lineage(1, ("parent", "there"), None), Lineage(2, ("parent", "there"), "first")]
    seen, following = [], []
    for lineage in lives:
        payload = encode_started(CODEC, (), {}, None, lineage)
        driver = Driver(make, first=Record(1, Kind.STARTED, "test", payload, START))
        driver.answer(("checkpoint", "child"))
        driver.answer(("child", "child"))
        seen += driver.run.trace
        assert driver.next_life is not None
        following.append(decode_started(CODEC, driver.next_life.payload).lineage)
        driver.check_replays()
    assert len(set(seen)) == 4
    assert following == [Lineage(2, ("parent", "there"), "mine"), Lineage(3, ("parent", "there"), "first")]


def test_a_failure_on_the_way_out_fails_the_process() -> None:
    """What a `finally` raises while the process restarts is its end; swallowing the cancellation is not."""

    async def failing(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.restart(child(1))
        finally:
            raise ActionFailed("on the way out")

    async def swallowing(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.restart(child(1))
        except asyncio.CancelledError:
            trace.append("swallowed")

    driver = Driver(program_of(failing))
    assert driver.end is not None
    assert driver.end.kind is Kind.ERRED
    driver.check_replays()
    driver = Driver(program_of(swallowing))
    assert (driver.run.trace, driver.end) == (["swallowed"], None)
    assert driver.next_life is not None
    driver.check_replays()


def test_a_process_that_was_asked_to_stop_does_not_restart() -> None:
    """A cancellation before the restart, or on the way to it, ends the process as cancelled."""

    async def before(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.event("never")
        finally:
            await proc.restart(child(1))

    async def within(proc: Process, trace: list[Any]) -> None:
        try:
            await proc.restart(child(1))
        finally:
            await proc.event("never")

    for code in (before, within):
        driver = Driver(program_of(code))
        driver.cancel()
        assert driver.end is not None
        assert driver.end.kind is Kind.CANCELLED
        driver.check_replays()


async def leave_a_child(proc: Process, trace: list[Any]) -> None:
    await proc.start(child(1))
    await proc.restart(child(2))


async def leave_a_task(proc: Process, trace: list[Any]) -> None:
    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await proc.get(1, "cleared up")

    asyncio.create_task(forever())
    await proc.get(1, "begun")
    await proc.restart(child(2))


async def leave_nothing(proc: Process, trace: list[Any]) -> None:
    await proc.get(1, "begun")
    await proc.restart(child(2))


@pytest.mark.parametrize(
    ("code", "slots"),
    [
        (leave_a_child, [("checkpoint", "child"), ("child", "child")]),
        (leave_a_task, [("checkpoint", "begun"), ("checkpoint", "cleared up")]),
        (leave_nothing, [("checkpoint", "begun")]),
    ],
)
@pytest.mark.parametrize("name", ["request", "deadline"])
def test_a_request_that_comes_after_the_function_is_not_lost(code: Any, slots: list[Any], name: str) -> None:
    """
    Until the next life is recorded a process can be asked to stop, whatever this one still waits for.

    Its timeout is another matter: it is that of this life, whose function is over.
    """
    driver = Driver(program_of(code))
    first, *later = slots
    driver.answer(first)
    driver.record(Kind.CANCEL, name, CODEC.encode("too many of them"))
    for slot in later:
        driver.answer(slot)
    if name == "deadline":
        assert driver.next_life is not None
    else:
        assert driver.next_life is None
        assert driver.outcome() == "too many of them"
    driver.check_replays()


@pytest.mark.parametrize(
    "codec", [CODEC, JsonCodec(), CompressedCodec(CODEC, threshold=1)], ids=["msgpack", "json", "zip"]
)
def test_a_process_that_cannot_begin_still_knows_its_parent(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of a class that is gone, or a newer kernel: it stalls, and whoever started it can hear of its end."""
    gone = type("Gone", (), {"__module__": "gone"})
    module = ModuleType("gone")
    module.Gone = dataclass(gone)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gone", module)
    lineage = Lineage(3, ("parent", "there"), "first")
    unreadable = encode_started(codec, (gone(),), {}, None, lineage)
    newer = codec.encode((KERNEL_VERSION + 1, "3.99", (), {}, None, tuple(lineage)))
    monkeypatch.delitem(sys.modules, "gone")
    for payload in (unreadable, newer):
        execution = Execution("p", program_of(leave_nothing)([]), codec)
        execution.feed(Record(1, Kind.STARTED, "test", payload, START))
        assert execution.stalled is not None
        assert execution.lineage == read_lineage(codec, payload) == lineage


def test_only_the_function_itself_restarts_its_process() -> None:
    """A task that asks for it is refused at its line, and the process goes on."""

    async def code(proc: Process, trace: list[Any]) -> None:
        try:
            await asyncio.create_task(proc.restart(child(1)))
        except InvalidAction as error:
            trace.append(type(error).__name__)

    driver = Driver(program_of(code))
    assert driver.run.trace == ["InvalidAction"]
    assert driver.end is not None
    driver.check_replays()
