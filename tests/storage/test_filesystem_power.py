"""Power cuts under a filesystem store: what was not synced is dropped, and nothing acknowledged is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable.storage import Park
from durable.testing.storage_parts import creation, ending, event, step
from durable_storage.filesystem import checkpoint, journals, layout, log
from tests.storage.filesystem import begin, everything, glance, opened


class Disk:
    """
    Remembers what of a directory was synced, and makes the directory that a power cut would leave of it.

    The harshest disk there can be: content reaches it by syncing the file only, names by syncing their directory only.
    ``on_sync`` is called after each sync, when the image has changed.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.content: dict[int, bytes] = {}
        self.names: dict[Path, dict[str, int]] = {}
        self.kept: list[int] = []  # descriptors, so that no inode is used for a second file
        self.on_sync: Callable[[], object] = lambda: None

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)
        self.kept.append(os.dup(descriptor))
        inode = os.fstat(descriptor).st_ino
        self.content[inode] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        self.on_sync()

    def sync_directory(self, directory: str) -> None:
        with os.scandir(directory) as found:
            self.names[Path(directory)] = {item.name: item.inode() for item in found}
        self.on_sync()

    def cut_power(self, into: Path) -> Path:
        """A directory with what is on the disk now, and nothing else."""
        into.mkdir()
        for name, inode in self.names.get(self.place, {}).items():
            if (self.place / name).is_dir():
                (into / name).mkdir()
                for inner, of_inner in self.names.get(self.place / name, {}).items():
                    (into / name / inner).write_bytes(self.content.get(of_inner, b""))
            else:
                (into / name).write_bytes(self.content.get(inode, b""))
        return into


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """The disk under the store at ``tmp_path / "store"``."""
    one = Disk(tmp_path / "store")
    for module in (log, journals, layout):
        monkeypatch.setattr(module, "sync", one.sync)
    for module in (checkpoint, layout):
        monkeypatch.setattr(module, "sync_directory", one.sync_directory)
    yield one
    for descriptor in one.kept:
        os.close(descriptor)


async def test_acknowledged_batches_survive(disk: Disk, tmp_path: Path) -> None:
    """After each acknowledged batch a power cut leaves all of it, whatever was written but not synced since."""
    async with opened(disk.place) as storage:
        host = await begin(storage)
        batches = [
            {"creations": [creation(1), creation(2), creation(3, owned=False, wake_at=0)]},
            {"records": [(1, step(2)), (2, step(2))], "mails": [event(1)]},
            {"parks": [Park(2, 60, 0)], "progress": {1: b"half"}},
            {"creations": [creation(4)], "ends": [ending(4)]},
        ]
        for number, parts in enumerate(batches):
            await host.commit(**parts)  # type: ignore[arg-type]
            acknowledged = await everything(storage)
            if number == 1:
                assert len(await host.claim()) == 1  # written, not synced
                assert glance(disk.cut_power(tmp_path / "claimed")) == acknowledged
            assert glance(disk.cut_power(tmp_path / f"cut {number}")) == acknowledged


async def test_power_cut_at_every_sync(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the power goes during checkpoints and the last close, everything acknowledged before is there."""
    monkeypatch.setattr(checkpoint, "_PARALLEL", 1)
    acknowledged: dict[str, int] = {}
    images: list[tuple[Path, dict[str, int]]] = []

    def remember() -> None:
        if acknowledged:
            images.append((disk.cut_power(tmp_path / f"cut {len(images)}"), dict(acknowledged)))

    async with opened(disk.place) as storage:
        host = await begin(storage)
        disk.on_sync = remember
        for round_ in range(3):
            keys = range(10 * round_ + 1, 10 * round_ + 4)
            await host.commit(creations=[creation(key) for key in keys])
            acknowledged.update({f"id {key}": 1 for key in keys})
            for key in range(1, 4):
                seq = acknowledged[f"id {key}"] + 1
                await host.commit(records=[(key, step(seq))])
                acknowledged[f"id {key}"] = seq
            assert storage._checkpointer is not None
            storage._checkpointer.finish()
        await storage.end_session(host.session)
    assert len(images) > 40
    for image, expected in images:
        found = {process_id: len(records) for process_id, (_, records, _) in glance(image).items()}
        assert found.keys() >= expected.keys(), image
        assert all(found[process_id] >= length for process_id, length in expected.items()), image
