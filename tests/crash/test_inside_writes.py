"""Kills and faults between the system calls of SQLite itself: in creation, in commits, and in the last checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.testing.crash import CrashTest
from durable.testing.crash_calls import can_trace
from durable.testing.crash_life import Scenario
from durable.testing.crash_server import CrashServer
from tests.crash.scenarios import SCENARIOS, run_compensation

pytestmark = pytest.mark.skipif(
    not can_trace(), reason="strace is missing or forbidden: kills and faults INSIDE of a commit are NOT tested here"
)


@pytest.mark.parametrize(("call", "step"), [("pwrite64", 9), ("fdatasync", 2)])
def test_killed_inside_a_write(call: str, step: int, place: Path, server: CrashServer) -> None:
    """Killed between two system calls of creating, committing or closing the store, the next run ends right."""
    with CrashTest(run_compensation, place, server=server) as test:
        report = test.break_at_every_call(call, step=step).check()
    print(report)


@pytest.mark.parametrize(("call", "error", "step"), [("pwrite64", "ENOSPC", 11), ("fdatasync", "EIO", 3)])
def test_a_failing_disk(call: str, error: str, step: int, place: Path, server: CrashServer) -> None:
    """A disk that fails once, anywhere: what was acknowledged is kept, and the scenario ends right, maybe run again."""
    with CrashTest(run_compensation, place, server=server) as test:
        report = test.break_at_every_call(call, error, step=step).check()
    print(report)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate", "unlink"])
@pytest.mark.parametrize("error", ["", "ENOSPC", "EIO"], ids=["kill", "ENOSPC", "EIO"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.removeprefix("run_"))
def test_broken_at_every_call(scenario: Scenario, call: str, error: str, place: Path, server: CrashServer) -> None:
    """Each scenario, broken by a kill, a full or a failing disk at every single system call, ends right."""
    with CrashTest(scenario, place, server=server) as test:
        print(test.break_at_every_call(call, error))
    assert not test.report.violations
