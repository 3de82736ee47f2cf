"""What tests of stores share: children that are killed when their test is over, and storage objects that get closed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from durable_storage.sqlite.provider import SqliteStorage
from tests.storage.children import Child, OpenStore, StartChild


@pytest.fixture
def child() -> Iterator[StartChild]:
    """Starts children; whatever still runs at the end of the test is killed."""
    children: list[Child] = []

    def start(command: str, path: Path, *arguments: object, under: Sequence[str] = ()) -> Child:
        children.append(Child(command, path, *arguments, under=under))
        return children[-1]

    yield start
    for one in children:
        if one.process.poll() is None:
            one.kill()
        one.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store.db"


@pytest.fixture
async def open_store(path: Path) -> AsyncIterator[OpenStore]:
    """Opens storage objects on `path`; they are closed when the test is over."""
    opened: list[SqliteStorage] = []

    async def start(**options: Any) -> SqliteStorage:
        storage = SqliteStorage(f"sqlite:///{path}", **options)
        await storage.open()
        opened.append(storage)
        return storage

    yield start
    for storage in opened:
        await storage.close()


@pytest.fixture
def strace() -> str:
    """The program that makes system calls fail; without it (or without the right to trace) the test is skipped."""
    program = shutil.which("strace")
    if program is None or subprocess.run([program, "-qq", "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("strace is missing or not permitted: failures of the disk are NOT tested here")
    return program
