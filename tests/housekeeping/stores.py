"""What tests of housekeeping share: stores with processes that have ended, made without running any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from durable.codec import Codec, MessagePackCodec
from durable.journal import Kind, Record
from durable.storage import Batch, Creation, End, JournalStorage, Mail, MailKind, Status
from durable.transfer.snapshot import Snapshot

DAY = 86_400_000_000
START = int(datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()) * 1_000_000
NOW = START + 60 * DAY
LONG_AGO = timedelta(days=30)


async def end_some(
    storage: JournalStorage,
    count: int,
    *,
    first: int = 1,
    start: int = START,
    apart: int = 1_000_000,
    steps: int = 3,
    codec: Codec | None = None,
) -> list[str]:
    """
    Create *count* processes that have ended, *apart* microseconds from each other; their ids.

    Every third has failed, and has an event in its inbox that nobody took.
    """
    codec = MessagePackCodec() if codec is None else codec
    session = await storage.begin_session("test", 60)
    batch, mailed = Batch(session, 1), Batch(None)
    for number in range(first, first + count):
        begun = start + number * apart
        arguments = (1, "3.11", (f"order {number}",), {"at": datetime(2026, 11, 1, tzinfo=UTC)}, None)
        record = Record(1, Kind.STARTED, "ship", codec.encode(arguments), begun)
        batch.creations.append(Creation(number, f"order-{number}", "ship", "default", True, None, record))
        for step in range(steps):
            value = {"step": step, "text": "packed " * 5, "weight": 1.5}
            batch.records.append(
                (number, Record(2 + step, Kind.DONE, f"item {step}/packed", codec.encode(value), begun + step))
            )
        failed = number % 3 == 0
        if failed:
            event = codec.encode(("too late", None))
            mailed.mails.append(Mail(f"order-{number}", MailKind.EVENT, "paid", None, event, begun))
        kind = Kind.ERRED if failed else Kind.COMPLETED
        end = Record(2 + steps, kind, "", codec.encode((f"result {number}", [])), begun + steps)
        batch.ends.append(End(number, Status.FAILED if failed else Status.COMPLETED, None, end, int(failed)))
    ends, batch.ends = batch.ends, []
    await storage.commit(batch)
    if mailed.mails:
        await storage.commit(mailed)
    await storage.commit(Batch(session, 2, ends=ends))
    await storage.end_session(session)
    return [f"order-{number}" for number in range(first, first + count)]


async def everything(storage: JournalStorage) -> dict[str, Snapshot]:
    """Every process of a store, complete."""
    found = {}
    for row in await storage.rows(limit=100_000):
        found[row.id] = Snapshot.of(row, await storage.journal(row.key), await storage.inbox(row.key))
    return found
