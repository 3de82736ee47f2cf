"""The files of a filesystem store: names, what a person reads in them, copies, deletions, and what is not ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from zlib import crc32

import pytest

from durable.errors import CorruptJournal, NewerFormat, NotAStore, StorageError
from durable.journal import Kind, Record
from durable.storage import Batch, ProcessRow, Restart, Status, open_storage
from durable.testing.storage_parts import QUEUE, Host, creation, ending, event, started, step
from durable_storage.filesystem import index
from durable_storage.filesystem.address import parse
from durable_storage.filesystem.journals import Journals, Loaded
from durable_storage.filesystem.layout import Layout, journal_name
from durable_storage.filesystem.provider import FilesystemStorage
from tests.storage.filesystem import begin, copy, everything, glance, journal, look, opened, write_everything


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store"


# --- addresses -------------------------------------------------------------------------------------------------


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute and relative directories are taken, with percent escapes; everything else is refused with the forms."""
    monkeypatch.chdir(tmp_path)
    assert parse("file:///var/lib/a%20b/") == "/var/lib/a b"
    assert parse("file://localhost/var/x") == "/var/x"
    assert parse("file:data/x") == f"{tmp_path}/data/x"
    for wrong in ("file://server/share", "file://relative", "file:", "file:///", "file:///a?b=1", "file:///a%00b"):
        with pytest.raises(StorageError):
            parse(wrong)
    assert isinstance(open_storage(f"file://{tmp_path}/x"), FilesystemStorage)


# --- names and lines -------------------------------------------------------------------------------------------


async def test_odd_ids_have_files(place: Path) -> None:
    """Each id has a file of its own in one directory, whatever characters it has, also where case does not count."""
    odd = [
        "a/b",
        "../..",
        ".",
        "id",
        "ID",
        "Id",
        "🎉",
        "x" * 1000,
        "ü" * 1000,
        "-",
        "a\nb",
        "con",
        "CON",
        "a" * 999 + "b",
    ]
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(key, id=id_) for key, id_ in enumerate(odd, start=1)])
    names = os.listdir(place / "processes")
    assert len({name.lower() for name in names}) == len(odd)
    assert all(re.fullmatch(r"[a-z0-9-]{1,60}\.[0-9a-f]{32}\.journal", name) for name in names)
    assert sorted(await look(place)) == sorted(odd)


async def test_journal_is_text(place: Path) -> None:
    """A journal is lines of text: its payloads too, when they are text; each line carries its length and CRC-32."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(
            creations=[creation(1)], records=[(1, step(2, '{"sum": "3 €"}'.encode())), (1, step(3, b"\0"))]
        )
        await host.commit(ends=[ending(1, seq=4)])
    first, *lines = journal(place, "id 1").read_text().splitlines()
    assert first == "durable journal 1"
    read = []
    for line in lines:
        length, checksum, text = line.split(" ", 2)
        assert (int(length, 16), int(checksum, 16)) == (len(text.encode()), crc32(text.encode()))
        read.append(json.loads(text))
    assert [line["op"] for line in read] == ["process", "record", "record", "record", "record", "end"]
    assert (read[0]["id"], read[0]["definition"]) == ("id 1", "definition")
    assert (read[2]["name"], read[2]["text"], read[3]["base64"]) == ("step 2", '{"sum": "3 €"}', "AA==")


# --- copies and deletions --------------------------------------------------------------------------------------


async def test_process_is_copied_with_its_file(place: Path, tmp_path: Path) -> None:
    """A file copied into another store is the process, with all it has; it goes on there, whoever owned it here."""
    async with opened(place) as storage:
        await write_everything(storage)
    there = tmp_path / "there"
    async with opened(there) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(100)])
    before = await look(place)
    for process_id in before:
        shutil.copy(journal(place, process_id), journal(there, process_id))
    async with opened(there) as storage:
        found = await everything(storage)
        del found["id 100"]
        assert found == before
        host = await begin(storage)
        assert await storage.bury() == 1
        claims = {claim.row.id: claim for claim in await host.claim()}
        assert sorted(claims) == ["id 1", "id 100", "id 2", "id 5"]
        assert list(claims["id 5"].inbox) == before["id 5"][2]
        await host.commit(records=[(1, step(4))], taken=[claims["id 5"].inbox[0].number])


async def test_process_is_deleted_with_its_file(place: Path) -> None:
    """Without its file a process is gone; the others are not touched, and its id may be used again."""
    async with opened(place) as storage:
        await write_everything(storage)
    before = await look(place)
    journal(place, "id 2").unlink()
    del before["id 2"]
    assert await look(place) == before
    async with opened(place) as storage:
        host = await begin(storage)
        assert not (await host.commit(creations=[creation(7, id="id 2")])).taken_ids


async def test_file_put_back(place: Path, tmp_path: Path) -> None:
    """A file that was overwritten with an older copy of it is believed, not the index."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)])
        await storage.end_session(host.session)
    old = shutil.copy(journal(place, "id 1"), tmp_path / "old")
    before = await look(place)
    async with opened(place) as storage:
        host = await begin(storage)
        await host.claim()
        await host.commit(records=[(1, step(2))])
        await storage.end_session(host.session)
    shutil.copy(old, journal(place, "id 1"))
    assert await look(place) == before


async def test_purged_id_is_used_again(place: Path, tmp_path: Path) -> None:
    """A purged process leaves no file, and one with its id and its key is a new one, before and after a crash."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1), creation(2), creation(3)])
        await host.commit(ends=[ending(1), ending(2), ending(3)])
    async with opened(place) as storage:
        host = await begin(storage)
        assert await storage.purge([1, 2, 3, 99]) == 3
        await host.commit(creations=[creation(1), creation(9, id="id 2")], records=[(1, step(2))])
        before = await everything(storage)
        crashed = copy(place, tmp_path / "crashed")
    assert sorted(before) == ["id 1", "id 2"]
    assert sorted(os.listdir(place / "processes")) == sorted(map(journal_name, before))
    assert await look(place) == before
    assert await look(crashed) == before
    for name in os.listdir(place / "processes"):  # a checkpoint that was interrupted after some files
        shutil.copy(place / "processes" / name, crashed / "processes" / name)
        assert await look(crashed) == before


# --- the index -------------------------------------------------------------------------------------------------


async def test_index_is_only_a_copy(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index spares reading the files; missing, damaged, of other content or outdated it is made anew."""
    async with opened(place) as storage:
        host = await write_everything(storage)
        await storage.end_session(host.session)
    before = await look(place)
    good = (place / "index").read_bytes()
    read: list[str] = []
    load = Journals.load

    def listen(self: Journals, name: str) -> Loaded:
        read.append(name)
        return load(self, name)

    monkeypatch.setattr(Journals, "load", listen)
    assert await look(place) == before
    assert read == []
    for content in (None, b"", good[:-1], good[:100] + b"\0" + good[101:], b"something else"):
        (place / "index").unlink() if content is None else (place / "index").write_bytes(content)
        assert await look(place) == before
        assert len(read) == len(before)
        read.clear()
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(10)])
        await storage.end_session(host.session)
    before = await look(place)
    (place / "index").write_bytes(good)
    assert await look(place) == before
    assert read == [journal_name("id 10")]


async def test_index_with_many_changes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When many files have changed, what the index says of the others is still right, in every list and count."""
    async with opened(place) as storage:
        host = await write_everything(storage)
        await storage.end_session(host.session)
        counts = [
            await storage.count(),
            await storage.count(status=[Status.STALLED]),
            await storage.next_wake(["default"]),
        ]
    before = await look(place)
    monkeypatch.setattr(index, "_FEW", 0)
    os.utime(journal(place, "id 2"))
    assert await look(place) == before
    async with opened(place) as storage:
        assert counts == [
            await storage.count(),
            await storage.count(status=[Status.STALLED]),
            await storage.next_wake(["default"]),
        ]


async def test_listing_looks_at_the_index_only(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files are many, a listing looks at none while the index is current; all else does, and so does a host."""
    monkeypatch.setattr(index, "_MANY", 1)
    scans: list[Layout] = []
    scan = index._scan

    def listen(layout: Layout) -> dict[str, tuple[int, int]]:
        scans.append(layout)
        return scan(layout)

    monkeypatch.setattr(index, "_scan", listen)

    async def listed(*, unlooked: bool) -> list[ProcessRow]:
        later = time.time() + 10  # else the directory may have changed again within one tick of its clock
        os.utime(place / "index", (later, later))
        scans.clear()
        async with opened(place) as storage:
            rows = list(await storage.rows())
            assert len(rows) == await storage.count()
            assert bool(scans) is not unlooked
        return rows

    async with opened(place) as storage:
        await write_everything(storage)
    async with opened(place) as storage:
        await storage.end_session((await begin(storage)).session)
    before = await listed(unlooked=True)
    async with opened(place) as storage:
        assert len(await storage.journal(1)) == 3
        assert len(scans) == 1
    assert await listed(unlooked=True) == before
    # A file is taken away and comes back: the directory has changed.
    old = shutil.copy(journal(place, "id 5"), tmp_path / "old")
    journal(place, "id 5").unlink()
    assert await listed(unlooked=False) == before[1:]
    assert await listed(unlooked=True) == before[1:]
    shutil.copy(old, journal(place, "id 5"))
    assert await listed(unlooked=False) == before
    # A crashed host has left something in the log.
    async with opened(place) as storage:
        host = await begin(storage)
        await storage.commit(Batch(None, mails=[event(5)]))
        crashed = [row.mail for row in await storage.rows()]
        later = copy(place, tmp_path / "crashed")
        await storage.end_session(host.session)
    assert crashed[0] == before[0].mail + 1
    assert [row.mail for _, (row, _, _) in sorted(glance(later).items())] == crashed[::-1]
    # One is written over in its place: a host notices, and from then on everybody does.
    assert [row.mail for row in await listed(unlooked=True)] == crashed
    journal(place, "id 5").write_bytes(Path(old).read_bytes())
    assert [row.mail for row in await listed(unlooked=True)] == crashed
    async with opened(place) as storage:
        host = await begin(storage)
        assert list(await storage.rows()) == before
        assert await listed(unlooked=False) == before
        await storage.end_session(host.session)
    assert await listed(unlooked=True) == before


# --- what is not ours ------------------------------------------------------------------------------------------


async def test_foreign_directories_are_refused(tmp_path: Path) -> None:
    """A directory with other things, a file, and a directory that cannot be made are refused and not touched."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, error in (("full", NotAStore), ("file", NotAStore), ("missing/store", StorageError)):
        with pytest.raises(error):
            await look(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["diary.txt", "file", "full"]
    (tmp_path / "empty").mkdir()
    assert await look(tmp_path / "empty") == {}


async def test_newer_format_is_refused(place: Path) -> None:
    """A store or a journal file of a newer version is refused and not touched."""
    async with opened(place) as storage:
        await write_everything(storage)
    file = journal(place, "id 2")
    file.write_bytes(file.read_bytes().replace(b"journal 1", b"journal 2", 1))
    for path in (file, place / "durable-store"):
        if path.name == "durable-store":
            path.write_bytes(b"durable store 2\n")
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
        with pytest.raises(NewerFormat):
            await look(place)
        assert {path: path.read_bytes() for path in before} == before


async def test_foreign_marker_is_refused(place: Path) -> None:
    """A marker that says something else is not ours."""
    place.mkdir()
    (place / "durable-store").write_text("of another program")
    with pytest.raises(NotAStore):
        await look(place)


async def test_strange_files_among_the_journals(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no journal, has another name than its process, or has the key of another is named and left out."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1), creation(2)])
        await storage.end_session(host.session)
    before = await look(place)
    shutil.copy(journal(place, "id 1"), place / "processes" / "copy.journal")
    journal(place, "id 3").write_text("notes\n")
    (place / "processes" / "README").write_text("notes\n")
    assert await look(place) == before
    assert "rename it to" in caplog.text
    assert "is not a journal of this library" in caplog.text
    async with opened(place) as storage:
        with pytest.raises(CorruptJournal, match="there but damaged"):
            await storage.commit(Batch(None, creations=[creation(3, owned=False)]))
    assert journal(place, "id 3").read_text() == "notes\n"


async def test_large_payloads_and_small_memory(place: Path) -> None:
    """Once in its file nothing of a journal is kept in memory, and it is still read as it was written."""
    async with opened(place) as storage:
        host = await begin(storage)
        payload = b"\xff" * 2**20
        await host.commit(
            creations=[creation(1)], records=[(1, Record(2, Kind.VALUE, "", payload, 2))], mails=[event(1)]
        )
        store, checkpointer = storage._store, storage._checkpointer
        assert store is not None
        assert checkpointer is not None
        checkpointer.finish()
        assert store.state.entries.peek(1).pending == ()
        await host.commit(records=[(1, step(3))])
        assert [len(record.payload) for record in await storage.journal(1)] == [9, 2**20, 5]
        assert [item.payload for item in await Host(storage, host.session).collect()] == [b"mail"]


async def test_time_of_creation_outlives_everything(place: Path, tmp_path: Path) -> None:
    """When a process was created is found in the log, in the index and in its file, before and after its next life."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(key, record=started(9), created_at=4) for key in (1, 2)])
        await host.commit(restarts=[Restart(2, "next", QUEUE, [started(20)])])
        in_log = copy(place, tmp_path / "log")
    for one in (in_log, place):
        for _ in range(2):  # the second look finds what the first one has written at its end
            assert {row.created_at for row, *_ in (await look(one)).values()} == {4}
    for file in place.glob("index*"):
        file.unlink()
    assert {row.created_at for row, *_ in (await look(place)).values()} == {4}
    assert '"wake_at":null,"created_at":4}' in journal(place, "id 1").read_text()


# --- next lives ------------------------------------------------------------------------------------------------


async def test_restarts_do_not_grow_the_file(place: Path, tmp_path: Path) -> None:
    """A process that restarts for ever has a file of one life, with its inbox, killed before a checkpoint or not."""
    sizes = []
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)], mails=[event(1, payload=b"first")])
        for life in range(30):
            records = [started(), step(2, b"x" * 1000)]
            # One mail more in the same batch; the inbox never holds more than two.
            items = await storage.inbox(1)
            taken = [item.number for item in items[:-1]]
            mail = event(1, payload=b"in %d" % life)
            await host.commit(taken=taken, mails=[mail], restarts=[Restart(1, "next", QUEUE, records)])
            if life % 10 == 5:
                await host.commit(records=[(1, step(3))])
                assert storage._checkpointer is not None
                storage._checkpointer.finish()
                sizes.append(journal(place, "id 1").stat().st_size)
        before = await everything(storage)
        killed = copy(place, tmp_path / "killed")
    row, records, inbox = before["id 1"]
    assert (row.mail, row.definition, row.created_at, len(records)) == (31, "next", 1, 2)
    assert [item.payload for item in inbox] == [b"in 28", b"in 29"]
    assert max(sizes) < 5000
    for one in (place, killed):
        assert await look(one) == before
        assert journal(one, "id 1").stat().st_size < 5000
        assert await look(one) == before
