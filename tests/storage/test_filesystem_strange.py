"""
Strange things in a filesystem store that no crash leaves: lines of a newer version, lines that say what cannot be, and
entries of the directory that are no files or cannot be read. Each costs its own process at most; the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from durable.errors import CorruptJournal, StorageError
from durable.storage import Batch, Status
from durable.testing.storage_parts import creation, event, step
from durable_storage.filesystem import index
from durable_storage.filesystem.frames import frame
from durable_storage.filesystem.lines import line
from durable_storage.filesystem.packing import to_bytes
from durable_storage.filesystem.provider import FilesystemStorage
from durable_storage.filesystem.transaction import Changes
from tests.storage.filesystem import begin, copy, everything, glance, journal, look, opened

BROKEN_DISK = "/proc/self/mem"  # a file that can be opened, and reading its beginning fails with EIO


@pytest.fixture
async def place(tmp_path: Path) -> Path:
    """A closed store with three due processes, each with one mail."""
    place = tmp_path / "store"
    async with opened(place) as storage:
        await storage.commit(Batch(None, creations=[creation(key, owned=False, wake_at=1) for key in (1, 2, 3)]))
        await storage.commit(Batch(None, mails=[event(key) for key in (1, 2, 3)]))
    return place


def finish(storage: FilesystemStorage) -> None:
    """Make the journal files complete."""
    assert storage._checkpointer is not None
    storage._checkpointer.finish()


# --- lines -----------------------------------------------------------------------------------------------------

RECORD = {"seq": 2, "kind": "VALUE", "name": "x", "time": 3}
MAIL = {"number": 5, "kind": "EVENT", "name": "x", "event_key": None, "time": 3}
LINES = {
    "unknown record": line("record", **{**RECORD, "kind": "NEW"}, text="x"),
    "unknown mail": line("mail", **{**MAIL, "kind": "NEW"}, text="x"),
    "unknown op": line("new"),
    "bad base64": line("record", **RECORD, base64="!!"),
    "no payload": line("record", **RECORD),
    "payload is a number": line("record", **RECORD, text=5),
    "half a character": line("progress", text="x").replace(b'"x"', b'"\\ud800"'),
    "progress is bad base64": line("progress", base64="!"),
    "name is a number": line("record", **{**RECORD, "name": 5}, text="x"),
    "seq is a text": line("record", **{**RECORD, "seq": "2"}, text="x"),
    "time is a text": line("record", **{**RECORD, "time": "later"}, text="x"),
    "mail of a bad number": line("mail", **{**MAIL, "number": "5"}, text="x"),
    "mail of a bad key": line("mail", **{**MAIL, "event_key": 5}, text="x"),
    "taken is nothing": line("taken", numbers=None),
    "taken are lists": line("taken", numbers=[[1]]),
    "wake_at is a text": line("park", wake_at="soon"),
    "wake_at is far away": line("park", wake_at=2**70),
    "end is a text": line("end", status="completed", reason=None, time="later"),
    "unknown end": line("end", status="new", reason=None, time=3),
    "reason is a list": line("stall", reason=[]),
    "session is a text": line("claim", session="a"),
    "second process": line("process", id="x", key=1, born=1, definition="d", queue="q", owner=None, wake_at=1),
}
LINES["half a character"] = frame(LINES["half a character"][18:-1])


@pytest.mark.parametrize("what", LINES)
async def test_line_that_cannot_be_read(place: Path, what: str) -> None:
    """Whatever a whole line says that this version cannot read, its process is left alone, and the others go on."""
    with journal(place, "id 2").open("ab") as file:
        file.write(LINES[what])
    before = journal(place, "id 2").read_bytes()
    for _ in range(2):
        async with opened(place) as storage:
            host = await begin(storage)
            claims = await host.claim()
            assert [claim.row.key for claim in claims] == [1, 3]
            assert await host.claim() == []
            row = await storage.row("id 2")
            assert row is None or row.status is Status.STALLED
            if row is not None:
                with pytest.raises(CorruptJournal, match="upgrade this host"):
                    await storage.journal(2)
            await storage.end_session(host.session)
    assert journal(place, "id 2").read_bytes() == before


async def test_first_line_that_cannot_be_read(place: Path) -> None:
    """The same with the line that makes the process."""
    file = journal(place, "id 2")
    for changed in ({"key": "2"}, {"id": 2}, {"born": None}, {"queue": None}, {"wake_at": 2**70}):
        facts = {"id": "id 2", "key": 2, "born": 1, "definition": "d", "queue": "q", "owner": None, "wake_at": 1}
        file.write_bytes(b"durable journal 1\n" + line("process", **{**facts, **changed}))
        assert sorted(await look(place)) == ["id 1", "id 3"]


async def test_newer_line_in_the_log(place: Path) -> None:
    """What a newer version writes beside this one costs its process here, and is brought into its file nevertheless."""

    def write(changes: Changes) -> None:
        changes._add(changes._touch(2), line("new"))

    async with opened(place) as storage, opened(place) as other:
        host = await begin(other)
        assert storage._store is not None
        storage._store.write(write)
        await storage.commit(Batch(None, mails=[event(2)]))  # and goes on
        assert [claim.row.key for claim in await host.claim()] == [1, 3]
        assert "upgrade this host" in str((await host.row(2)).reason)
        with pytest.raises(CorruptJournal):
            await other.commit(Batch(None, mails=[event(2)]))
        finish(other)
    lines = journal(place, "id 2").read_bytes().splitlines()
    assert b'"op":"new"' in lines[-2]
    assert b'"op":"mail"' in lines[-1]


async def test_damaged_mail_holds_up_no_other(place: Path) -> None:
    """A look into the inboxes leaves out the process with a damaged line; the mail of all others is there."""
    async with opened(place) as storage:
        host = await begin(storage)
        assert len(await host.claim()) == 3
        await host.commit(mails=[event(1), event(2), event(3)])
        finish(storage)
        file = journal(place, "id 2")
        file.write_bytes(file.read_bytes().replace(b'"name":"event name"', b'"name":"event game"'))
        assert [item.key for item in await host.collect()] == [1, 3, 1, 3]
        assert await host.collect() == []
        row = await host.row(2)
        assert (row.status, "damaged at byte" in (row.reason or "")) == (Status.STALLED, True)
        with pytest.raises(CorruptJournal):
            await storage.inbox(2)


# --- entries of the directory ----------------------------------------------------------------------------------


def make_index(content: object) -> Callable[[Path], object]:
    """Write an index with *content*, undamaged."""
    return lambda place: (place / "index").write_bytes(index.MAGIC + frame(to_bytes(content)))


def put_directory(name: str) -> Callable[[Path], None]:
    """Put a directory in the place of what is there."""

    def put(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        (place / name).mkdir()

    return put


COLUMNS = {"directory": 0, "segment": 1, "names": ["a.journal"], "sizes": [5], "changes": [5], "columns": {}}
STRANGE: dict[str, Callable[[Path], object]] = {
    "directory": put_directory("processes/x.journal"),
    "pipe": lambda place: os.mkfifo(place / "processes" / "x.journal"),
    "link to nothing": lambda place: (place / "processes" / "x.journal").symlink_to("/nonexistent/x"),
    "link to a broken disk": lambda place: (place / "processes" / "x.journal").symlink_to(BROKEN_DISK),
    "index is a directory": put_directory("index"),
    "index is a list": make_index([1]),
    "index has other members": make_index({"a": 1}),
    "index has no columns": make_index(COLUMNS),
    "index has other columns": make_index({**COLUMNS, "columns": {"stamp": 1, "keys": [1], "entries": [b""]}}),
    "index of numbers": make_index({**COLUMNS, "names": 5}),
    "session is a directory": put_directory("sessions/7"),
}


@pytest.mark.parametrize("what", STRANGE)
async def test_strange_entry_of_the_directory(place: Path, what: str) -> None:
    """No entry of the directory that is not what its name says keeps the store shut, or any process away."""
    before = await look(place)
    (place / "sessions").mkdir(exist_ok=True)
    STRANGE[what](place)
    assert await look(place) == before
    async with opened(place) as storage:
        host = await begin(storage)
        assert len(await host.claim()) == 3
        await host.commit(creations=[creation(4)])
        finish(storage)
    assert sorted(await look(place)) == ["id 1", "id 2", "id 3", "id 4"]


@pytest.mark.parametrize("what", ["directory", "broken disk"])
@pytest.mark.parametrize("is_open", [False, True])
async def test_file_that_the_system_refuses(place: Path, what: str, is_open: bool) -> None:
    """A journal file that cannot be read, at opening or later, costs its own process; nothing is written there."""
    file = journal(place, "id 2")

    def replace() -> None:
        file.rename(place / "kept")
        file.mkdir() if what == "directory" else file.symlink_to(BROKEN_DISK)

    if not is_open:
        replace()
    async with opened(place) as storage:
        host = await begin(storage)
        if is_open:
            replace()
        assert [claim.row.key for claim in await host.claim()] == [1, 3]
        assert await host.claim() == []
        with pytest.raises(CorruptJournal):
            await storage.commit(Batch(None, creations=[creation(2, owned=False)], mails=[event(2)]))
        await host.commit(records=[(1, step(2))])
    file.rmdir() if what == "directory" else file.unlink()
    (place / "kept").rename(file)
    assert sorted(await look(place)) == ["id 1", "id 2", "id 3"]


async def test_log_is_kept_for_a_refused_file(place: Path, tmp_path: Path) -> None:
    """What the log has for a file that cannot be read now is not forgotten: it is there when the disk works again."""
    async with opened(place) as storage:
        await storage.commit(Batch(None, mails=[event(key, payload=b"new") for key in (1, 2)]))
        before = await everything(storage)
        crashed = copy(place, tmp_path / "crashed")
    file = journal(crashed, "id 2")
    file.rename(tmp_path / "kept")
    file.symlink_to(BROKEN_DISK)
    for _ in range(2):
        assert sorted(await look(crashed)) == ["id 1", "id 3"]
    file.unlink()
    (tmp_path / "kept").rename(file)
    assert glance(crashed) == before
    assert await look(crashed) == before


async def test_id_that_no_file_keeps(place: Path) -> None:
    """An id with half a character is refused as an error of the store; nothing of its batch is written."""
    before = await look(place)
    async with opened(place) as storage:
        with pytest.raises(StorageError, match="cannot keep that"):
            await storage.commit(Batch(None, creations=[creation(8, False), creation(9, False, id="\ud800")]))
    assert await look(place) == before
