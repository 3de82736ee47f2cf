"""What tests of the filesystem store share: a workload with every kind of line, and how to look at a directory."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from durable.storage import Batch, Park, ProcessRow, Stall, Status
from durable.testing.storage_parts import QUEUE, Host, creation, ending, event, step
from durable_storage.filesystem.layout import Layout, journal_name
from durable_storage.filesystem.provider import FilesystemStorage
from durable_storage.filesystem.store import Store


@asynccontextmanager
async def opened(place: Path, **options: Any) -> AsyncIterator[FilesystemStorage]:
    """A storage object on *place*, closed at the end."""
    storage = FilesystemStorage(f"file://{place}", **options)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def begin(storage: FilesystemStorage) -> Host:
    """A session."""
    return Host(storage, await storage.begin_session("host", 1000))


async def write_everything(storage: FilesystemStorage) -> Host:
    """Every kind of line there is, on a few processes: 1 owned, 2 parked, 3 stalled, 4 ended, 5 pending with mail."""
    host = await begin(storage)
    await host.commit(creations=[creation(key) for key in range(1, 5)])
    await storage.commit(Batch(None, creations=[creation(5, owned=False, wake_at=70)], mails=[event(5)]))
    await host.commit(records=[(key, step(2, b"\xff" * key)) for key in range(1, 5)], mails=[event(1), event(2)])
    items = await storage.collect(host.session)
    await host.commit(records=[(1, step(3, b"text"))], taken=[items[0].number], progress={1: b"half", 2: b"\0"})
    await host.commit(parks=[Park(2, 400, 1)], stalls=[Stall(3, "a bug", 0)], ends=[ending(4, Status.FAILED, seq=3)])
    await storage.resume_stalled(["other"], 5)
    await storage.claim(host.session, [QUEUE], 1, 60)
    return host


async def everything(storage: FilesystemStorage) -> dict[str, tuple[ProcessRow, list[Any], list[Any]]]:
    """All rows with their journals and inboxes, by id."""
    rows = await storage.rows(limit=1000)
    return {row.id: (row, list(await storage.journal(row.key)), list(await storage.inbox(row.key))) for row in rows}


async def look(place: Path) -> dict[str, tuple[ProcessRow, list[Any], list[Any]]]:
    """`everything` of the store at *place*, opened for it and closed again."""
    async with opened(place) as storage:
        return await everything(storage)


def glance(place: Path) -> dict[str, tuple[ProcessRow, list[Any], list[Any]]]:
    """What `look` finds, without writing the journal files at the end."""
    store = Store(Layout(str(place)))
    try:
        store.open()
        read = {key: store.journals.read(store.state.entries[key]) for key in store.state.entries}
        return {(entry := store.state.entries[key]).id: (entry.row(), *found) for key, found in read.items()}
    finally:
        store.close()


def copy(place: Path, to: Path) -> Path:
    """A copy of the store as a crash would leave it."""
    shutil.copytree(place, to)
    return to


def journal(place: Path, process_id: str) -> Path:
    """The journal file of a process."""
    return place / "processes" / journal_name(process_id)


def log_of(place: Path) -> Path:
    """The only segment of the commit log."""
    [segment] = place.glob("batches-*.log")
    return segment


def end_of_log(place: Path) -> int:
    """Where the last frame of the only segment ends; behind it are zeros, room for the next ones."""
    return len(log_of(place).read_bytes().rstrip(b"\0"))
