"""Every example, killed at every write in turn, comes to the end of its unbroken run and leaves the world the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.testing.crash import kill_at_every_write
from durable.testing.crash_life import Scenario
from durable.testing.crash_server import CrashServer
from tests.crash.example_scenarios import EXAMPLES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__.removeprefix("run_"))
def test_an_example_killed_at_every_write(example: Scenario, place: Path, server: CrashServer) -> None:
    """Users, mails, money and archives are as if nobody had been killed, and no recorded checkpoint runs again."""
    report = kill_at_every_write(example, place, server=server).check()
    print(report)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.__name__.removeprefix("run_"))
def test_an_example_killed_at_every_write_twice(example: Scenario, place: Path, server: CrashServer) -> None:
    """The run after each kill is killed at each of its own writes, and the one after that still ends right."""
    report = kill_at_every_write(example, place, kills=2, server=server).check()
    print(report)
