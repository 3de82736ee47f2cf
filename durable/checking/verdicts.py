"""What a rehearsal means for the process: whether it would go on, and what to do if it would not."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from durable._kernel.commands import End, Stall
from durable.checking.rehearsal import Rehearsal
from durable.codec import Reader, items_of
from durable.errors import CorruptJournal, DecodeError, Drift, DurableError, NewerFormat
from durable.insight.views import WaitKind
from durable.insight.words import failure_in_words
from durable.journal import Kind, Record
from durable.storage import ProcessRow

_MEND = "mend it before the deploy: a process that fails has ended, and no later deploy brings it back"
_REMOVED = "leave it so if they were removed on purpose: the process goes on, and its last record notes them"
_STRICT = "ask for them again before the function ends"


class Verdict(StrEnum):
    """What would become of a process with this code."""

    GOES_ON = "goes on"
    DRIFTS = "drifts"  # it goes on, but the code does not ask for what is recorded: it was removed, or will run again
    STALLS = "stalls"  # it cannot go on, and waits for other code: nothing is lost
    FAILS = "fails"  # it ends: the function raises where the code that wrote the journal was waiting
    UNKNOWN_DEFINITION = "unknown definition"
    UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What `check` says of one process.

    Attributes:
        record: Sequence number of the record at which it drifts, stalls or cannot be read.
        checkpoint: Name of that record's checkpoint.
        detail: What is wrong, or what comes next, in one sentence.
        fix: What to do about it.
        place: The line of code, as file:line, where it shows, if known.
    """

    id: str
    definition: str
    verdict: Verdict
    record: int | None
    checkpoint: str | None
    detail: str
    fix: str | None = None
    place: str | None = None


def unknown(row: ProcessRow, known: Iterable[str]) -> Finding:
    """There is no function for it."""
    detail = f"the code has no {row.definition!r}; it has: {', '.join(sorted(known)) or 'none'}"
    fix = f"add it to the definitions; if it was renamed, keep its name: @process(name={row.definition!r})"
    return Finding(row.id, row.definition, Verdict.UNKNOWN_DEFINITION, None, None, detail, fix)


def undecodable(row: ProcessRow, record: Record, error: DurableError) -> Finding:
    """Its journal cannot be read at *record*."""
    return _finding(row, Verdict.UNDECODABLE, record, str(error.args[0]), error.fix)


def judge(row: ProcessRow, rehearsal: Rehearsal, inserted: Collection[str], read: Reader) -> Finding:
    """What the rehearsal of this process says; *inserted* as for `check`."""
    first = rehearsal.unasked[0] if rehearsal.unasked else None
    match rehearsal.commands:
        case [Stall(error)]:
            return _stall(row, rehearsal, error)
        case [End(Kind.ERRED, payload, notes)]:
            detail = _with_notes(f"its function raises {_failure(payload, read)}", notes, first)
            return _finding(row, Verdict.FAILS, first, detail, _MEND, rehearsal.place)
        case [End(kind, _, notes)]:
            detail = _with_notes(f"it ends as {kind.name.lower()}", notes, first)
            if first is not None:
                return _finding(row, Verdict.DRIFTS, first, detail, _REMOVED)
            return _finding(row, Verdict.GOES_ON, None, detail)
    asked = sorted({wait.name for wait in rehearsal.waits if wait.name and wait.kind is not WaitKind.TIMER})
    coming = f"next: {', '.join(map(repr, asked))}" if asked else "it waits" if rehearsal.waits else "it goes on"
    if first is not None and not set(asked) & set(inserted):
        return _drift(row, rehearsal, coming)
    return _finding(row, Verdict.GOES_ON, None, coming)


def _stall(row: ProcessRow, rehearsal: Rehearsal, error: DurableError) -> Finding:
    at = rehearsal.unasked[0] if isinstance(error, Drift) and rehearsal.unasked else rehearsal.stalled_at
    unreadable = isinstance(error, DecodeError | NewerFormat | CorruptJournal)
    verdict = Verdict.UNDECODABLE if unreadable else Verdict.STALLS
    return _finding(row, verdict, at, str(error.args[0]), error.fix, None if unreadable else rehearsal.place)


def _drift(row: ProcessRow, rehearsal: Rehearsal, coming: str) -> Finding:
    names = ", ".join(f"{record.kind.name} {record.name!r}" for record in rehearsal.unasked)
    detail = f"recorded, but not asked for: {names}; {coming}"
    verdict = Verdict.DRIFTS
    if rehearsal.strict:
        verdict, detail = Verdict.STALLS, f"{detail}; strict, it stalls if it ends without asking for them"
    return _finding(row, verdict, rehearsal.unasked[0], detail, _what_to_do(rehearsal), rehearsal.place)


def _what_to_do(rehearsal: Rehearsal) -> str:
    """A new checkpoint before recorded ones, a new name, or one that is gone: only the author of the code knows."""
    ways = []
    for name, kinds in rehearsal.unrecorded.items():
        ways.append(f"--inserted {shlex.quote(name)} if {name!r} was put before them on purpose")
        renamed = next((record.name for record in rehearsal.unasked if record.kind in kinds), None)
        if renamed is not None:
            ways.append(f"renames={{{renamed!r}: {name!r}}} if {renamed!r} is called so now, else it runs again")
    return "; ".join([*ways, _STRICT if rehearsal.strict else _REMOVED])


def _with_notes(sentence: str, notes: Iterable[str], first: Record | None) -> str:
    return sentence if first is None else f"{sentence}, and: {'; '.join(notes)}"


def _failure(payload: bytes, read: Reader) -> str:
    failure, _notes = items_of(read(payload), 2)
    return failure_in_words(failure)


def _finding(
    row: ProcessRow,
    verdict: Verdict,
    record: Record | None,
    detail: str,
    fix: str | None = None,
    place: str | None = None,
) -> Finding:
    seq, name = (None, None) if record is None else (record.seq, record.name)
    return Finding(row.id, row.definition, verdict, seq, name, detail, fix, place)
