"""
Kills, power cuts and failing disks: what was acknowledged is there afterwards, and no batch is there in part.

These tests need something of a provider that not every one has: files in its place (`Suite.KEEPS_FILES`), a word about
which damage a power cut can do (`Suite.damaged_places`), or a URL for other OS processes (`Suite.url`). Where it is
missing the test is skipped and says what is not tested.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from durable.storage import Batch, JournalStorage, open_storage
from durable.testing.disk_faults import failing_disk, find_strace, syncs_before, watched_syncs
from durable.testing.storage_child import OtherProcess
from durable.testing.storage_contract.suite import Suite
from durable.testing.storage_parts import Clock, Host, creation, event, started, step


class Interruptions(Suite):
    """Each test looks at a store whose last user did not come to its end."""

    # --- power

    def test_torn_write(self, tmp_path: Path) -> None:
        """
        However much of the last commit's write reached the disk: the batch is there as a whole or not at all.

        All before it is there, and what is committed after the repair stays.
        """
        place, before, after, into = [tmp_path / name for name in ("place", "before", "after", "into")]
        place.mkdir()
        into.mkdir()
        clock = Clock()

        async def write() -> Host:
            async with self.stores(place, clock) as stores:
                host = await stores.host()
                await host.commit(creations=[creation(1), creation(2)])
                await host.commit(records=[(1, step(2, b"x" * 300))], mails=[event(2)])
                if self.KEEPS_FILES:
                    shutil.copytree(place, before)
                parts = {"creations": [creation(3)], "records": [(1, step(3, b"y" * 300))], "mails": [event(2)]}
                await host.commit(**parts, progress={2: b"half"})
                if self.KEEPS_FILES:
                    shutil.copytree(place, after)
                return host

        host = asyncio.run(write())
        damaged = self.damaged_places(before, after, into) if self.KEEPS_FILES else ()
        outcomes = [asyncio.run(self._repaired(one, clock, host.session)) for one in damaged]
        if not outcomes:
            pytest.skip("no damaged_places: torn writes are NOT tested")
        assert asyncio.run(self._repaired(after, clock, host.session)) == 3

    async def _repaired(self, place: Path, clock: Clock, session: int) -> int:
        """Check one damaged store; return how many batches of *session* it has."""
        async with self.stores(place, clock) as stores:
            found = Host(await stores.open(), session)
            batches = await found.storage.last_batch(session)
            await _assert_batches(found.storage, batches)
            heir = await stores.host()
            await heir.commit(creations=[creation(9)])
            await heir.storage.close()
            await found.storage.close()
            again = await stores.open()
            assert list(await again.journal(9)) == [started()]
            await _assert_batches(again, batches)
            return batches

    # --- other OS processes

    def _other(self, place: Path) -> tuple[str, OtherProcess]:
        place.mkdir(exist_ok=True)
        url = self.url(place)
        if url is None:
            pytest.skip("no url: what other OS processes do is NOT tested")
        return url, OtherProcess(url)

    def test_killed_process_loses_nothing(self, tmp_path: Path) -> None:
        """After ``kill -9`` in the middle of commits all that was acknowledged is there, and no batch in part."""
        url, other = self._other(tmp_path)
        with other:
            session = other.ask("session")
            other.send("create_for_ever")
            acknowledged = [other.read() for _ in range(10)]
            other.kill()
            acknowledged += other.read_rest()
        other.close()
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        found = asyncio.run(_whole_batches(url, session))
        assert found in (len(acknowledged), len(acknowledged) + 1)

    def test_other_processes_share_the_claims(self, tmp_path: Path) -> None:
        """OS processes that claim at once get each process exactly once."""
        url, other = self._other(tmp_path)
        with other, OtherProcess(url) as another:
            others = [other, another]
            for one in others:
                one.ask("session")
            asyncio.run(_create_pending(url, 200))
            for one in others:
                one.send("claim", limit=3)
            keys = [one.read() for one in others]
        for one in others:
            one.close()
        assert sorted(keys[0] + keys[1]) == list(range(1, 201))

    @pytest.mark.parametrize(("error", "syncs_only"), [("ENOSPC", False), ("EIO", False), ("EIO", True)])
    def test_failing_disk(self, tmp_path: Path, error: str, syncs_only: bool) -> None:
        """
        While the disk is full or broken no commit is acknowledged that is not there after the process was killed.

        What was refused is not there, or `last_batch` has told that it is; another process goes on when the disk does.
        """
        url, other = self._other(tmp_path)
        with other:
            if find_strace() is None:
                pytest.skip("strace is missing or not permitted: failures of the disk are NOT tested")
            session = other.ask("session")
            answers = [other.ask("create", key=1)]
            with failing_disk(other.process.pid, error, syncs_only=syncs_only):
                answers.append(other.ask("create", key=2))
            told = other.ask("last_batch")
        other.close()
        assert answers[0] == "done"
        assert answers[1] in ("done", "StorageError", "StorageFull")
        found = asyncio.run(_whole_batches(url, session))
        assert found == told
        assert found == 2 or answers[1] != "done"
        assert syncs_only or answers[1] != "done", "nothing could be written, and yet it was acknowledged"
        with OtherProcess(url) as next_one:
            assert next_one.ask("claim", limit=10) is not None
        next_one.close()

    def test_acknowledged_is_synced(self, tmp_path: Path) -> None:
        """
        Between two acknowledged commits something in the place is synced: a power cut would lose the commit otherwise.

        It is tested for stores with files and a URL. One that syncs in another way (``O_DSYNC``) overrides this.
        """
        _, other = self._other(tmp_path / "place")
        with other:
            if find_strace() is None or not self.KEEPS_FILES:
                pytest.skip("no strace, or no KEEPS_FILES: whether commits are synced is NOT tested")
            other.ask("create", key=1)
            with watched_syncs(other.process.pid, tmp_path / "report"):
                assert [other.ask("create", key=key) for key in (2, 3, 4)] == ["done"] * 3
        other.close()
        counts = syncs_before(tmp_path / "report", '\\"done\\"', tmp_path / "place")
        assert len(counts) == 3
        assert min(counts) > 0, f"files synced before each acknowledged commit: {counts}"


async def _assert_batches(storage: JournalStorage, batches: int) -> None:
    """The batches of `test_torn_write` are there as a whole up to that number, and the first two are."""
    assert batches in (2, 3)
    whole = batches == 3
    journal = await storage.journal(1)
    assert [record.seq for record in journal] == ([1, 2, 3] if whole else [1, 2])
    assert [record.payload for record in journal[1:]] == [b"x" * 300, b"y" * 300][: batches - 1]
    assert await storage.row("id 3") is not None if whole else await storage.row("id 3") is None
    assert len(await storage.inbox(2)) == batches - 1
    row = await storage.row("id 2")
    assert row is not None
    assert (row.mail, row.progress) == (batches - 1, b"half" if whole else None)


async def _whole_batches(url: str, session: int) -> int:
    """How many batches of the other process are there; checks that each is there as a whole."""
    storage = open_storage(url)
    await storage.open()
    try:
        batches = await storage.last_batch(session)
        rows = await storage.rows(limit=10**6)
        assert [row.key for row in reversed(rows)] == list(range(1, batches + 1))
        assert len(await storage.journal(1)) == len(await storage.inbox(1)) == batches
        return batches
    finally:
        await storage.close()


async def _create_pending(url: str, processes: int) -> None:
    storage = open_storage(url)
    await storage.open()
    pending = [creation(key, owned=False, wake_at=0) for key in range(1, processes + 1)]
    await storage.commit(Batch(None, creations=pending))
    await storage.close()
