"""A host never unwinds a process: what Python closes by itself runs when a process is cancelled or ends, only then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.held_open import HELD

_EXPECTED_STATUS = {"fall_out": 3, "interrupt": -2, "interrupt_step": -2}
_ENDED_BY_ITSELF = {function.__name__ for function in HELD} - {"in_gather", "in_lock"}
_ONLY_ON_ERRORS = {"in_except_base", "in_bare_except", "in_except_cancelled"}


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def run(way: str, effects: Path) -> str:
    """Leave the processes of `held_open` in this way, in an OS process of their own; what it says on stderr."""
    url = f"sqlite:///{effects.parent}/store.db"
    done = subprocess.run(
        [sys.executable, "-m", "tests.host.held_open", way, url, str(effects)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == _EXPECTED_STATUS.get(way, 0), done.stderr
    return done.stderr


def noted(effects: Path) -> dict[str, list[str]]:
    """What was noted for each process."""
    found: dict[str, list[str]] = {}
    for line in effects.read_text().splitlines():
        if line.startswith("# "):
            found[line[2:]] = []
        else:
            found[list(found)[-1]].append(line)
    return found


@pytest.mark.parametrize(
    "way",
    ["leave", "leave_with_error", "forget", "fall_out", "interrupt", "interrupt_step", "park", "lose", "terminate_all"],
)
def test_nothing_runs(way: str, effects: Path) -> None:
    """However a host lets go of a process, through the exit of Python, none of its ``finally``, ``with``, … runs."""
    said = run(way, effects)
    assert not effects.exists(), effects.read_text()
    if not way.startswith("interrupt"):
        assert said == ""
    assert "ignored" not in said
    assert "never" not in said


@pytest.mark.parametrize("way", ["leave", "forget", "interrupt", "park", "lose"])
def test_everything_runs_later(way: str, effects: Path) -> None:
    """A process that was let go in any way still runs everything when it is really cancelled by a later host."""
    run(way, effects)
    run("cancel_all", effects)
    assert noted(effects) == {function.__name__: [what] for function, what in HELD.items()}


def test_cancellation_runs_everything(effects: Path) -> None:
    """A cancelled process runs everything it holds open, once."""
    run("cancel_all", effects)
    assert noted(effects) == {function.__name__: [what] for function, what in HELD.items()}


def test_a_real_end_runs_everything(effects: Path) -> None:
    """A process that ends by itself runs everything it holds open, once, but for handlers of errors."""
    run("end_all", effects)
    expected = {function.__name__: [what] for function, what in HELD.items() if function.__name__ in _ENDED_BY_ITSELF}
    assert noted(effects) == {name: [] if name in _ONLY_ON_ERRORS else what for name, what in expected.items()}
