"""
Files to which many OS processes append lines, each a JSON object, and the clock by which all of them tell the time.

Every line is one ``write`` to a file opened with ``O_APPEND``, so lines never mix. A SIGKILL may still tear the line
that is being written, at the end of a page; so each line begins with a newline of its own, and a torn one, which says
nothing that anybody has seen, is left out when the file is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from durable._host.session import boot_time

Facts = dict[str, Any]


def now() -> float:
    """Seconds on the clock of leases, which is the same in every OS process of this machine."""
    return boot_time()


class Lines:
    """The end of the file at *path*, to write to."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def write(self, **facts: Any) -> None:
        """Append a line. What it says has happened, or is about to, at the time of the call."""
        os.write(self._descriptor, f"\n{json.dumps(facts)}\n".encode())


def read_lines(path: Path) -> Iterator[Facts]:
    """Every whole line of the file at *path*, oldest first; none if there is no such file."""
    if not path.exists():
        return
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.isspace():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    continue  # torn by a kill
