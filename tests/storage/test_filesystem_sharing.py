"""Several storage objects and OS processes on one directory: everybody's work is there, once, checkpoints or not."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from durable.errors import StorageError
from durable.storage import Batch, JournalStorage
from durable.testing.storage_child import OtherProcess
from durable.testing.storage_contract import Clock, StorageContract
from durable.testing.storage_parts import creation, step
from durable_storage.filesystem import checkpoint
from durable_storage.filesystem.provider import FilesystemStorage
from tests.storage.filesystem import begin, end_of_log, everything, log_of, look, opened


class TestWithCheckpoints(StorageContract):
    """The whole contract while checkpoints run all the time, so that every object has to follow the log over them."""

    @pytest.fixture(autouse=True)
    def checkpoint_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint, "_DUE_AT", 1500)
        monkeypatch.setattr(checkpoint, "_INDEX_AT", 2)

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return FilesystemStorage(f"file://{place}/store", lease_clock=clock)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store"


async def test_holder_is_named_and_noticed(place: Path) -> None:
    """A session's file says who holds it; when that OS process is killed the session is dead at once, the file gone."""
    async with opened(place) as storage:
        with OtherProcess(f"file://{place}") as other:
            session = other.ask("session")
            assert other.ask("create", key=1) == "done"
            text = (place / "sessions" / str(session)).read_text()
            assert text.startswith(f"{socket.gethostname()} pid {other.process.pid} since 20")
            assert await storage.bury() == 0
            other.kill()
            assert await storage.bury() == 1
        other.close()
        assert not (place / "sessions" / str(session)).exists()
        heir = await begin(storage)
        assert [claim.row.id for claim in await heir.claim()] == ["id 1"]


async def test_killed_holder_of_the_lock(place: Path) -> None:
    """OS processes killed in the middle of their commits leave a store that others use at once."""
    others = [OtherProcess(f"file://{place}") for _ in range(2)]
    others[0].send("create_for_ever")
    said = [others[0].read() for _ in range(20)]
    others[0].kill()
    said += others[0].read_rest()
    async with opened(place) as storage:
        assert await storage.bury() == 1
        created = await storage.count()
        assert created in (len(said), len(said) + 1)
        assert sorted(others[1].ask("claim", limit=50)) == list(range(1, created + 1))
    for other in others:
        other.kill()
        other.close()
    assert len(await look(place)) == created


async def test_client_beside_a_host_flushes_nothing(place: Path) -> None:
    """A client that comes and goes beside a living session leaves the moving of the log to it."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)])
        async with opened(place) as client:
            await client.commit(Batch(None, creations=[creation(2, owned=False)]))
        assert list((place / "processes").iterdir()) == []
        assert await storage.count() == 2
        await host.storage.end_session(host.session)
    assert len(list((place / "processes").iterdir())) == 2


async def test_slow_reader_is_overtaken(place: Path) -> None:
    """An object that has not looked while the log was moved, twice, reads everything anew and is up to date."""
    async with opened(place) as slow, opened(place) as storage:
        host = await begin(storage)
        checkpointer = storage._checkpointer
        assert checkpointer is not None
        for key in (1, 2, 3):
            await host.commit(creations=[creation(key)], records=[(key, step(2))])
            checkpointer.finish()
        assert await everything(slow) == await everything(storage)
        await slow.commit(Batch(None, creations=[creation(4, owned=False)]))
        assert await storage.count() == 4


async def test_files_are_read_while_they_are_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens the store during commits and checkpoints sees each process as it was at one moment."""
    monkeypatch.setattr(checkpoint, "_DUE_AT", 3000)
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(key) for key in range(1, 6)])

        async def write() -> None:
            for seq in range(2, 60):
                await host.commit(records=[(key, step(seq)) for key in range(1, 6)])

        async def read() -> None:
            while not writing.done():
                async with opened(place) as reader:
                    lengths = [len(await reader.journal(key)) for key in range(1, 6)]
                    assert lengths == sorted(lengths)
                    assert lengths[-1] - lengths[0] <= 10

        writing = asyncio.create_task(write())
        await asyncio.gather(read(), read(), writing)
        assert [len(await storage.journal(key)) for key in range(1, 6)] == [59] * 5


async def test_commit_taken_back_after_it_was_read(place: Path) -> None:
    """A write that somebody read and its writer took back, because the disk failed, is forgotten by the reader."""
    async with opened(place) as storage, opened(place) as reader:
        host = await begin(storage)
        await host.commit(creations=[creation(1)])
        position = end_of_log(place)
        await host.commit(creations=[creation(2)])
        assert await reader.count() == 2
        os.truncate(log_of(place), position)
        assert await reader.count() == 1
        await reader.commit(Batch(None, creations=[creation(3, owned=False)]))
        assert [row.key for row in await reader.rows()] == [3, 1]


async def test_forked_child_is_refused(place: Path) -> None:
    """In a child made by fork an open storage object says so, and does not touch the parent's locks."""
    async with opened(place) as storage:
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                storage._usable()
            except StorageError:
                os.write(write, b"refused")
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        assert os.read(read, 10) == b"refused"
        os.close(read)
        await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
