"""The crash tests on a directory of files: killed at writes and inside of them, and with the last frame torn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from durable.testing.crash import CrashTest, KillPoint, Moment, kill_at_every_write
from durable.testing.crash_calls import can_trace
from durable.testing.crash_life import Scenario
from durable.testing.crash_server import CrashServer
from tests.crash.example_scenarios import EXAMPLES
from tests.crash.scenarios import SCENARIOS, run_children, run_compensation, run_restarts, run_steps, run_two_hosts
from tests.crash.torn import URL, Torn, tearing, tell_torn

FEW = (run_compensation, run_two_hosts, run_children, run_restarts)

needs_strace = pytest.mark.skipif(
    not can_trace(), reason="strace is missing or forbidden: kills and faults INSIDE of a commit are NOT tested here"
)


def each(scenarios: Sequence[Scenario]) -> pytest.MarkDecorator:
    """A test for each of *scenarios*."""
    return pytest.mark.parametrize("scenario", scenarios, ids=lambda one: one.__name__.removeprefix("run_"))


# --- between writes --------------------------------------------------------------------------------------------


@each((*FEW, *EXAMPLES))
def test_killed_at_some_writes(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """Killed before or after every fifth write, or before its answer, a scenario ends as if nothing had happened."""
    with CrashTest(scenario, place, url=URL, server=server) as test:
        for number, moment in enumerate(Moment):
            for write in count(2 * number + 1, 5):
                if test.tell(KillPoint(write, moment)).survived:
                    break
        print(test.report.check())


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@each((*SCENARIOS, *EXAMPLES))
def test_killed_at_every_write(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """Killed before and after each write, and between a write and its answer, it ends as if nothing had happened."""
    print(kill_at_every_write(scenario, place, url=URL, server=server).check())


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@each((*SCENARIOS, *EXAMPLES))
def test_killed_at_every_write_twice(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """The run after each kill is killed at each of its own writes, and the one after that still ends right."""
    print(kill_at_every_write(scenario, place, kills=2, url=URL, server=server).check())


# --- inside of a write -----------------------------------------------------------------------------------------


def tear(scenario: Scenario, place: Path, server: CrashServer, *, writes: int, cuts: int) -> None:
    """Tear every *writes*-th write to the commit log, after every *cuts*-th byte."""
    with CrashTest(scenario, place, url=URL, wrapper=tearing, server=server) as test:
        for write in count(1, writes):
            became = Torn.TORN
            for cut in count(0, cuts):
                became = tell_torn(test, place, write, cut)
                if became is not Torn.TORN:
                    break
            if became is Torn.NEVER:
                break
        print(test.report.check())


@each((run_steps, run_restarts))
def test_torn_frames(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """The last frame torn in some places: what was acknowledged before is there, and the scenario ends right."""
    tear(scenario, place, server, writes=3, cuts=97)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@each((run_steps, run_children, run_restarts))
def test_frames_torn_at_every_byte(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """Every frame of the log, the first of a segment too, torn at every byte: the scenario ends right each time."""
    tear(scenario, place, server, writes=1, cuts=1)


@needs_strace
@pytest.mark.parametrize(("call", "step"), [("pwrite64", 2), ("fdatasync", 2), ("rename", 1), ("unlink", 1)])
def test_killed_inside_a_write(call: str, step: int, place: Path, server: CrashServer) -> None:
    """Killed between two system calls of creating, committing or closing the store, the next run ends right."""
    with CrashTest(run_compensation, place, url=URL, server=server) as test:
        print(test.break_at_every_call(call, step=step).check())


@needs_strace
@pytest.mark.parametrize(("call", "error", "step"), [("pwrite64", "ENOSPC", 2), ("fdatasync", "EIO", 2)])
def test_a_failing_disk(call: str, error: str, step: int, place: Path, server: CrashServer) -> None:
    """A disk that fails once, anywhere: what was acknowledged is kept, and the scenario ends right, maybe run again."""
    with CrashTest(run_compensation, place, url=URL, server=server) as test:
        print(test.break_at_every_call(call, error, step=step).check())


@needs_strace
@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "rename", "openat"])
@pytest.mark.parametrize("error", ["", "ENOSPC", "EIO"], ids=["kill", "ENOSPC", "EIO"])
@each(SCENARIOS)
def test_broken_at_every_call(scenario: Scenario, call: str, error: str, place: Path, server: CrashServer) -> None:
    """Each scenario, broken by a kill, a full or a failing disk at every single system call, ends right."""
    with CrashTest(scenario, place, url=URL, server=server) as test:
        print(test.break_at_every_call(call, error))
    assert not test.report.violations
