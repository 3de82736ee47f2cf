"""What work the SQLite store does, in counts: hops, fsyncs, plans of queries, bytes of WAL. Times are in benchmarks."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement

from durable.journal import Kind, Record
from durable.storage import Batch, Creation, Park, Status
from durable.testing.storage_parts import QUEUE, creation, event, step
from durable_storage.sqlite import database, statements
from durable_storage.sqlite.migrations import migrate
from tests.storage.children import OpenStore, StartChild, tampering


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A connection to an empty schema."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, "")
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, text: str) -> str:
    """How SQLite would run *text*."""
    names = set(re.findall(r":(\w+)", text))
    values = {name: "[]" if name == "wanted" else None for name in names} if names else [None] * text.count("?")
    return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values))


STATEMENTS = {name: text for name, text in vars(statements).items() if name.isupper() and isinstance(text, str)}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_scans(connection: sqlite3.Connection, name: str) -> None:
    """No statement of the writer reads all processes, records or inbox items, or sorts them."""
    steps = plan(connection, STATEMENTS[name])
    assert not re.search(r"SCAN (process|record|inbox)", steps), steps
    assert "TEMP B-TREE" not in steps or name == "INBOXES", steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("DUE", "process_due (queue=? AND wake_at<?)"),
        ("NEXT_WAKE", "process_due (queue=? AND wake_at>?)"),
        ("FLAGGED", "process_owned (owner=? AND wake_at>?)"),
        ("ORPHANS", "process_owned (owner=?)"),
        ("DEAD_OWNERS", "process_owned (owner=?)"),
        ("LENGTHS", "INTEGER PRIMARY KEY (rowid=?)"),
        ("STILL_OWNED", "INTEGER PRIMARY KEY (rowid=?)"),
        ("JOURNALS", "PRIMARY KEY (key=?)"),
        ("INBOXES", "inbox_by_process (key=?)"),
        ("RESUME_STALLED", "process_by_status (status=?)"),
        ("ADDRESSEES", "sqlite_autoindex_process_1 (id=?)"),
    ],
)
def test_hot_statements_use_their_index(connection: sqlite3.Connection, name: str, index: str) -> None:
    """What runs again and again finds its rows by the index made for it, whatever else the session owns."""
    assert index in plan(connection, STATEMENTS[name])


async def test_listings_do_not_scan(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queries of listings, as SQLAlchemy writes them, find their rows by an index, whatever is asked for."""
    storage = await open_store()
    reader = storage._reader
    texts: list[str] = []
    fetch = reader._fetch

    async def listen(statement: ClauseElement) -> list[object]:
        texts.append(str(statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})))
        return await fetch(statement)

    monkeypatch.setattr(reader, "_fetch", listen)
    await storage.row("id")
    await storage.rows_by_id(["id", "other"])
    await storage.journal(1)
    await storage.inbox(1)
    await storage.rows(before=5)
    await storage.rows(status=[Status.COMPLETED, Status.FAILED], before=5)
    await storage.rows(definition="definition")
    await storage.count(status=[Status.RUNNING])
    await storage.count(definition="definition")
    connection = sqlite3.connect(storage._address.path)
    for text in texts:
        steps = plan(connection, text)
        assert not re.search(r"SCAN (process|record|inbox)", steps), text + "\n" + steps
    connection.close()
    assert len(texts) == 9


async def test_batch_is_one_hop(open_store: OpenStore) -> None:
    """A batch of anything for any number of processes is one job of the writer's thread."""
    storage = await open_store()
    session = await storage.begin_session("host", 30)
    assert storage._writer is not None
    jobs = 0
    run = storage._writer.run

    def count(function: object) -> object:
        nonlocal jobs
        jobs += 1
        return run(function)  # type: ignore[arg-type]

    storage._writer.run = count  # type: ignore[method-assign, assignment]
    keys = range(1, 101)
    await storage.commit(
        Batch(
            session,
            1,
            creations=[creation(key) for key in keys],
            records=[(key, step(2)) for key in keys],
            mails=[event(key) for key in keys],
            parks=[Park(key, 0, 1) for key in keys],
        )
    )
    assert jobs == 1
    assert len(await storage.claim(session, [QUEUE], 1000, 100)) == 100
    assert jobs == 2


async def test_statements_do_not_grow_with_the_batch(open_store: OpenStore) -> None:
    """Beside the rows it writes, a batch runs the same statements for one process as for a hundred."""
    storage = await open_store()
    session = await storage.begin_session("host", 30)
    assert storage._database is not None
    connection = storage._database._opened()
    seen: list[str] = []
    assert storage._writer is not None
    await storage._writer.run(lambda: connection.set_trace_callback(seen.append))

    async def count(number: int, first: int, processes: int) -> int:
        seen.clear()
        keys = range(first, first + processes)
        batch = Batch(
            session, number, creations=[creation(key) for key in keys], records=[(key, step(2)) for key in keys]
        )
        batch.mails, batch.parks = [event(key) for key in keys], [Park(key, None, 1) for key in keys]
        await storage.commit(batch)
        return len(seen) - 6 * processes  # created, first and second record, flag, mail, park

    assert await count(1, 1, 1) == await count(2, 1001, 100)


async def test_batch_is_one_fsync(path: Path, child: StartChild, strace: str, tmp_path: Path) -> None:
    """Each commit is one fsync of the WAL, and nothing else is synced."""
    writer = child("serve", path)
    assert writer.read() == "session 1"
    assert writer.ask("commit 1") == "done"
    log = tmp_path / "syscalls"
    with tampering(strace, writer.process.pid, "-y", "-e", "trace=fsync,fdatasync", output=str(log)):
        for key in range(2, 12):
            assert writer.ask(f"commit {key}") == "done"
    synced = [line for line in log.read_text().splitlines() if "sync(" in line]
    assert len(synced) == 10
    assert all("store.db-wal" in line for line in synced)


async def test_wal_stays_small(path: Path, open_store: OpenStore) -> None:
    """The writer moves the WAL into the file by itself, so that it does not grow with what is written."""
    storage = await open_store()
    session = await storage.begin_session("host", 30)
    await storage.commit(Batch(session, 1, creations=[creation(1)]))
    sizes = []
    for seq in range(2, 42):
        record = Record(seq, Kind.VALUE, "", b"x" * 2**20, seq)
        await storage.commit(Batch(session, seq, records=[(1, record)]))
        sizes.append(path.with_name("store.db-wal").stat().st_size)
    assert max(sizes) < 8 * 2**20
    assert path.stat().st_size > 30 * 2**20


async def test_wal_of_a_long_read_is_given_back(
    path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that holds on to an old state lets the WAL grow; when it is gone the space is given back."""
    monkeypatch.setattr(database, "_CHECKPOINT_AT", 2**18)
    monkeypatch.setattr(database, "_TRUNCATE_AT", 2**20)
    storage = await open_store()
    reading = sqlite3.connect(path, isolation_level=None)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM process").fetchone()
    wal = path.with_name("store.db-wal")
    for key in range(1, 5):
        await storage.commit(Batch(None, creations=[big(key)]))
    assert wal.stat().st_size > 2 * 2**20
    reading.close()
    for key in range(5, 9):
        await storage.commit(Batch(None, creations=[big(key)]))
    assert wal.stat().st_size < 2**21


def big(key: int) -> Creation:
    """A process with half a megabyte in its first record."""
    return creation(key, owned=False, record=Record(1, Kind.STARTED, "", b"x" * 2**19, 1))


async def test_idle_renewals_do_not_wake_others(open_store: OpenStore) -> None:
    """Renewing and claiming nothing announce nothing: idle hosts do not keep each other awake."""
    storage, other = await open_store(), await open_store()
    session = await other.begin_session("host", 30)
    await storage.wait_for_change(0)
    await other.renew(session, 30)
    await other.claim(session, [QUEUE], 1, 1)
    assert await other.bury() == 0
    assert storage._database is not None
    assert not storage._database.announcements.has_changed()
