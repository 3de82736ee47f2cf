"""A host that was stopped, lost its lease and wakes up writes nothing and starts nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.testing.crash_checks import violations
from tests.crash.sleeper import steal

pytestmark = pytest.mark.slow


def test_woken_after_theft(tmp_path: Path) -> None:
    """A stopped host that wakes up after its process was stolen and ended comes to the result of the thief."""
    evidence = steal(tmp_path)
    assert violations(evidence) == []
    assert evidence.report["outcome"] == "[0, 11, 12]"
    assert [entry.facts["checkpoint"] for entry in evidence.entries("action") if entry.life == 0] == [
        "step 0",
        "step 1",
    ]
