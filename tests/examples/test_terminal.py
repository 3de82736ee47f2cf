"""The progress bar of the pipeline: what it adds up, and what it writes where."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from durable import ProcessStatus, Progress, Status
from examples.zipping.terminal import Meter, ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def status(done: float, total: float | None, message: str, status: Status = Status.RUNNING) -> ProcessStatus:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return ProcessStatus("id", "zip_files", status, now, None, None, Progress(done, total, message), resident=True)


def test_a_meter_adds_up_what_runs_side_by_side() -> None:
    """Each part counts once, however often it reports, also when an attempt starts again from nothing."""
    meter = Meter(100)
    assert meter.at("a", 10) == (10, 100)
    assert meter.at("b", 20) == (30, 100)
    assert meter.at("a", 40) == (60, 100)
    assert meter.at("a", 0) == (20, 100)


def test_lines_where_there_is_no_terminal() -> None:
    """In a log each change is a line, no line comes twice, and an old report of an ended process is not shown."""
    output = io.StringIO()
    with ProgressBar(output) as bar:
        for _ in range(2):
            bar.show(status(1, 2, "packing a"))
        bar.show(status(0, None, "no total, no share"))
        bar.show(status(1, 2, "packing b", Status.COMPLETED))
    assert output.getvalue() == "[###############...............]  50% packing a\n"


def test_one_line_of_the_terminal_is_used_again() -> None:
    """In a terminal every report takes the place of the one before, and the last is cleared away."""
    output = Terminal()
    with ProgressBar(output) as bar:
        bar.show(status(1, 4, "a"))
        bar.show(status(4, 4, "b"))
    assert "\n" not in output.getvalue()
    assert output.getvalue().startswith("\r\x1b[K[########......................]  25% a")
    assert output.getvalue().endswith("100% b\r\x1b[K")
