"""The harness proves itself: on a store that is broken on purpose it fails, and says which rule was broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.testing.crash import CrashTest, KillPoint, Moment, Stage, kill_at_every_write
from durable.testing.crash_checks import violations
from durable.testing.crash_server import CrashServer
from tests.crash.broken import AcknowledgesEarly, DoesNotFence, ForgetsEvents, SkipsOneRecord
from tests.crash.scenarios import run_steps, run_two_hosts
from tests.crash.sleeper import steal


def test_acknowledging_before_the_commit_is_found(tmp_path: Path, server: CrashServer) -> None:
    """A store that answers before it has written loses records that the host has acted on, and actions run again."""
    report = kill_at_every_write(run_steps, tmp_path, [Moment.UNHEARD], wrapper=AcknowledgesEarly, server=server)
    assert {"lost record", "ran again"} <= {violation.rule for violation in report.violations}
    with pytest.raises(AssertionError, match="lost record"):
        report.check()


def test_a_skipped_record_is_found(tmp_path: Path, server: CrashServer) -> None:
    """A record that was acknowledged and is not in the journal is found, and so is the process that cannot end."""
    with CrashTest(run_steps, tmp_path, wrapper=SkipsOneRecord, seconds=2, server=server) as test:
        story = test.tell(KillPoint(1, Moment.BEFORE))
    assert {"lost record", "not ended", "the scenario failed"} <= {violation.rule for violation in story.violations}


def test_a_lost_event_is_found(tmp_path: Path, server: CrashServer) -> None:
    """An event that was acknowledged and never arrives is found."""
    with CrashTest(run_two_hosts, tmp_path, wrapper=ForgetsEvents, seconds=2, server=server) as test:
        story = test.tell(KillPoint(1, Moment.BEFORE))
    assert {"lost event", "not ended"} <= {violation.rule for violation in story.violations}


def test_missing_fencing_is_found(tmp_path: Path) -> None:
    """A host that may write after its lease was stolen overwrites what the thief has recorded, and that is found."""
    rules = {violation.rule for violation in violations(steal(tmp_path, DoesNotFence))}
    assert "lost record" in rules


def test_a_scenario_that_writes_nothing_is_refused(tmp_path: Path, server: CrashServer) -> None:
    """A scenario whose store is not the one of the harness would never be killed: it is an error, not a success."""
    with pytest.raises(AssertionError, match="wrote nothing"):
        kill_at_every_write(do_nothing, tmp_path, server=server)


def test_a_scenario_that_cannot_be_imported_is_refused(tmp_path: Path, server: CrashServer) -> None:
    """A function inside a function cannot be found by another OS process, and the error says so."""

    async def inner(stage: Stage) -> None: ...

    with pytest.raises(ValueError, match="top level"):
        kill_at_every_write(inner, tmp_path, server=server)


async def do_nothing(stage: Stage) -> None: ...
