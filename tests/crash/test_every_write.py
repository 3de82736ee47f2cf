"""Every scenario, killed at every write in turn, comes to the end of its unbroken run and repeats nothing recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.testing.crash import kill_at_every_write
from durable.testing.crash_life import Scenario
from durable.testing.crash_server import CrashServer
from tests.crash.scenarios import SCENARIOS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.removeprefix("run_"))
def test_killed_at_every_write(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """Killed before and after each write, and between a write and its answer, it ends as if nothing had happened."""
    report = kill_at_every_write(scenario, place, server=server).check()
    print(report)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.removeprefix("run_"))
def test_killed_at_every_write_twice(scenario: Scenario, place: Path, server: CrashServer) -> None:
    """The run after each kill is killed at each of its own writes, and the one after that still ends right."""
    report = kill_at_every_write(scenario, place, kills=2, server=server).check()
    print(report)
