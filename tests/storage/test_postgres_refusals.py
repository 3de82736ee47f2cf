"""Values that PostgreSQL cannot keep: what becomes of them, of the process that has them, and of all the others."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from durable import Event, Process, ProcessHost, process
from durable.errors import CorruptJournal
from durable.journal import Kind, Record
from durable.storage import Batch, Stall, Status
from durable.testing.storage_parts import Host, creation, ending, event, started, step
from tests.storage.conftest import OpenPostgres

SOON = timedelta(seconds=20)
LETTERS = random.Random(1)
LONG_ID = "".join(chr(LETTERS.randrange(0x4E00, 0x9F00)) for _ in range(1000))  # nothing that can be compressed


async def test_value_that_cannot_be_kept(open_postgres: OpenPostgres) -> None:
    """A record PostgreSQL cannot keep is the affair of its process: the host is told to split the batch."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)])
    for name in ("with\0null", "lone \ud800"):
        with pytest.raises(CorruptJournal):
            await host.commit(records=[(1, Record(2, Kind.VALUE, name, b"", 2))])
    await host.commit(records=[(1, step(2))])


async def test_batch_that_is_too_large(open_postgres: OpenPostgres) -> None:
    """What the server would hang up on is not sent, but refused so that the host splits the batch."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1), creation(2)])
    large = bytes(2**26)
    parts: list[dict[str, Any]] = [
        {"records": [(1, step(seq, large)) for seq in range(2, 18)]},
        {"mails": [event(1, payload=large)] * 16},
        {"creations": [creation(key, record=started()._replace(payload=large)) for key in range(3, 19)]},
    ]
    for part in parts:
        with pytest.raises(CorruptJournal, match="1 GB"):
            await host.commit(**part)
    await host.commit(records=[(1, step(2))])
    assert [len(await storage.journal(key)) for key in (1, 2)] == [2, 1]


async def test_id_too_long_for_the_index(open_postgres: OpenPostgres) -> None:
    """An id of 1000 letters that has no room in the index is refused as the data of one process, with its size."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    for part in ("creations", "children"):
        with pytest.raises(CorruptJournal, match="3000 bytes"):
            await host.commit(**{part: [creation(1, id=LONG_ID)]})
    with pytest.raises(CorruptJournal, match="3000 bytes"):
        await storage.commit(Batch(None, creations=[creation(1, id=LONG_ID, owned=False)]))
    await host.commit(creations=[creation(1, id="x" * 1000)])


@process
async def rests(proc: Process) -> str:
    return await proc.event(Event("go", str))


@process
async def starts(proc: Process, id: str) -> str:
    await proc.start(rests(), "child", id=id)
    return "started"


async def test_refused_id_is_the_affair_of_one(open_postgres: OpenPostgres) -> None:
    """What comes into one batch with an id that has no room in the index is written all the same."""
    async with ProcessHost(open_postgres.url, [rests, starts]) as host:
        first, refused, second = await asyncio.gather(
            host.start(rests(), id="first"),
            host.start(rests(), id=LONG_ID),
            host.start(rests(), id="second"),
            return_exceptions=True,
        )
        assert isinstance(refused, CorruptJournal)
        assert not isinstance(first, BaseException)
        assert not isinstance(second, BaseException)
        parents = [await host.start(starts(id), id=f"parent of {id[:5]}") for id in (LONG_ID, "third")]
        await asyncio.gather(*(host.raise_event(id, "go", "on") for id in ("first", "second")))
        assert [await one.result(SOON) for one in (first, second)] == ["on"] * 2
        assert await parents[1].result(SOON) == "started"
        async with asyncio.timeout(SOON.total_seconds()):
            async for status in parents[0].watch():
                if status.status is Status.STALLED:
                    assert "3000 bytes" in (status.reason or "")
                    break


async def test_reason_of_any_text(open_postgres: OpenPostgres) -> None:
    """The reason of a stall or end is the text of an error: what PostgreSQL cannot keep of it is spelled out."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1), creation(2)])
    await host.commit(stalls=[Stall(1, "bad\0 byte \ud800 é", 0)])
    await host.commit(ends=[ending(2, Status.FAILED)._replace(reason="bad\0 byte \ud800 é")])
    assert [(await host.row(key)).reason for key in (1, 2)] == ["bad\\x00 byte \\ud800 é"] * 2
