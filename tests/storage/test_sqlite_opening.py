"""Opening a SQLite store: what is refused, that it is refused untouched, and that opening is safe at any moment."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable.errors import NewerFormat, NotAStore, StorageError
from durable.storage import Batch, open_storage
from durable.testing.storage_parts import creation
from durable_storage.sqlite.opening import APPLICATION_ID
from durable_storage.sqlite.provider import SqliteStorage
from tests.storage.children import OpenStore, StartChild, needs_proc, open_files, tampering

NOBODY = 65534  # a user who owns nothing


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below *directory* with its bytes."""
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://store.db", "write sqlite:///relative.db"),
        ("sqlite:store.db", "write sqlite:///relative.db"),
        ("sqlite:///", "write sqlite:///relative.db"),
        ("sqlite:///directory/", "Not the name of a file"),
        ("sqlite:///:memory:", "use memory://"),
        ("sqlite:///file:store.db", "needs a file of its own"),
        ("sqlite:///store.db?wal=off", "no option 'wal'"),
        ("sqlite:///store.db?readers=0", "whole number from 1 to 16"),
        ("sqlite:///store.db?busy_timeout=soon", "whole number from 0 to 3600"),
    ],
)
def test_wrong_urls_are_explained(url: str, says: str) -> None:
    """A URL that names no file, or an option that does not exist, is refused with what to write."""
    with pytest.raises(StorageError, match=says):
        SqliteStorage(url)


async def test_relative_url_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes name a file of the current directory as it was then, percent escapes included."""
    monkeypatch.chdir(tmp_path)
    storage = open_storage("sqlite:///my%20store%3F.db?readers=1&busy_timeout=0")
    monkeypatch.chdir("/")
    await storage.open()
    assert await storage.count() == 0
    await storage.close()
    assert (tmp_path / "my store?.db").is_file()


@pytest.mark.parametrize(
    "content", [b"some text that is longer than the header of a database " * 4, b"x", b"SQLite format 3\0"]
)
async def test_other_files_are_not_touched(path: Path, content: bytes) -> None:
    """A file that is no database stays as it is, and nothing is created beside it."""
    path.write_bytes(content)
    with pytest.raises(NotAStore):
        await SqliteStorage(f"sqlite:///{path}").open()
    assert contents(path.parent) == {path.name: content}


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
async def test_foreign_databases_are_not_touched(path: Path, journal_mode: str) -> None:
    """A SQLite file of another program is refused byte by byte as it was, in use by that program or not."""
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute(f"PRAGMA journal_mode = {journal_mode}")
    foreign.execute("CREATE TABLE theirs (number INTEGER)")
    foreign.execute("INSERT INTO theirs VALUES (1)")
    before = contents(path.parent)
    with pytest.raises(NotAStore):
        await SqliteStorage(f"sqlite:///{path}").open()
    assert contents(path.parent) == before
    foreign.close()


async def test_directory_is_not_a_store(path: Path) -> None:
    """A directory in the place of the file is refused."""
    path.mkdir()
    with pytest.raises(NotAStore, match="directory"):
        await SqliteStorage(f"sqlite:///{path}").open()


async def test_missing_directory_is_named(tmp_path: Path) -> None:
    """A missing parent directory is an error that says how to make it."""
    with pytest.raises(StorageError, match=f"mkdir -p {tmp_path}/missing"):
        await SqliteStorage(f"sqlite:///{tmp_path}/missing/store.db").open()


@pytest.mark.parametrize("in_header", [True, False])
async def test_newer_format_is_not_touched(path: Path, open_store: OpenStore, in_header: bool) -> None:
    """A store of a newer version is refused and stays newer, told by its header or only by its WAL."""
    await (await open_store()).close()
    connection = sqlite3.connect(path, isolation_level=None)
    if in_header:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerFormat) as caught:
        await SqliteStorage(f"sqlite:///{path}").open()
    assert (caught.value.version, caught.value.known) == (99, 1)
    assert connection.execute("PRAGMA user_version").fetchone() == (99,)
    connection.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter (those of pytest are private)."""
    directory = Path(tempfile.mkdtemp(prefix="durable-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("exists", [True, False])
async def test_read_only_store(open_directory: Path, child: StartChild, exists: bool) -> None:
    """Without permission to write, opening says so; the file stays as it is."""
    path = open_directory / "store.db"
    if exists:
        storage = SqliteStorage(f"sqlite:///{path}")
        await storage.open()
        await storage.close()
        (open_directory / "store.db-lock").chmod(0o666)
        path.chmod(0o444)
    open_directory.chmod(0o555)
    before = contents(open_directory)
    assert child("try_to_open", path, NOBODY).read() == "StorageReadOnly"
    assert contents(open_directory) == before
    open_directory.chmod(0o755)


async def test_filesystem_without_locks(path: Path, child: StartChild, strace: str) -> None:
    """A filesystem that has no locks is named as the reason, and no database is made on it."""
    inject = [
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        f"{path}-lock",
        "-e",
        "trace=fcntl",
        "-e",
        "inject=fcntl:error=ENOLCK",
    ]
    assert child("try_to_open", path, under=[strace, *inject]).read() == "UnsupportedFilesystem"
    assert not path.exists()


async def test_empty_file_becomes_a_store(path: Path, open_store: OpenStore) -> None:
    """An empty file, as ``mktemp`` or a crash leaves it, is taken over."""
    path.touch()
    assert await (await open_store()).count() == 0


async def test_second_start_passes_unharmed(path: Path, open_store: OpenStore) -> None:
    """Opening again changes nothing of the file but what SQLite itself counts."""
    first = await open_store()
    session = await first.begin_session("host", 30)
    await first.commit(Batch(session, 1, creations=[creation(1)]))
    await first.close()
    before = path.read_bytes()
    second = await open_store()
    assert await second.row("id 1") is not None
    await second.close()
    assert path.read_bytes() == before


async def test_header_names_the_owner(path: Path, open_store: OpenStore) -> None:
    """The application id stands in the file itself before any table does, so that a crash cannot hide whose it is."""
    storage = await open_store()
    assert int.from_bytes(path.read_bytes()[68:72], "big") == APPLICATION_ID
    await storage.close()


async def test_closed_object_says_so(open_store: OpenStore) -> None:
    """Whatever is asked of an object that is not open is refused; it can be opened again; closing twice is nothing."""
    storage = await open_store()
    with pytest.raises(StorageError, match="open already"):
        await storage.open()
    await storage.close()
    await storage.close()
    for action in (storage.commit(Batch(None)), storage.row("id"), storage.wait_for_change(0), storage.bury()):
        with pytest.raises(StorageError, match="not open"):
            await action
    await storage.open()
    assert await storage.count() == 0


@needs_proc
async def test_nothing_is_left_open(path: Path, open_store: OpenStore) -> None:
    """Closing gives back every descriptor, thread and lock, and SQLite's own files are gone with the last object."""
    storage = await open_store()
    await storage.row("id")
    await storage.begin_session("host", 30)
    await storage.close()
    assert [name for name in open_files() if str(path) in name] == []
    for thread in threading.enumerate():
        if str(path) in thread.name:  # it has answered, and may need another moment to leave
            thread.join(20)
            assert not thread.is_alive()
    assert not path.with_name("store.db-wal").exists()


@needs_proc
@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_reads_leave_nothing_open(path: Path, open_store: OpenStore, steps: int) -> None:
    """A read that is cancelled at any moment, also while it opens its connection, leaves nothing open after closing."""
    gc.disable()  # a connection that is forgotten is closed by the collector, at some time
    try:
        storage = await open_store()
        reads = [asyncio.ensure_future(storage.row("id")) for _ in range(3)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)
        await storage.close()
        assert [name for name in open_files() if str(path) in name] == []
    finally:
        gc.enable()


@pytest.mark.slow
async def test_killed_while_opening(path: Path, child: StartChild, open_store: OpenStore, strace: str) -> None:
    """A kill at any of the writes from an empty directory to the end of a first session leaves a store that opens."""
    parent = child("create_again", path)
    call = 0
    for call in range(1, 200):
        victim = int(parent.ask())
        with tampering(strace, victim, "-e", "trace=pwrite64", "-e", f"inject=pwrite64:signal=KILL:when={call}"):
            code = int(parent.ask())
        storage = await open_store()
        assert await storage.count() == 1 if code == 0 else await storage.count() in (0, 1)
        await storage.begin_session("host", 30)
        await storage.close()
        if code == 0:
            break
        for file in path.parent.iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert call > 10
