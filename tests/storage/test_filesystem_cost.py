"""What work the filesystem store does, in counts: hops, syncs, bytes of log, open files. Times are in benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.journal import Kind, Record
from durable.storage import MailKind, Park
from durable.testing.storage_child import OtherProcess
from durable.testing.storage_parts import QUEUE, creation, event, step
from durable_storage.filesystem import checkpoint
from durable_storage.filesystem.entry import Entry
from durable_storage.filesystem.journals import Journals
from tests.storage.children import open_files, tampering
from tests.storage.filesystem import begin, log_of, opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store"


async def test_batch_is_one_hop(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of anything for any number of processes is one job of the writer's thread."""
    async with opened(place) as storage:
        host = await begin(storage)
        assert storage._writer is not None
        jobs = 0
        run = storage._writer.run

        def count(function: object) -> object:
            nonlocal jobs
            jobs += 1
            return run(function)  # type: ignore[arg-type]

        monkeypatch.setattr(storage._writer, "run", count)
        keys = range(1, 101)
        await host.commit(
            creations=[creation(key) for key in keys],
            records=[(key, step(2)) for key in keys],
            mails=[event(key) for key in keys],
            parks=[Park(key, 0, 1) for key in keys],
        )
        assert jobs == 1
        assert len(await storage.claim(host.session, [QUEUE], 1000, 100)) == 100
        assert jobs == 2


async def test_batch_is_one_sync(place: Path, strace: str, tmp_path: Path) -> None:
    """Each commit is one sync of the log, whatever it holds, and nothing else is synced; a claim is none."""
    report = tmp_path / "syscalls"
    with OtherProcess(f"file://{place}") as other:
        assert other.ask("create", key=1) == "done"
        with tampering(strace, other.process.pid, "-y", "-e", "trace=fsync,fdatasync,sync,syncfs", output=str(report)):
            for key in range(2, 12):
                assert other.ask("create", key=key) == "done"
            other.ask("claim", limit=5)
    other.close()
    synced = [line for line in report.read_text().splitlines() if "sync(" in line]
    assert len(synced) == 10
    assert all(f"fdatasync({log_of(place).name}" in line or str(log_of(place)) in line for line in synced)


async def test_log_stays_small(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints keep the log short and the memory free while it is written on; then it is all in the files."""
    monkeypatch.setattr(checkpoint, "_DUE_AT", 2**20)
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1), creation(2)])
        store, checkpointer = storage._store, storage._checkpointer
        assert store is not None
        assert checkpointer is not None
        sizes, pending = [], []
        for seq in range(2, 30):
            record = Record(seq, Kind.VALUE, "", b"x" * 2**18, seq)
            await host.commit(records=[(1, record)])
            if seq % 4 == 0:
                checkpointer.wait()
                sizes.append(sum(path.stat().st_size for path in place.glob("batches-*.log")))
                pending.append(sum(len(chunk.data) for chunk in store.state.entries[1].pending))
        assert max(sizes) < 4 * 2**20
        assert max(pending) < 4 * 2**20
        assert len(await storage.journal(1)) == 29


async def test_no_file_stays_open(place: Path) -> None:
    """However many processes there are, an open store has a fixed number of files open, and a closed one none."""
    before = len(open_files())
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(key) for key in range(1, 301)])
        assert storage._checkpointer is not None
        storage._checkpointer.finish()
        assert [len(await storage.journal(key)) for key in (1, 300)] == [1, 1]
        assert len([name for name in open_files() if name.startswith(str(place))]) == 4  # two locks, session, log
    assert len(open_files()) == before


async def test_idle_renewals_do_not_wake_others(place: Path) -> None:
    """Renewing and claiming nothing announce nothing: idle hosts do not keep each other awake."""
    async with opened(place) as storage, opened(place) as other:
        host = await begin(other)
        await storage.wait_for_change(0)
        await other.renew(host.session, 30)
        await host.claim()
        assert await other.bury() == 0
        assert storage._store is not None
        assert not storage._store.announcements.has_changed()


async def test_entries_at_rest_are_packed(place: Path) -> None:
    """A parked or ended process whose file is complete is a few hundred bytes in memory until it is asked for."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(key) for key in range(1, 11)])
        await host.commit(parks=[Park(key, 100, 0) for key in range(1, 10)])
        assert storage._checkpointer is not None
        storage._checkpointer.finish()
        assert storage._store is not None
        kept = storage._store.state.entries._all
        assert [type(kept[key]) is bytes for key in range(1, 11)] == [True] * 9 + [False]
        assert [claim.row.key for claim in await host.claim(now=100, limit=2)] == [1, 2]
        assert len(await storage.rows()) == 10
        assert sum(type(entry) is bytes for entry in kept.values()) >= 7


# --- long inboxes ----------------------------------------------------------------------------------------------


async def test_long_inbox_is_copied_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many mails, and one that takes many, copies the inbox once, and so does who reads it in the log."""
    copies: list[int] = []
    own_inbox = Entry._own_inbox

    def count(entry: Entry) -> dict[int, tuple[int, int]]:
        before = entry.inbox
        inbox = own_inbox(entry)
        if inbox is not before:
            copies.append(len(inbox))
        return inbox

    monkeypatch.setattr(Entry, "_own_inbox", count)
    async with opened(place) as storage, opened(place) as reader:
        host = await begin(storage)
        await host.commit(creations=[creation(1)])
        sizes: list[int] = []
        for _ in range(2):
            await host.commit(mails=[event(1)] * 500)
            sizes += [len(await reader.inbox(1))]
        assert copies == [0, 0, 500, 500]  # written, read; written, read
        copies.clear()
        items = await host.collect()
        await host.commit(records=[(1, step(2))], taken=[item.number for item in items[:-1]])
        sizes += [len(await reader.inbox(1))]
        assert copies == [1000, 1000]
        assert sizes == [500, 1000, 1]
        store = storage._store
        assert store is not None
        assert list(store.state.items) == [items[-1].number]


async def test_entry_and_its_clone_have_their_own_inboxes() -> None:
    """Whichever of the two is changed, the other one keeps what it had."""
    where = (0, 1)
    entry = Entry(1, "id", 1, "definition", QUEUE, None, None)
    for number in (1, 2, 3):
        entry.receive(number, MailKind.EVENT, 5, where)
    clone = entry.clone()
    clone.take([1, 2])
    entry.take([3])
    later = entry.clone()
    entry.receive(4, MailKind.EVENT, 5, where)
    later.take([1, 2])
    later.receive(5, MailKind.EVENT, 5, where)
    assert [list(one.inbox) for one in (entry, clone, later)] == [[1, 2, 4], [3], [5]]
    assert list(Entry(2, "id 2", 1, "definition", QUEUE, None, None).inbox) == []


async def test_long_inbox_is_read_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails that stand near each other in a file are read together, those far away alone, and each as it was sent."""
    reads: list[int] = []
    read_file = Journals._read_file

    def listen(journals: Journals, entry: Entry, start: int, end: int) -> bytes:
        reads.append(end - start)
        return read_file(journals, entry, start, end)

    monkeypatch.setattr(Journals, "_read_file", listen)
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)], mails=[event(1, payload=b"%d" % number) for number in range(200)])
        await host.commit(records=[(1, step(2, b"x" * 2**20))])
        await host.commit(mails=[event(1, payload=b"%d" % number) for number in range(200, 400)])
        assert storage._checkpointer is not None
        storage._checkpointer.finish()
        await host.commit(mails=[event(1, payload=b"400")])
        assert [item.payload for item in await host.collect()] == [b"%d" % number for number in range(401)]
        assert len(reads) == 2
        assert sum(reads) < 2**18
