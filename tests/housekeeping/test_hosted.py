"""Housekeeping by a real host: what its processes leave behind is archived and purged while it runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from durable import Process, ProcessHost, process
from durable.errors import ProcessNotFound, StorageError
from durable.housekeeping import Retention, read_archive
from durable.storage import Status, open_storage
from tests.housekeeping.test_housekeeper import Watched

OFTEN = timedelta(milliseconds=5)


@process
async def greet(proc: Process, name: str) -> str:
    return await proc.do(lambda: f"Hello {name}", "greeted")


async def test_a_host_archives_what_has_ended() -> None:
    """What ends on a host with a retention goes into the archive, leaves the store, and its id is free."""
    archive, watched = f"memory://{uuid4()}", Watched(open_storage(f"memory://{uuid4()}"))
    retention = Retention(timedelta(0), archive, every=OFTEN)
    async with ProcessHost(watched, [greet], retention=retention) as host:
        await host.start(greet("Ann"), id="greet")
        await watched.has_purged(1)
        with pytest.raises(ProcessNotFound):
            await host.get("greet").status()
        await host.start(greet("Bob"), id="greet")
        await watched.has_purged(2)
    found = [process async for process in read_archive(archive, id="greet")]
    assert [process.entry.status for process in found] == [Status.COMPLETED] * 2
    assert {process.entry.key for process in found} != {found[0].entry.key}


async def test_a_host_leaves_in_the_middle_of_it() -> None:
    """A host that leaves while a purge hangs does not wait for it, and the store is closed after that."""
    watched = Watched(open_storage(f"memory://{uuid4()}"))
    watched.hangs = True
    async with ProcessHost(watched, [greet], retention=Retention(timedelta(0), None, every=OFTEN)) as host:
        assert await (await host.start(greet("Ann"), id="greet")).result() == "Hello Ann"
        await watched.purging.wait()


async def test_without_a_retention_everything_stays() -> None:
    """A host that was given no retention never looks for what has ended."""
    watched = Watched(open_storage(f"memory://{uuid4()}"))
    host = ProcessHost(watched, [greet])
    async with host:
        await (await host.start(greet("Ann"), id="greet")).result()
        assert host._housekeeper is None
        assert (await host.get("greet").status()).ended


async def test_a_wrong_archive_keeps_a_host_from_beginning() -> None:
    """An archive that leads nowhere is told on entering, and the store is closed again."""
    url = f"memory://{uuid4()}"
    with pytest.raises(StorageError, match="could not be opened"):
        async with ProcessHost(url, [greet], retention=Retention(timedelta(0), "gopher://hole")):
            pass
    async with ProcessHost(url, [greet]) as host:
        assert await host.count() == 0
