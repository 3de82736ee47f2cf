"""How far a process is: a bar that stays in its line of the terminal, or plain lines where there is none."""

from __future__ import annotations

import shutil
import sys
from threading import Lock
from typing import TextIO

from durable import ProcessStatus

_BAR = 30


class Meter:
    """Adds up how far steps that run side by side are; made anew on replay, like any other object of a process."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._sum = 0
        self._parts: dict[str, int] = {}
        self._lock = Lock()  # actions report from threads

    def at(self, part: str, done: int) -> tuple[int, int]:
        """*part* is at *done*: how much of everything is done, and how much there is."""
        with self._lock:
            self._sum += done - self._parts.get(part, 0)
            self._parts[part] = done
            return self._sum, self._total


class ProgressBar:
    """Shows each status it is given; use as a context manager, which clears the line at the end."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._in_place = stream.isatty()
        self._last = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_place:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, status: ProcessStatus) -> None:
        progress = status.progress
        if progress is None or not progress.total or status.ended:
            return
        share = min(1.0, progress.done / progress.total)
        bar = ("#" * round(share * _BAR)).ljust(_BAR, ".")
        line = f"[{bar}] {share:4.0%} {progress.message}"
        if line == self._last:
            return
        self._last = line
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{line[:width]}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
