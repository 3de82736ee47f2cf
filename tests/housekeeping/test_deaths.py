"""Housekeeping that dies: at whatever moment, nothing is lost, and the next one finishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from durable.housekeeping import Retention, keep_house, read_archive
from durable.housekeeping.objects import Folder
from durable.storage import JournalStorage, open_storage
from durable.testing.storage_proxy import StorageProxy
from tests.housekeeping.stores import LONG_AGO, NOW, end_some, everything

pytestmark = pytest.mark.slow

T = TypeVar("T")


async def test_nothing_is_lost_by_a_death_at_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Before and after every call to the store and every put into the archive in turn: after the death each process is
    in the store or in the archive, and the next run leaves all in the archive, exactly, each once.
    """
    put = Folder.put
    for deadly in count(1):
        steps = Steps(deadly)

        async def dying_put(folder: Folder, path: str, content: bytes, steps: Steps = steps) -> None:
            await steps.around(lambda: put(folder, path, content))

        storage = open_storage(f"memory://{uuid4()}")
        await storage.open()
        await end_some(storage, 5)
        before = await everything(storage)
        retention = Retention(LONG_AGO, f"memory://{uuid4()}", batch=3)
        monkeypatch.setattr(Folder, "put", dying_put)
        try:
            await keep_house(Dying(storage, steps), retention, now=NOW)
        except Died:
            survived = False
        else:
            survived = True
        monkeypatch.setattr(Folder, "put", put)
        archived = {process.entry.id: process.snapshot async for process in read_archive(str(retention.archive))}
        assert archived | await everything(storage) == before
        await keep_house(storage, retention, now=NOW)
        read = [process.snapshot async for process in read_archive(str(retention.archive))]
        assert len(read) == 5
        assert {snapshot.id: snapshot for snapshot in read} == before
        assert await storage.count() == 0
        await storage.close()
        if survived:
            break
    looks, reads, puts, purges = 3, 5 + 1, 2 * 2, 2  # a batch of three and one of two, and one that has had mail
    assert deadly == 2 * (looks + reads + puts + purges) + 1


async def test_the_same_processes_are_the_same_objects(storage: JournalStorage, archive: str) -> None:
    """A death between put and purge leaves nothing that the next run does not write again, under the same names."""
    await end_some(storage, 6)
    retention = Retention(LONG_AGO, archive, batch=3)
    for _ in range(2):
        with pytest.raises(Died):
            await keep_house(NeverPurging(storage), retention, now=NOW)
    folder = Folder(archive)
    assert (len(await folder.names("processes")), len(await folder.names("index"))) == (1, 1)
    contents = [await folder.get(name) for name in await folder.names("")]
    await keep_house(storage, retention, now=NOW)
    assert (len(await folder.names("processes")), len(await folder.names("index"))) == (2, 2)
    assert all([content in [await folder.get(name) for name in await folder.names("")] for content in contents])


@pytest.mark.parametrize("puts", [1, 2, 3])
async def test_kill_9_between_put_and_purge(tmp_path: Path, puts: int) -> None:
    """A real program on SQLite and files, killed right after one of its puts: nothing is lost, all is read back."""
    store, archive = f"sqlite:///{tmp_path}/store.db", f"file://{tmp_path}/archive"
    storage = open_storage(store)
    await storage.open()
    await end_some(storage, 8)
    before = await everything(storage)
    command = [sys.executable, "-m", "tests.housekeeping.killed", store, archive, str(puts)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, check=False, env=environment).returncode == -signal.SIGKILL
    archived = {process.entry.id: process.snapshot async for process in read_archive(archive)}
    assert archived | await everything(storage) == before
    await keep_house(storage, Retention(LONG_AGO, archive, batch=4), now=NOW)
    assert {process.entry.id: process.snapshot async for process in read_archive(archive)} == before
    assert await storage.count() == 0
    await storage.close()


class Died(BaseException):
    """The program is gone: nothing catches this."""


class Steps:
    """Counts moments, and dies in one of them."""

    def __init__(self, deadly: int) -> None:
        self._left = deadly

    async def around(self, call: Callable[[], Awaitable[T]]) -> T:
        self._step()
        result = await call()
        self._step()
        return result

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Died


class Dying(StorageProxy):
    """A store at whose calls the program dies, before or after they have worked."""

    def __init__(self, storage: JournalStorage, steps: Steps) -> None:
        super().__init__(storage)
        self._steps = steps

    async def ended(self, before: int, limit: int) -> Any:
        return await self._steps.around(lambda: self.storage.ended(before, limit))

    async def journal(self, key: int, after: int = 0) -> Any:
        return await self._steps.around(lambda: self.storage.journal(key, after))

    async def inbox(self, key: int) -> Any:
        return await self._steps.around(lambda: self.storage.inbox(key))

    async def purge(self, keys: Any) -> int:
        return await self._steps.around(lambda: self.storage.purge(keys))


class NeverPurging(StorageProxy):
    """A store whose host dies before each purge."""

    async def purge(self, keys: Any) -> int:
        raise Died
