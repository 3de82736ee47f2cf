"""Waiting for a lock that a stopped OS process holds: a warning names it, and work goes on when it does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from durable.storage import Batch, open_storage
from durable.testing.storage_parts import creation
from durable_storage.local import waiting
from durable_storage.local.locks import StoreLock

_HOLDER = """
import os, signal, sys
from durable_storage.local.locks import StoreLock
with StoreLock.share(sys.argv[1]):
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stopped_holder(lock: Path) -> Iterator[int]:
    """An OS process that has taken *lock* and was stopped; its id."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(lock)], env=environment) as holder:
        try:
            _, status = os.waitpid(holder.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            yield holder.pid
        finally:
            holder.kill()


class Warnings(logging.Handler):
    """Takes what is logged on any thread to the event loop of the test."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        self._loop.call_soon_threadsafe(self.told.put_nowait, record.getMessage())


@pytest.mark.parametrize(
    ("url", "lock"), [("sqlite:///{}/store.db", "store.db-lock"), ("file://{}/store", "store/lock")]
)
async def test_stopped_holder_is_named(url: str, lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that waits for a stopped OS process says once which it is, and is done when that one goes on."""
    monkeypatch.setattr(waiting, "_PATIENCE", 0.1)
    storage = open_storage(url.format(tmp_path))
    await storage.open()
    logger, warnings = logging.getLogger("durable_storage.local"), Warnings()
    logger.addHandler(warnings)
    try:
        with stopped_holder(tmp_path / lock) as holder:
            commit = asyncio.ensure_future(storage.commit(Batch(None, creations=[creation(1, owned=False)])))
            text = await asyncio.wait_for(warnings.told.get(), 20)
            assert f"{tmp_path / lock} since 0.1 s: the OS process {holder} holds it" in text
            assert not commit.done()
            os.kill(holder, signal.SIGCONT)
            await commit
        assert warnings.told.empty()
        assert await storage.count() == 1
    finally:
        logger.removeHandler(warnings)
        await storage.close()


def test_short_waits_are_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who gets a lock at once or soon hears nothing; a lock that nobody else holds has no holder."""
    lock = StoreLock.share(str(tmp_path / "lock"))
    try:
        with lock:
            assert waiting.holder_of(lock._descriptor) is None
        assert not caplog.records
    finally:
        lock.release()
