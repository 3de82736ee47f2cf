"""Names, not positions: what happens to a journal when the code under it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from durable._kernel.commands import Take
from durable._kernel.program import Program
from durable._kernel.started import KERNEL_VERSION
from durable.errors import DuplicateCheckpoint, DurableError, NewerFormat, NonDeterminismError
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import (
    CODEC,
    SECOND,
    START,
    Choices,
    Driver,
    Make,
    Run,
    comparable,
    fed,
    program_of,
    replayed,
    started,
)
from tests.kernel.programs import EVENTS, Node, choices, make_program, programs


def journal_of(make: Make, stop: int | None = None) -> list[Record]:
    """What an undisturbed run of a program writes, up to *stop* records."""
    driver = Driver(make, disturb=False)
    driver.go(limit=stop or 60)
    driver.run.drop()
    return driver.journal


def go_on(make: Make, journal: Sequence[Record]) -> Driver:
    """Deploy other code under a journal, and run it to its end."""
    driver = Driver(make, disturb=False)
    driver.run.drop()
    driver.ran.clear()
    driver.journal, driver.now = list(journal), journal[-1].time
    driver.recover()
    driver.go()
    return driver


def actions(*names: str, kind: str = "do") -> Any:
    async def steps(proc: Process, trace: list[Any]) -> None:
        for name in names:
            trace.append((name, await getattr(proc, kind)(lambda name=name: f"result of {name}", name)))

    return steps


def test_an_inserted_checkpoint_runs_when_it_is_reached() -> None:
    """A new checkpoint before recorded ones runs once, and what is recorded behind it does not run again."""
    driver = go_on(program_of(actions("a", "new", "b", "c")), journal_of(program_of(actions("a", "b", "c")), stop=3))
    assert driver.ran == {"new": 1, "c": 1}
    assert [name for name, _ in driver.run.trace] == ["a", "new", "b", "c"]
    assert driver.notes() == ()


def test_a_removed_checkpoint_is_noted_as_drift() -> None:
    """A record nobody asks for is noted at the end, and disturbs nothing before."""
    driver = go_on(program_of(actions("a", "c")), journal_of(program_of(actions("a", "b", "c")), stop=3))
    assert driver.ran == {"c": 1}
    assert driver.notes() == ("recorded but never asked for: DONE 'b'",)


def test_swapped_checkpoints_get_each_its_own_record() -> None:
    """Records are found by name, so two lines may change places."""
    driver = go_on(program_of(actions("b", "a")), journal_of(program_of(actions("a", "b"))))
    assert driver.ran == {}
    assert driver.run.trace == [("b", "result of b"), ("a", "result of a")]
    assert driver.notes() == ()


def test_a_renamed_checkpoint_takes_its_record_with_it() -> None:
    """`renames` carries a record to its new name, held or asked for."""
    journal = journal_of(program_of(actions("old", "b")), stop=3)
    for order in (("new", "b"), ("b", "new")):
        driver = go_on(program_of(actions(*order), renames={"old": "new"}), journal)
        assert driver.ran == {}
        assert ("new", "result of old") in driver.run.trace
        assert driver.notes() == ()


def test_a_name_that_was_renamed_cannot_be_used_again() -> None:
    """The old name of a rename is taken: what would be recorded under it could not be told from what was."""
    driver = Driver(program_of(actions("new", "old"), renames={"old": "new"}))
    driver.go()
    assert isinstance(driver.outcome(), DuplicateCheckpoint)
    driver.check_replays()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(
    ("was", "becomes"), [("do", "get"), ("get", "do"), ("delay", "do"), ("event", "delay"), ("do", "timeout")]
)
def test_another_kind_under_the_same_name_stalls_at_once(was: str, becomes: str, held: bool, fast: bool) -> None:
    """A recorded checkpoint asked for as another kind stalls with both sides named, and no code runs after the ask."""

    async def ask(proc: Process, kind: str, trace: list[Any]) -> None:
        if kind == "delay":
            await proc.delay(timedelta(seconds=60), "it")
        elif kind == "event":
            await proc.event("it", timeout=timedelta(seconds=60))
        elif kind == "timeout":
            async with proc.timeout(timedelta(seconds=60), "it"):
                if held:
                    trace.append("code ran on")
                await asyncio.sleep(1)
        else:
            await getattr(proc, kind)(lambda: 1, "it")

    async def old(proc: Process, trace: list[Any]) -> None:
        with suppress(TimeoutError):
            await ask(proc, was, trace)
        await proc.get(1, "mark")

    async def new(proc: Process, trace: list[Any]) -> None:
        async def beside() -> None:
            trace.append("code ran on")

        if held:
            await proc.get(1, "mark")  # by now the records of the other are there
        try:
            await asyncio.gather(ask(proc, becomes, trace), *([beside()] if held else []))
        finally:
            trace.append("code ran on")

    run = replayed(program_of(new), journal_of(program_of(old)), fast=fast)
    error = run.execution.stalled
    assert isinstance(error, NonDeterminismError)
    assert f"code: {becomes} 'it'" in str(error)
    assert "journal: record 2" in str(error)
    assert run.trace == []
    assert run.execution.feed(Record(99, Kind.CANCEL, "request", CODEC.encode("x"), START)) == []
    run.drop()


def test_another_kind_is_noticed_even_when_its_waiter_has_gone() -> None:
    """A checkpoint that was asked for, given up, and then answered by a record of another kind stalls too."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await proc.do(lambda: 1, "it")

    async def new(proc: Process, trace: list[Any]) -> None:
        async with proc.timeout(timedelta(seconds=60), "it"):
            pass
        await proc.get(1, "more")

    run = replayed(program_of(new), journal_of(program_of(old)))
    assert isinstance(run.execution.stalled, NonDeterminismError)
    run.drop()


def test_strict_stalls_on_drift() -> None:
    """A strict program whose journal holds more than it asks for stalls in place of its end."""
    journal = journal_of(program_of(actions("a", "b")))
    run = replayed(program_of(actions("b"), strict=True), journal)
    assert "DONE 'a'" in str(run.execution.stalled)
    assert comparable(run.execution.outstanding())[0][:2] == ("Stall", "Drift")


def test_asked_and_cancelled_is_no_drift() -> None:
    """A record whose checkpoint was asked for and given up is not drift, even for a strict program."""

    async def code(proc: Process, trace: list[Any]) -> None:
        task = asyncio.create_task(proc.do(lambda: 1, "given up"))
        await proc.get(1, "first")
        task.cancel()
        await proc.get(2, "second")

    driver = Driver(program_of(code, strict=True))
    driver.answer(("checkpoint", "first"))
    kind, name, payload = driver.late.pop()
    driver.record(kind, name, payload)
    driver.go()
    assert driver.run.execution.stalled is None
    assert driver.notes() == ()
    driver.check_replays()


def test_an_inserted_wait_cannot_steal_an_event() -> None:
    """An event the journal gave to one wait does not go to a new wait before it."""

    async def old(proc: Process, trace: list[Any]) -> None:
        trace.append(await proc.event("red", name="old wait"))
        await proc.get(1, "after")

    async def new(proc: Process, trace: list[Any]) -> None:
        trace.append(("new", await proc.event("red", name="new wait")))
        trace.append(("old", await proc.event("red", name="old wait")))

    driver = Driver(program_of(old))
    driver.raise_event("red", "for the old")
    driver.answer(("take", "old wait"))
    driver.run.drop()
    changed = go_on(program_of(new), driver.journal)
    assert changed.run.trace == []
    changed.raise_event("red", "for the new")
    changed.go()
    assert changed.run.trace == [("new", "for the new"), ("old", "for the old")]


def test_a_wait_that_lost_its_event_gets_the_next() -> None:
    """A new wait beside an old one is promised an event, loses it to the journal, and takes the one after it."""

    async def old(proc: Process, trace: list[Any]) -> None:
        trace.append(await proc.event("red", name="old wait"))
        await proc.event("never")

    async def new(proc: Process, trace: list[Any]) -> None:
        trace.append(await asyncio.gather(proc.event("red", name="new wait"), proc.event("red", name="old wait")))

    driver = Driver(program_of(old))
    driver.raise_event("red", 1)
    driver.answer(("take", "old wait"))
    driver.run.drop()
    changed = go_on(program_of(new), driver.journal)
    changed.raise_event("red", 2)
    assert Take("new wait", 4) in changed.run.execution.outstanding()
    changed.go()
    assert changed.run.trace == [[2, 1]]


def test_an_event_given_away_by_the_code_and_by_the_journal_stalls() -> None:
    """When changed code lets another wait keep an event that the journal gives to a second one, it stalls."""

    async def old(proc: Process, trace: list[Any]) -> None:
        patient = asyncio.create_task(proc.event("red", name="a"))
        await proc.get(1, "one")
        patient.cancel()
        await proc.event("red", name="b")

    async def new(proc: Process, trace: list[Any]) -> None:
        await asyncio.gather(proc.event("red", name="a"), proc.get(1, "one"), proc.event("red", name="b"))

    driver = Driver(program_of(old))
    driver.raise_event("red", 1)
    driver.answer(("checkpoint", "one"))
    assert driver.late[0][:2] == (Kind.TAKEN, "a")
    driver.record(*driver.late.pop())  # on its way when it was given up
    driver.go()
    assert driver.end is not None
    run = replayed(program_of(new), driver.journal)
    assert isinstance(run.execution.stalled, NonDeterminismError)
    run.drop()


def test_timers_without_names_are_found_by_task_and_length() -> None:
    """A sleep inserted before a recorded one does not make the recorded one fire early, nor lose it."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await asyncio.sleep(60)
        trace.append("60")
        await asyncio.sleep(30 * 86_400)
        trace.append("30 days")

    async def new(proc: Process, trace: list[Any]) -> None:
        await asyncio.sleep(5)
        trace.append("5")
        await old(proc, trace)

    driver = Driver(program_of(old))
    driver.answer(("alarm", "|60000000|1"))
    driver.run.drop()
    run = replayed(program_of(new), driver.journal)
    assert run.trace == []
    run.execution.feed(Record(3, Kind.ALARM, "|5000000|1", b"", START + 70 * SECOND))
    assert run.trace == ["5", "60"]
    assert [command.name for command in run.execution.outstanding()] == ["|2592000000000|1"]  # type: ignore[union-attr]
    run.drop()


def test_swapped_sleeps_and_tasks_keep_their_timers() -> None:
    """Sleeps of different lengths may change places; an alarm of another task matches nothing and is drift."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await asyncio.sleep(1)
        await asyncio.sleep(2)
        await proc.get(1, "x")

    async def swapped(proc: Process, trace: list[Any]) -> None:
        await asyncio.sleep(2)
        await asyncio.sleep(1)
        await proc.get(1, "x")

    async def gone(proc: Process, trace: list[Any]) -> None:
        await asyncio.create_task(asyncio.sleep(1))
        await asyncio.sleep(2)
        await proc.get(1, "x")

    journal = journal_of(program_of(old))
    assert go_on(program_of(swapped), journal).names(Kind.ALARM) == ["|1000000|1", "|2000000|1"]
    changed = go_on(program_of(gone), journal)
    assert changed.names(Kind.ALARM) == ["|1000000|1", "|2000000|1", "1|1000000|1"]
    assert changed.notes() == ("recorded but never asked for: ALARM '|1000000|1'",)


def test_a_held_delay_knows_how_late_it_woke() -> None:
    """The lateness of a delay is that of its own record, however much later the code asks for it."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await proc.delay(timedelta(seconds=1), "pause")
        await proc.get(1, "x")

    async def new(proc: Process, trace: list[Any]) -> None:
        await proc.delay(timedelta(seconds=100), "new")
        trace.append(await proc.delay(timedelta(seconds=1), "pause"))

    changed = go_on(program_of(new), journal_of(program_of(old)))
    (lateness,) = changed.run.trace
    assert lateness < timedelta(seconds=1)


def test_an_intent_held_for_later_code_is_not_run_again() -> None:
    """An action whose intent is recorded is interrupted, not started, even if changed code asks for it only later."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await proc.do(lambda: 1, "pay", at_most_once=True)

    async def new(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "new")
        try:
            await proc.do(lambda: 1, "pay", at_most_once=True)
        except DurableError as error:
            trace.append(type(error).__name__)

    driver = go_on(program_of(new), journal_of(program_of(old), stop=2))
    assert driver.ran == {}
    assert driver.run.trace == ["StepInterrupted"]


@pytest.mark.parametrize("fast", [True, False])
def test_a_task_that_is_to_be_cancelled_gets_no_recorded_value(fast: bool) -> None:
    """A checkpoint reached with a pending cancellation is cancelled, though its record is there, fast or not."""

    async def old(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "x")

    async def new(proc: Process, trace: list[Any]) -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        try:
            trace.append(await proc.get(1, "x"))
        except asyncio.CancelledError:
            trace.append("cancelled")

    with replayed(program_of(new), journal_of(program_of(old)), fast=fast) as run:
        assert run.trace == ["cancelled"]


def test_a_journal_of_a_newer_kernel_stalls() -> None:
    """A process started by a newer kernel runs nothing here and waits for the upgrade."""
    payload = CODEC.encode((KERNEL_VERSION + 1, "3.11", (), {}, None))
    run = Run(program_of(actions("a")))
    run.execution.feed(Record(1, Kind.STARTED, "test", payload, START))
    assert isinstance(run.execution.stalled, NewerFormat)
    assert run.execution.tasks() == []


def test_arguments_the_code_no_longer_takes_stall() -> None:
    """A process whose function has another signature now stalls before any of its code runs."""

    async def code(proc: Process, new_parameter: int) -> None:
        raise AssertionError("it ran")

    run = Run(lambda trace: Program(lambda execution, args, kwargs: code(Process(execution), *args, **kwargs)))
    run.execution.feed(started(args=()))
    assert isinstance(run.execution.stalled, NonDeterminismError)


@given(programs, choices, programs)
def test_any_journal_under_any_code_is_safe(tree: Node, numbers: list[int], other: Node) -> None:
    """Under a journal of other code a process never fails in the kernel, and fast, slow and single feeding agree."""
    driver = Driver(make_program(tree, bare=True), Choices(numbers), events=EVENTS)
    driver.go()
    driver.run.drop()
    make = make_program(other, bare=True)
    runs = [replayed(make, driver.journal), replayed(make, driver.journal, fast=False), fed(make, driver.journal)]
    assert runs[0].moment() == runs[1].moment() == runs[2].moment()
    for run in runs:
        run.drop()
