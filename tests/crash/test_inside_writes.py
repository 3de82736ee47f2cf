"""Kills and faults between the system calls of SQLite itself: in creation, in commits, and in the last checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.testing.crash import CrashTest
from durable.testing.crash_calls import can_trace
from tests.crash.scenarios import run_compensation

pytestmark = pytest.mark.skipif(
    not can_trace(), reason="strace is missing or forbidden: kills and faults INSIDE of a commit are NOT tested here"
)


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_killed_inside_a_write(call: str, place: Path) -> None:
    """Killed between two system calls of creating, committing or closing the store, the next run ends right."""
    with CrashTest(run_compensation, place) as test:
        report = test.break_at_every_call(call).check()
    print(report)


@pytest.mark.parametrize(("call", "error"), [("pwrite64", "ENOSPC"), ("fdatasync", "EIO"), ("fdatasync", "ENOSPC")])
def test_a_failing_disk(call: str, error: str, place: Path) -> None:
    """A disk that fails once, anywhere: what was acknowledged is kept, and the scenario ends right, at once or run again."""
    with CrashTest(run_compensation, place) as test:
        report = test.break_at_every_call(call, error).check()
    print(report)
