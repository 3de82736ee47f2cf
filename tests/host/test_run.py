"""`run`: one process from a plain program, watched, gone on with, and cancelled by Ctrl-C."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from durable import Process, ProcessCancelled, ProcessStatus, process, run

ran: list[str] = []


@process
async def count(proc: Process, numbers: int) -> int:
    for number in range(numbers):
        await proc.do(lambda: ran.append("counted"), f"number {number}")
        proc.progress(number + 1, numbers, "counting")
    return numbers


@process
async def interrupted(proc: Process) -> None:
    try:
        proc.progress(1, 2, "waiting")
        await proc.event("never")
    finally:
        await proc.do(lambda: ran.append("cleaned up"), "cleaned up")


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def test_the_same_id_is_run_once(tmp_path: Path) -> None:
    """A second run of a finished process gives its result and runs nothing."""
    url = f"sqlite:///{tmp_path}/run.db"
    assert [run(count(2), id="one", url=url) for _ in range(2)] == [2, 2]
    assert ran == ["counted"] * 2


def test_it_can_be_watched() -> None:
    """`watch` is called with how the process stands first, with its progress, and with its end."""
    seen: list[ProcessStatus] = []
    run(count(3), id="one", url="memory://", watch=seen.append)
    assert not seen[0].ended
    assert seen[-1].ended


def test_ctrl_c_cancels_and_lets_it_compensate() -> None:
    """The first SIGINT reaches the process as its cancellation; `run` raises `ProcessCancelled` when it is through."""

    def press_ctrl_c(status: ProcessStatus) -> None:
        if status.progress is not None and not ran:
            ran.append("pressed")
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ProcessCancelled, match="keyboard"):
        run(interrupted(), id="one", url="memory://", watch=press_ctrl_c)
    assert ran == ["pressed", "cleaned up"]
    assert signal.getsignal(signal.SIGINT) is before
