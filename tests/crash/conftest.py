"""Where stories of crash tests play."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.testing.crash_server import CrashServer

_IN_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="package")
def server() -> Iterator[CrashServer]:
    """One fork server for all scenarios, so that they share its imports."""
    with CrashServer() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """
    An empty directory, in memory where the system has such a filesystem.

    A kill takes nothing back that was written, on a disk or not: only the time for fsync is saved. It is kept if the
    test left something there, as a story with violations does.
    """
    if not os.access(_IN_MEMORY, os.W_OK):
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="durable-crash-", dir=_IN_MEMORY))
    yield directory
    if any(directory.iterdir()):
        shutil.move(directory, tmp_path / directory.name)
    else:
        directory.rmdir()
