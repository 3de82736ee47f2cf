"""
Unfinished processes against the code as it is now: `check` replays each, without any effect, and says what it would do.

Nothing is written, no action is run, no value is taken: commands are looked at and dropped. What does run is the code
of process functions between checkpoints, as on every restart. Processes that were replayed are let go, never unwound.

``rehearsal`` replays one process, ``places`` says at which line of its code it stands, ``verdicts`` judges.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from durable.checking.rehearsal import rehearse
from durable.checking.verdicts import Finding, Verdict, judge, undecodable, unknown
from durable.codec import Codec, reader_for
from durable.errors import CorruptJournal
from durable.insight.views import Wait
from durable.invocation import AnyDefinition
from durable.journal import ENDS, Record, check_journal
from durable.storage import JournalStorage, ProcessRow, Status

__all__ = ["Finding", "Verdict", "check", "waits_of"]

_PAGE = 200


async def check(
    storage: JournalStorage,
    definitions: Mapping[str, AnyDefinition],
    codec: Codec,
    *,
    inserted: Collection[str] = (),
) -> AsyncIterator[Finding]:
    """
    Replay every unfinished process of an open store with *definitions*, newest first.

    Args:
        definitions: By name; those of every queue.
        inserted: Checkpoints that were put before recorded ones on purpose. Code that runs one of these first, and
            holds the records after it back until then, looks like code that lost them; this says which it is.
    """
    before: int | None = None
    while page := await storage.rows(status=[Status.RUNNING, Status.STALLED], limit=_PAGE, before=before):
        for row in page:
            records = await storage.journal(row.key)
            if records and records[-1].kind not in ENDS:  # else it has ended since the page was read
                yield await _check_one(row, records, definitions, codec, inserted)
        before = page[-1].key


async def waits_of(
    row: ProcessRow, records: Sequence[Record], definitions: Mapping[str, AnyDefinition], codec: Codec
) -> list[Wait] | None:
    """What a process waits for, exactly; None if *definitions* do not have it, or it cannot be replayed with them."""
    definition = definitions.get(row.definition)
    if definition is None:
        return None
    rehearsal = await rehearse(row.id, records, definition, codec)
    return None if rehearsal.stalled_at is not None else rehearsal.waits


async def _check_one(
    row: ProcessRow,
    records: Sequence[Record],
    definitions: Mapping[str, AnyDefinition],
    codec: Codec,
    inserted: Collection[str],
) -> Finding:
    definition = definitions.get(row.definition)
    if definition is None:
        return unknown(row, definitions)
    try:
        check_journal(records, row.id)
    except CorruptJournal as error:
        return undecodable(row, records[-1], error)
    return judge(row, await rehearse(row.id, records, definition, codec), inserted, reader_for(codec))
