"""Hosts and filesystem stores on a disk that drops what was not synced: nothing acknowledged is lost, ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from durable import Process, ProcessHost, process
from durable.journal import Kind
from durable.storage import Park, Restart
from durable.testing.storage_parts import QUEUE, creation, ending, event, started, step
from durable_storage.filesystem import log, provider
from tests.storage.filesystem import begin, everything, glance, opened
from tests.storage.fuse_disk import cut_power, missing, mounted

SOON = timedelta(seconds=20)

pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"no FUSE: what was not synced is NOT dropped by a real filesystem here ({missing})"
)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """Where the disk is mounted."""
    mount = tmp_path / "mount"
    mount.mkdir()
    with mounted(mount):
        yield mount


async def test_acknowledged_batches_survive(mount: Path, tmp_path: Path) -> None:
    """After each acknowledged batch, checkpoint and purge a power cut leaves all that was acknowledged."""
    async with opened(mount / "store") as storage:
        host = await begin(storage)
        batches = [
            {"creations": [creation(1), creation(2), creation(3, owned=False, wake_at=0)]},
            {"records": [(1, step(2)), (2, step(2))], "mails": [event(1)]},
            {"parks": [Park(2, 60, 0)], "progress": {1: b"half"}},
            {"restarts": [Restart(1, "next", QUEUE, [started(), step(2)])]},
            {"creations": [creation(4)], "ends": [ending(4)]},
        ]
        acknowledged = await everything(storage)
        for number, parts in enumerate(batches):
            await host.commit(**parts)  # type: ignore[arg-type]
            acknowledged = await everything(storage)
            assert glance(cut_power(mount, tmp_path / f"cut {number}") / "store") == acknowledged
            if number % 2:
                assert storage._checkpointer is not None
                storage._checkpointer.finish()
                assert glance(cut_power(mount, tmp_path / f"checkpoint {number}") / "store") == acknowledged
        assert await storage.purge([4]) == 1
        del acknowledged["id 4"]
        assert glance(cut_power(mount, tmp_path / "purged") / "store") == acknowledged
        await storage.end_session(host.session)
    assert glance(cut_power(mount, tmp_path / "closed") / "store") == acknowledged


async def test_nothing_that_acted_is_forgotten(mount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the power goes in an action, every checkpoint before it is on the disk, and the next host goes on there."""
    images: dict[int, Path] = {}
    ran: list[int] = []

    async def act(number: int) -> int:
        ran.append(number)
        if number not in images:
            images[number] = cut_power(mount, tmp_path / f"in step {number}") / "store"
        return number

    @process
    async def acting(proc: Process) -> list[int]:
        return [await proc.do(partial(act, number), f"step {number}") for number in range(5)]

    async with ProcessHost(f"file://{mount}/store", [acting]) as host:
        assert await (await host.start(acting(), id="one")).result(SOON) == [0, 1, 2, 3, 4]
    for number, image in images.items():
        ((_, records, _),) = glance(image).values()
        assert [record.name for record in records if record.kind is Kind.DONE] == [f"step {n}" for n in range(number)]
    ran.clear()
    monkeypatch.setattr(provider, "this_boot", lambda: "the one after the power cut")
    async with ProcessHost(f"file://{images[3]}", [acting]) as host:
        assert await host.get("one").result(SOON) == [0, 1, 2, 3, 4]
    assert ran == [3, 4]


async def test_disk_forgets(mount: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not sync its commits loses them on this disk; else the other tests would show nothing."""
    async with opened(mount / "store") as storage:
        host = await begin(storage)
        monkeypatch.setattr(log, "sync", lambda descriptor: None)
        await host.commit(creations=[creation(1)])
        assert glance(cut_power(mount, tmp_path / "cut") / "store") == {}
        monkeypatch.undo()
