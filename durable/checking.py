"""
Unfinished processes against the code as it is now: `check` replays each, without any effect, and says what it would do.

Nothing is written, no action is run, no value is taken: commands are looked at and dropped. What does run is the code
of process functions between checkpoints, as on every restart. Processes that were replayed are let go, never unwound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from durable._host.freeing import letting_go
from durable._kernel.commands import Alarm, Command, Deadline, End, RecordIntent, RunAction, Stall, Wake
from durable._kernel.execution import Execution
from durable.codec import Codec, Reader, items_of, reader_for
from durable.definition import AnyDefinition
from durable.errors import CorruptJournal, DecodeError, Drift, NewerFormat
from durable.insight.views import Wait, WaitKind, moment
from durable.insight.words import failure_in_words
from durable.journal import ENDS, Kind, Record, check_journal
from durable.storage import JournalStorage, ProcessRow, Status

T = TypeVar("T")

_PAGE = 200
_WAIT_KINDS = {
    "get": WaitKind.VALUE,
    "do": WaitKind.ACTION,
    "event": WaitKind.EVENT,
    "delay": WaitKind.DELAY,
    "timeout": WaitKind.TIMEOUT,
    "start": WaitKind.CHILD,
    "child": WaitKind.CHILD,
}


class Verdict(StrEnum):
    """What would become of a process with this code."""

    GOES_ON = "goes on"
    DRIFTS = "drifts"  # the code does not ask for what is recorded, or asks for something else there
    FAILS = "fails"  # the function raises where the code that wrote the journal was waiting
    UNKNOWN_DEFINITION = "unknown definition"
    UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What `check` says of one process.

    Attributes:
        record: Sequence number of the record at which it drifts or cannot be read.
        checkpoint: Name of that record's checkpoint.
        detail: What is wrong, or what comes next, in one sentence.
    """

    id: str
    definition: str
    verdict: Verdict
    record: int | None
    checkpoint: str | None
    detail: str


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
    rehearsal = await _at_top_level(lambda: _rehearse(row.id, records, definition, codec))
    return None if rehearsal.stalled_at is not None else rehearsal.waits


# --- one process -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A replay that was looked at and let go."""

    commands: list[Command]
    waits: list[Wait]
    unasked: list[Record]  # recorded, and not asked for (yet), oldest first
    stalled_at: Record | None


async def _check_one(
    row: ProcessRow,
    records: Sequence[Record],
    definitions: Mapping[str, AnyDefinition],
    codec: Codec,
    inserted: Collection[str],
) -> Finding:
    definition = definitions.get(row.definition)
    if definition is None:
        known = ", ".join(sorted(definitions)) or "none"
        return _finding(row, Verdict.UNKNOWN_DEFINITION, None, f"the code has no {row.definition!r}; it has: {known}")
    try:
        check_journal(records, row.id)
    except CorruptJournal as error:
        return _finding(row, Verdict.UNDECODABLE, records[-1], str(error.args[0]))
    rehearsal = await _at_top_level(lambda: _rehearse(row.id, records, definition, codec))
    return _judge(row, rehearsal, inserted, reader_for(codec))


def _judge(row: ProcessRow, rehearsal: _Rehearsal, inserted: Collection[str], read: Reader) -> Finding:
    match rehearsal.commands:
        case [Stall(error)]:
            unreadable = isinstance(error, DecodeError | NewerFormat | CorruptJournal)
            verdict = Verdict.UNDECODABLE if unreadable else Verdict.DRIFTS
            at = rehearsal.unasked[0] if isinstance(error, Drift) and rehearsal.unasked else rehearsal.stalled_at
            return _finding(row, verdict, at, str(error.args[0]))
        case [End(kind, payload, notes)]:
            fails = kind is Kind.ERRED
            ends = f"its function raises {_failure(payload, read)}" if fails else f"it ends as {kind.name.lower()}"
            if rehearsal.unasked:
                return _finding(row, Verdict.DRIFTS, rehearsal.unasked[0], f"{ends}, and: {'; '.join(notes)}")
            return _finding(row, Verdict.FAILS if fails else Verdict.GOES_ON, None, ends)
    asked = sorted({wait.name for wait in rehearsal.waits if wait.name and wait.kind is not WaitKind.TIMER})
    coming = f"next: {', '.join(map(repr, asked))}" if asked else "it waits" if rehearsal.waits else "it goes on"
    if rehearsal.unasked and not set(asked) & set(inserted):
        names = ", ".join(f"{record.kind.name} {record.name!r}" for record in rehearsal.unasked)
        return _finding(row, Verdict.DRIFTS, rehearsal.unasked[0], f"recorded, but not asked for: {names}; {coming}")
    return _finding(row, Verdict.GOES_ON, None, coming)


def _failure(payload: bytes, read: Reader) -> str:
    failure, _notes = items_of(read(payload), 2)
    return failure_in_words(failure)


def _finding(row: ProcessRow, verdict: Verdict, record: Record | None, detail: str) -> Finding:
    seq, name = (None, None) if record is None else (record.seq, record.name)
    return Finding(row.id, row.definition, verdict, seq, name, detail)


# --- the replay --------------------------------------------------------------------------------------------------


async def _at_top_level(function: Callable[[], T]) -> T:
    """What *function* returns, called from a plain callback: process code is never stepped inside a task."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:
            answer.set_exception(error)

    loop.call_soon(call)
    return await answer


def _rehearse(id: str, records: Sequence[Record], definition: AnyDefinition, codec: Codec) -> _Rehearsal:
    execution = Execution(id, definition.program, codec)
    execution.replaying = True
    stalled_at: Record | None = None
    try:
        # One by one, and not by `replay`, to know at which record it stalls.
        for record in records:
            execution.feed(record)
            if execution.stalled is not None:
                stalled_at = record
                break
        commands = execution.outstanding()
        return _Rehearsal(commands, _waits(execution, commands), _unasked(execution, records), stalled_at)
    finally:
        letting_go.let_go(execution.tasks(), execution.generators(), execution.alarms())


def _unasked(execution: Execution, records: Sequence[Record]) -> list[Record]:
    held = [record for mine in (execution._checkpoints.held or {}).values() for record in mine]
    early = execution._early_alarms or ()
    held += [record for record in records if record.kind is Kind.ALARM and record.name in early]
    return sorted(held)


def _waits(execution: Execution, commands: Sequence[Command]) -> list[Wait]:
    by_name = {getattr(command, "name", None): command for command in commands if not isinstance(command, Alarm)}
    waits = []
    for what, name, event in execution.waits():
        kind = _WAIT_KINDS.get(what, WaitKind.OTHER)
        match by_name.get(name):
            case RunAction(attempt=attempt, due=due):
                waits.append(Wait(kind, name, until=None if due is None else moment(due), attempt=attempt))
            case RecordIntent():
                waits.append(Wait(kind, name, attempt=1))
            case Wake(due=due):
                waits.append(Wait(kind, name, event, until=moment(due)))
            case _:
                waits.append(Wait(kind, name, event))
    waits += [
        Wait(WaitKind.TIMER, alarm.name.rsplit("|", 2)[0], until=moment(alarm.due))
        for alarm in commands
        if isinstance(alarm, Alarm)
    ]
    waits += [Wait(WaitKind.DEADLINE, until=moment(end.due)) for end in commands if isinstance(end, Deadline)]
    return waits
