"""`show` and `history`: how one process stands, and what its journal holds. Nothing is written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from durable.checking import waits_of
from durable.cli import applications, options
from durable.cli.output import clock, length, progress, say, say_error, say_json, say_table, table
from durable.cli.stores import opened
from durable.insight import (
    CheckpointView,
    EventView,
    Insight,
    MailView,
    ProcessView,
    RecordView,
    Wait,
    in_words,
    record_in_words,
)
from durable.insight.waiting import at
from durable.journal import Record
from durable.storage import ProcessRow, Status

_EXCEPTION = re.compile(r"\w+\(")  # the `repr` of one


def show(
    url: options.Url,
    id: options.Id,
    app: options.App = None,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """
    Show where a process waits and why, and its checkpoints.

    With --app it is replayed, without effects, to say exactly what it waits for.
    """
    known = {} if app is None else applications.definitions(app)
    values = applications.codec(codec)

    async def replay(row: ProcessRow, records: Sequence[Record]) -> list[Wait] | None:
        return await waits_of(row, records, known, values)

    async def run() -> ProcessView:
        async with opened(url) as storage:
            return await Insight(storage, values).process(id, replay)

    view = asyncio.run(run())
    if as_json:
        say_json(view)
    else:
        _say_process(view)
    if app is not None and not view.waiting.exact:
        say_error(
            f"{app} cannot replay it, and `durable check {app}` says why; where it waits is read from its journal"
        )


def history(
    url: options.Url,
    id: options.Id,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """Print the journal of a process, record by record."""
    values = applications.codec(codec)

    async def run() -> tuple[RecordView, ...]:
        async with opened(url) as storage:
            return await Insight(storage, values).history(id)

    records = asyncio.run(run())
    if as_json:
        say_json({"id": id, "records": records})
        return
    why = _why_unreadable(records)
    rows = [(str(one.seq), clock(one.time), one.kind, one.name, "" if why else _payload(one)) for one in records]
    say_table(table(["record", "time (UTC)", "kind", "name", "value"], rows, cut=["value"]))
    if why:
        say_error(f"no value here can be read with --codec {codec}: name the codec that wrote them")
        if not _EXCEPTION.match(why):  # which says nothing to a person, and quotes the bytes
            say_error(f"  why: {why}")


def _why_unreadable(records: Sequence[RecordView]) -> str | None:
    """Why the first value cannot be read, if none can: then it is the codec, not the values."""
    values = [one.value for one in records if one.value is not None]
    reasons = [value["$unreadable"][0] for value in values if isinstance(value, dict) and "$unreadable" in value]
    return str(reasons[0]) if values and len(reasons) == len(values) else None


def _payload(record: RecordView) -> str:
    return "" if record.value is None else record_in_words(record.kind, record.value)


def _say_process(view: ProcessView) -> None:
    summary = view.summary
    say(f"{summary.id}: {_call(view)}")
    sentence = view.waiting.sentence
    say(sentence if sentence.startswith(summary.status.value) else f"{summary.status.value}: {sentence}")
    facts = {
        "started": f"{at(summary.created_at)}, queue {summary.queue!r}, records: {view.records}",
        "ended": at(summary.ended_at) if summary.ended_at else "",
        "progress": progress(summary.progress),
        "deadline": at(view.deadline) if view.deadline and not summary.ended_at else "",
        "cancel": view.cancel_requested or "",
        "result": in_words(view.result) if summary.status is Status.COMPLETED else "",
        "notes": "; ".join(view.notes),
    }
    for name, fact in facts.items():
        if fact:
            say(f"{name + ':':9} {fact}")
    if summary.status is Status.STALLED and summary.reason:
        for line in summary.reason.splitlines()[1:]:
            say(f"  {line}")
    if view.checkpoints:
        say("")
        columns = ["record", "checkpoint", "kind", "state", "asked (UTC)", "took", "attempts", "value"]
        say_table(table(columns, map(_checkpoint, view.checkpoints), cut=["value", "checkpoint"]))
    if view.events or view.inbox:
        say("")
        rows = [*map(_event, view.events), *map(_mail, view.inbox)]
        say_table(table(["mail", "event", "time (UTC)", "taken by", "value"], rows, cut=["value"]))


def _call(view: ProcessView) -> str:
    keywords = [f"{name}={in_words(value)}" for name, value in view.keywords.items()]
    return f"{view.summary.definition}({', '.join([*map(in_words, view.arguments), *keywords])})"


def _checkpoint(view: CheckpointView) -> tuple[str, ...]:
    if view.error is not None:
        value = view.error
    elif view.ended_at is None:
        value = f"due {at(view.due)}" if view.due else f"process {view.child}" if view.child else ""
    else:
        value = "" if view.kind in ("delay", "timeout", "timer") else _value(view.value)
    return (
        str(view.record),
        view.name,
        view.kind,
        view.state.value,
        clock(view.started_at),
        length(view.duration),
        str(view.attempts) if view.attempts > 1 else "",
        value,
    )


def _event(event: EventView) -> tuple[str, ...]:
    taken_by = event.taken_by or "not taken"
    return f"record {event.record}", event.name, clock(event.time), taken_by, _value(event.value)


def _mail(mail: MailView) -> tuple[str, ...]:
    name = mail.name or mail.kind.lower()
    return f"mail {mail.number}", name, clock(mail.time), "in the inbox", _value(mail.value)


def _value(form: object) -> str:
    return "" if form is None else in_words(form)
