"""Damage to the files of a filesystem store: torn tails are cut, everything else is found and told, nothing is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from durable.errors import CorruptJournal
from durable.storage import Status
from durable.testing.storage_parts import QUEUE, creation, event, started, step
from tests.storage.filesystem import (
    begin,
    copy,
    end_of_log,
    everything,
    glance,
    journal,
    log_of,
    look,
    opened,
    write_everything,
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store"


async def test_torn_log(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the last frame of the log is torn, what was acknowledged before it is there, and nothing of it."""
    async with opened(place) as storage:
        host = await write_everything(storage)
        before = await everything(storage)
        position = end_of_log(place)
        await host.commit(records=[(1, step(4))], mails=[event(2)])
        after = await everything(storage)
        copy(place, tmp_path / "crashed")
    whole = log_of(tmp_path / "crashed").read_bytes().rstrip(b"\0")
    assert await look(copy(tmp_path / "crashed", tmp_path / "whole")) == after
    for cut in range(position, len(whole)):
        torn = copy(tmp_path / "crashed", tmp_path / f"torn {cut}")
        log_of(torn).write_bytes(whole[:cut] + bytes(cut % 3 * 50))
        caplog.clear()
        assert glance(torn) == before
        assert ("unfinished write" in caplog.text) == (cut > position)
        shutil.rmtree(torn)


async def test_torn_journal(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the last line of a journal file is torn, the lines before it are there, and work goes on behind them."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)], records=[(1, step(2)), (1, step(3))])
        await host.storage.end_session(host.session)
    whole = journal(place, "id 1").read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start + 1, len(whole)):
        torn = copy(place, tmp_path / f"torn {cut}")
        journal(torn, "id 1").write_bytes(whole[:cut])
        caplog.clear()
        async with opened(torn) as storage:
            assert list(await storage.journal(1)) == [started(), step(2)]
            assert f"cut {cut - start} bytes" in caplog.text
            host = await begin(storage)
            assert len(await host.claim()) == 1
            await host.commit(records=[(1, step(3, b"again"))])
        assert [record.payload for _, records, _ in (await look(torn)).values() for record in records][2] == b"again"


@pytest.mark.parametrize("position", [0.3, 0.6, 0.95])
async def test_flipped_bit_in_a_journal(place: Path, position: float) -> None:
    """A flipped bit in a journal file is found, its process is shown as stalled with the reason, the others run."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1), creation(2)], records=[(1, step(n)) for n in range(2, 20)])
        await host.commit(records=[(2, step(2))])
        await storage.end_session(host.session)
    file = journal(place, "id 1")
    data = bytearray(file.read_bytes())
    flipped = round(position * data.rindex(b"\n", 0, -1))
    data[flipped] ^= 4
    for known in (True, False):  # to the index: then it is found when the file is read
        stat = file.stat()
        file.write_bytes(data)
        if known:
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        async with opened(place) as storage:
            host = await begin(storage)
            assert [claim.row.id for claim in await host.claim()] == ["id 2"]
            with pytest.raises(CorruptJournal, match="restore the file from a backup"):
                await storage.journal(1)
            row = await host.row(1)
            assert (row.status, row.owner) == (Status.STALLED, None)
            assert row.reason is not None
            assert "damaged at byte" in row.reason
            assert await storage.next_wake([QUEUE]) is None
            assert await storage.resume_stalled([QUEUE], 5) == 0
            with pytest.raises(CorruptJournal):
                await host.commit(mails=[event(1)])
            await host.commit(records=[(2, step(3 if known else 4))])
            await storage.end_session(host.session)
        assert file.read_bytes() == bytes(data)


async def test_every_flipped_bit_is_found(place: Path, tmp_path: Path) -> None:
    """No flipped bit of a journal file goes unnoticed: it is refused, or it was in the last line, which is cut."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)], records=[(1, step(2)), (1, step(3))])
        await storage.end_session(host.session)
    before = await look(place)
    whole = journal(place, "id 1").read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for position in range(0, len(whole), 3):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        journal(place, "id 1").write_bytes(data)
        async with opened(place) as storage:
            rows = await storage.rows()
            if rows and rows[0].status is not Status.STALLED:
                assert position >= last - 1, position
                assert len(await storage.journal(1)) < 3
        journal(place, "id 1").write_bytes(whole)
        assert await look(place) == before


async def test_flipped_bit_in_the_log(place: Path, tmp_path: Path) -> None:
    """A flipped bit in the log before what was acknowledged later is told, and the log is left as it is."""
    async with opened(place) as storage:
        host = await write_everything(storage)
        position = end_of_log(place)
        await host.commit(records=[(1, step(4))])
        await host.commit(records=[(1, step(5))])
        copy(place, tmp_path / "crashed")
    for flipped in (5, 30, position // 2, position - 2, position + 3, position + 100):
        damaged = copy(tmp_path / "crashed", tmp_path / f"damaged {flipped}")
        data = bytearray(log_of(damaged).read_bytes())
        data[flipped] ^= 4
        log_of(damaged).write_bytes(data)
        with pytest.raises(CorruptJournal, match="commit log"):
            await look(damaged)
        assert log_of(damaged).read_bytes() == data


async def test_unsynced_frame_before_a_torn_one(place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A claim that was never synced may be lost below a later write that was not acknowledged: both are cut."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1, owned=False, wake_at=0)])
        before = await everything(storage)
        position = end_of_log(place)
        assert len(await host.claim()) == 1
        end = end_of_log(place)
        await host.commit(records=[(1, step(2))])
        copy(place, tmp_path / "crashed")
    log = log_of(tmp_path / "crashed")
    data = log.read_bytes()
    log.write_bytes(data[:position] + bytes(end - position) + data[end:])
    assert await look(tmp_path / "crashed") == before
    assert "unfinished write" in caplog.text


async def test_interrupted_checkpoint(place: Path, tmp_path: Path) -> None:
    """Whatever a checkpoint had written of the journal files when it was killed, the log makes them whole."""
    async with opened(place) as storage:
        await write_everything(storage)
        before = await everything(storage)
        crashed = copy(place, tmp_path / "crashed")
    complete = {path.name: path.read_bytes() for path in (place / "processes").iterdir()}
    assert len(complete) == 5
    for part in (0, 0.1, 0.3, 0.5, 0.8, 0.99, 1):
        torn = copy(crashed, tmp_path / f"torn {part}")
        for number, (name, data) in enumerate(complete.items()):
            if number != 3:
                (torn / "processes" / name).write_bytes(data[: round(part * len(data))] + bytes(number))
        for _ in range(2):
            assert await look(torn) == before
        assert {path.name: path.read_bytes() for path in (torn / "processes").iterdir()} == complete


async def test_lost_log(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a clean close the journal files hold everything: without the log only sessions are forgotten."""
    async with opened(place) as storage:
        await write_everything(storage)
        before = await everything(storage)
    log_of(place).unlink()
    assert await look(place) == before
    assert not caplog.records
