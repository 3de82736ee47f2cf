"""What cannot go on, or is too much to be written, is marked or cut, and stands in nobody's way."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from durable import (
    CorruptJournal,
    PayloadTooLarge,
    Process,
    ProcessClient,
    ProcessHost,
    ProcessTerminated,
    Retry,
    StepError,
    current_step,
    process,
)
from durable.storage import open_storage
from tests.host.staging import until_stalled

SOON = timedelta(seconds=20)
LIMIT = 4000  # bytes of a payload, in the tests of that limit


@process
async def wait_for_event(proc: Process) -> object:
    return await proc.event("wanted")


def change(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


async def test_what_the_store_refuses_is_stalled_with_its_reason(tmp_path: Path) -> None:
    """A process whose record is refused is marked, the others go on, and a resume takes it up again."""
    file = tmp_path / "processes.db"
    async with ProcessHost(f"sqlite:///{file}", [wait_for_event]) as host:
        unlucky, lucky = await host.start(wait_for_event(), id="unlucky"), await host.start(wait_for_event())
        change(
            file, "INSERT INTO record SELECT key, 2, 3, 'foreign', x'', created_at FROM process WHERE id = 'unlucky'"
        )
        raising = [asyncio.create_task(host.raise_event(one.id, "wanted", 1)) for one in (unlucky, lucky)]
        assert await lucky.result(SOON) == 1
        assert "does not follow" in await until_stalled(host, "unlucky")
        refusal, written = await asyncio.gather(*raising, return_exceptions=True)
        assert (type(refusal), written) == (CorruptJournal, None)
        change(file, "DELETE FROM record WHERE name = 'foreign'")
        await host.resume("unlucky")
        await host.raise_event("unlucky", "wanted", 2)
        assert await unlucky.result(SOON) == 2


async def test_the_place_of_a_child_that_will_not_come_is_free_again(tmp_path: Path) -> None:
    """A process that is refused while it starts a child leaves no place taken for that."""
    file = tmp_path / "processes.db"

    @process
    async def start_one(proc: Process) -> object:
        await proc.event("go")
        statement = "INSERT INTO record SELECT key, 5, 3, 'foreign', x'', created_at FROM process WHERE id = ?"
        change(file, statement, proc.id)  # as somebody else might at this moment: what it asks for next is refused
        return await proc.call(wait_for_event())

    async with ProcessHost(f"sqlite:///{file}", [start_one, wait_for_event], limit=2) as host:
        handle = await host.start(start_one(), id="unlucky")
        async for status in handle.watch():
            if status.waits_for:
                break
        await host.raise_event("unlucky", "go")
        assert "does not follow" in await until_stalled(host, "unlucky")
        async with asyncio.timeout(20):
            while host._engine.expected:  # a look for work expects some, too, for a moment
                await asyncio.sleep(0)


async def test_what_cannot_be_taken_in_is_stalled_and_keeps_nobody_from_running(tmp_path: Path) -> None:
    """A claimed process without any record is marked, and those that were claimed with it run."""
    file = tmp_path / "processes.db"
    async with ProcessClient(f"sqlite:///{file}") as client:
        for number in range(3):
            await client.start(wait_for_event(), id=f"p{number}")
            await client.raise_event(f"p{number}", "wanted", number)
    change(file, "DELETE FROM record WHERE key = (SELECT key FROM process WHERE id = 'p1')")
    async with ProcessHost(f"sqlite:///{file}", [wait_for_event]) as host:
        assert [await host.get(id).result(SOON) for id in ("p0", "p2")] == [0, 2]
        assert "could not be taken into memory" in await until_stalled(host, "p1")


async def test_nothing_is_left_in_the_inbox_of_an_unknown_process_that_was_terminated(url: str) -> None:
    """Its end takes its mail along, the request that ended it included."""
    async with ProcessClient(url) as client:
        await client.start(wait_for_event(), id="p")
        await client.raise_event("p", "wanted", 1)
        await client.terminate("p", "its function is gone")
        storage = open_storage(url)
        await storage.open()
        row = await storage.row("p")
        assert row is not None
        assert len(await storage.inbox(row.key)) == 2
        async with ProcessHost(url, [], queues=["default"]) as host:
            with pytest.raises(ProcessTerminated):
                await host.get("p").result(SOON)
        assert list(await storage.inbox(row.key)) == []
        await storage.close()


class Verbose(Exception):
    """An error that says far too much."""


async def fail_at_length() -> None:
    raise Verbose("x" * 100_000)


@process
async def fails_at_length(proc: Process) -> str:
    try:
        await proc.do(fail_at_length, "fails", retry=Retry(2, delay=timedelta(0)))
    except StepError as error:
        await proc.get(error.type_name, "type")
    raise Verbose("y" * 100_000)


async def test_an_error_beyond_the_limit_is_cut_and_recorded(url: str) -> None:
    """A failure too large for a record is recorded with its type and the ends of its text, wherever it happens."""
    async with ProcessHost(url, [fails_at_length], payload_limit=LIMIT) as host:
        with pytest.raises(Exception, match="Verbose") as caught:
            await (await host.start(fails_at_length(), id="p")).result(SOON)
        assert "more than the limit" in caught.value.reason  # type: ignore[attr-defined]
        storage = open_storage(url)
        await storage.open()
        row = await storage.row("p")
        assert row is not None
        kinds = {record.kind.name: len(record.payload) for record in await storage.journal(row.key)}
        await storage.close()
    assert {"ATTEMPT", "FAILED", "ERRED"} <= set(kinds)
    assert max(kinds.values()) <= LIMIT


async def test_a_reason_beyond_the_limit_is_refused_at_the_line(url: str) -> None:
    """Cancelling or terminating with a reason that cannot be recorded says so, and changes nothing."""
    async with ProcessHost(url, [wait_for_event], payload_limit=LIMIT) as host:
        handle = await host.start(wait_for_event(), id="p")
        with pytest.raises(PayloadTooLarge, match="reason"):
            await handle.cancel("x" * LIMIT)
        with pytest.raises(PayloadTooLarge, match="reason"):
            await host.terminate("p", "x" * LIMIT)
        await host.raise_event("p", "wanted", 1)
        assert await handle.result(SOON) == 1


def report_at_length() -> None:
    current_step().progress(1, 2, "x" * 1001)


@process
async def reports_at_length(proc: Process) -> list[str]:
    caught = []
    try:
        proc.progress(1, 2, "x" * 1001)
    except PayloadTooLarge as error:
        caught.append(type(error).__name__)
    try:
        await proc.do(report_at_length, "report")
    except PayloadTooLarge as error:
        caught.append(type(error).__name__)
    proc.progress(1, 2, "x" * 1000)
    return caught


async def test_a_long_progress_message_is_refused_at_the_line(url: str) -> None:
    """Process and action hear at once that a message of progress is not a place for data."""
    async with ProcessHost(url, [reports_at_length]) as host:
        assert await (await host.start(reports_at_length())).result(SOON) == ["PayloadTooLarge"] * 2
