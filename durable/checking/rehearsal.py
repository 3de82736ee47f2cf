"""One process replayed with the code as it is now, looked at, and let go: what came of it, as plain facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from durable._host.freeing import letting_go
from durable._kernel.checkpoints import ANSWERS
from durable._kernel.commands import Alarm, Command, Deadline, End, RecordIntent, RunAction, Stall, Wake
from durable._kernel.execution import Execution
from durable.checking.places import place_of_error, place_of_function, place_of_wait
from durable.codec import Codec
from durable.errors import DurableError
from durable.insight.views import Wait, WaitKind
from durable.invocation import AnyDefinition
from durable.journal import Kind, Record
from durable.times import moment

T = TypeVar("T")

_WAIT_KINDS = {
    "get": WaitKind.VALUE,
    "do": WaitKind.ACTION,
    "event": WaitKind.EVENT,
    "delay": WaitKind.DELAY,
    "timeout": WaitKind.TIMEOUT,
    "start": WaitKind.CHILD,
    "child": WaitKind.CHILD,
}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """
    A replay that was looked at and let go.

    Attributes:
        unasked: Recorded, and not asked for (yet), oldest first.
        unrecorded: Checkpoints it waits at that have no record: by name the kinds of records they could have.
        stalled_at: The record at which it cannot go on, if so.
        place: The line of its code at which it stalls, raises, or waits at the first of *unrecorded*, if known.
    """

    commands: list[Command]
    waits: list[Wait]
    unasked: list[Record]
    unrecorded: Mapping[str, frozenset[Kind]]
    stalled_at: Record | None
    place: str | None
    strict: bool


async def rehearse(id: str, records: Sequence[Record], definition: AnyDefinition, codec: Codec) -> Rehearsal:
    """Replay the journal *records* of process *id*."""
    return await _at_top_level(lambda: _rehearse(id, records, definition, codec))


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


def _rehearse(id: str, records: Sequence[Record], definition: AnyDefinition, codec: Codec) -> Rehearsal:
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
        unrecorded = _unrecorded(execution, records)
        culprit = _culprit(execution, next(iter(unrecorded), None))
        if stalled_at is not None and culprit is not None:
            stalled_at = next((record for record in records if record.name == culprit), stalled_at)
        return Rehearsal(
            commands=commands,
            waits=_waits(execution, commands),
            unasked=_unasked(execution, records),
            unrecorded=unrecorded,
            stalled_at=stalled_at,
            place=_place(execution, definition, commands, culprit),
            strict=definition.program.strict,
        )
    finally:
        letting_go.let_go(execution.tasks(), execution.generators(), execution.alarms())


def _unasked(execution: Execution, records: Sequence[Record]) -> list[Record]:
    held = [record for mine in (execution._checkpoints.held or {}).values() for record in mine]
    early = execution._early_alarms or ()
    held += [record for record in records if record.kind is Kind.ALARM and record.name in early]
    return sorted(held)


def _unrecorded(execution: Execution, records: Sequence[Record]) -> dict[str, frozenset[Kind]]:
    recorded = {record.name for record in records if record.kind is not Kind.ALARM}
    waiting = execution._checkpoints.waiting.values()
    return {ask.name: ANSWERS[ask.what] for ask in waiting if ask.name not in recorded and ask.what in ANSWERS}


def _culprit(execution: Execution, first_unrecorded: str | None) -> str | None:
    """The checkpoint that is asked for and makes the difference."""
    if execution.stalled is None:
        return first_unrecorded
    code = execution.stalled.facts.get("code")
    asks = execution._checkpoints.waiting.values()
    return next((ask.name for ask in asks if f"{ask.what} {ask.name!r}" == code), None)


def _place(
    execution: Execution, definition: AnyDefinition, commands: Sequence[Command], culprit: str | None
) -> str | None:
    match commands:
        case [Stall(DurableError())] if execution._main is None:  # its function could not even be called
            return place_of_function(definition.function)
        case [End(Kind.ERRED)]:
            error = None if execution._main.cancelled() else execution._main.exception()
            return None if error is None else place_of_error(error)
    ask = None if culprit is None else execution._checkpoints.waiting.get(culprit)
    return None if ask is None else place_of_wait(execution.tasks(), ask)


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
