"""The rules of replay, for programs of random shape driven by random choices."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from durable.journal import Kind
from tests.kernel.driver import Choices, Driver, fed, replayed
from tests.kernel.programs import EVENTS, Node, choices, make_program, programs


def drive(tree: Node, numbers: list[int], **options: Any) -> Driver:
    driver = Driver(make_program(tree), Choices(numbers), events=EVENTS, **options)
    driver.go()
    return driver


@given(programs, choices)
def test_any_prefix_of_a_journal_gives_what_the_live_run_saw(tree: Node, numbers: list[int]) -> None:
    """Replaying any prefix, fast or not, gives the trace and the outstanding commands the live run had there."""
    drive(tree, numbers).check_replays()


@given(programs, choices)
def test_feeding_record_by_record_gives_the_same(tree: Node, numbers: list[int]) -> None:
    """A journal fed record by record ends where its replay ends."""
    driver = drive(tree, numbers)
    run = fed(make_program(tree), driver.journal)
    assert run.moment() == driver.moments[-1]
    run.drop()
    driver.run.drop()


@given(programs, choices, st.integers(0, 60), st.booleans())
def test_a_replayed_process_goes_on_as_if_it_had_never_stopped(
    tree: Node, numbers: list[int], cut: int, fast: bool
) -> None:
    """A run replayed from a prefix and fed the rest sees at every record what the unbroken run saw."""
    driver = drive(tree, numbers)
    cut = 1 + cut % len(driver.journal)
    run = replayed(make_program(tree), driver.journal[:cut], fast=fast)
    for record, moment in zip(driver.journal[cut:], driver.moments[cut:], strict=True):
        run.execution.feed(record)
        assert run.moment() == moment
    run.drop()
    driver.run.drop()


@given(programs, choices)
def test_nothing_recorded_runs_again(tree: Node, numbers: list[int]) -> None:
    """No command is outstanding for a checkpoint whose outcome is in the journal, wherever a crash comes."""
    driver = drive(tree, numbers)
    for length in range(1, len(driver.journal) + 1):
        settled = {
            record.name for record in driver.journal[:length] if record.kind in (Kind.DONE, Kind.VALUE, Kind.FAILED)
        }
        run = replayed(driver.make, driver.journal[:length])
        asked = {command[1] for command in run.moment().outstanding if command[0] in ("RunAction", "TakeValue")}
        assert not asked & settled
        run.drop()
    driver.run.drop()


@given(programs, choices)
def test_an_at_most_once_action_starts_once(tree: Node, numbers: list[int]) -> None:
    """An `at_most_once` action starts once at most, whatever crashes."""
    driver = drive(tree, numbers)
    assert all(count == 1 for name, count in driver.ran.items() if "once" in name)
    driver.run.drop()
