"""The contract suite in the hands of a third party: used as it says, without plugins, with readable failures."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

from durable.errors import DurableError
from durable.storage import Answer as FutureOfBatch
from durable.storage import Batch, BatchResult, JournalStorage
from durable.testing.storage_contract import Answers, Clock
from durable_storage.memory import MemoryStorage

THIRD_PARTY = """
from durable.testing.storage_contract import Clock, StorageContract
from durable_storage.memory import MemoryStorage

class TestMine(StorageContract):
    def make_storage(self, place, clock):
        return MemoryStorage(f"memory://{place}", lease_clock=clock)

class TestBroken(TestMine):
    def make_storage(self, place, clock):
        storage = super().make_storage(place, clock)
        storage.count = None
        return storage
"""


class Settled(MemoryStorage):
    """Memory whose `commit` returns a future."""

    def commit(self, batch: Batch) -> Awaitable[BatchResult]:  # type: ignore[override]
        loop = asyncio.get_running_loop()
        answer: FutureOfBatch[BatchResult] = FutureOfBatch(loop=loop)
        try:
            loop.call_soon(answer.settle, self._usable().commit(batch), None)
        except DurableError as error:
            loop.call_soon(answer.settle, None, error)
        return answer


class TestCommitReturnsAFuture(Answers):
    """What is said of answers holds whatever `commit` returns; `TestMemory` has an ``async def``."""

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return Settled(f"memory://{place}", lease_clock=clock)


def test_needs_pytest_and_hypothesis_only(tmp_path: Path) -> None:
    """A module as the instructions have it runs without any plugin, and a failure shows the values it compared."""
    (tmp_path / "test_mine.py").write_text(THIRD_PARTY)
    words = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path / "test_mine.py"),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    chosen = ["-k", "TestMine and (Claims or Creations or claim or torn) or TestBroken and journal_storage"]
    done = subprocess.run(words + chosen, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "AssertionError: assert ['count'] == []" in done.stdout
    assert re.search(r"[1-9]\d* passed, 2 skipped", done.stdout)
