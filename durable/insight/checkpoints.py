"""
A journal folded into what a person asks about: checkpoints, events, how it began and how it ended.

The kernel folds the same records into commands; here nothing is run, and nothing is refused: a journal that makes no
sense to the code any more is the one most looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from durable.codec import Reader, items_of
from durable.insight.views import CheckpointState, CheckpointView, EventView
from durable.insight.words import failure_in_words, in_words
from durable.journal import Kind, Record
from durable.times import moment


@dataclass(slots=True)
class _Checkpoint:
    """One that is being put together."""

    name: str
    kind: str
    record: int
    started_at: int
    state: CheckpointState = CheckpointState.OPEN
    ended_at: int | None = None
    due: int | None = None
    attempts: int = 0
    value: Any = None
    error: str | None = None
    child: str | None = None

    def end(self, state: CheckpointState, time: int) -> None:
        self.state, self.ended_at, self.due = state, time, None

    def view(self) -> CheckpointView:
        return CheckpointView(
            name=self.name,
            kind=self.kind,
            state=self.state,
            record=self.record,
            started_at=moment(self.started_at),
            ended_at=None if self.ended_at is None else moment(self.ended_at),
            duration=None if self.ended_at is None else timedelta(microseconds=self.ended_at - self.started_at),
            due=None if self.due is None else moment(self.due),
            attempts=self.attempts,
            value=self.value,
            error=self.error,
            child=self.child,
        )


@dataclass(slots=True)
class Story:
    """What one journal tells."""

    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    deadline: int | None = None
    cancel_requested: str | None = None
    result: Any = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    checkpoints: list[CheckpointView] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)


def tell(records: Sequence[Record], read: Reader) -> Story:
    """The story of a journal whose payloads *read* makes readable."""
    teller = _Teller(read)
    for record in records:
        teller.add(record)
    return teller.story()


class _Teller:
    def __init__(self, read: Reader) -> None:
        self._read = read
        self._story = Story()
        self._checkpoints: dict[str, _Checkpoint] = {}
        self._events: dict[int, tuple[Record, Any, str | None]] = {}
        self._taken: dict[int, str] = {}
        self._before = 0  # time of the record before

    def story(self) -> Story:
        story = self._story
        story.checkpoints = [checkpoint.view() for checkpoint in self._checkpoints.values()]
        story.events = [
            EventView(number, record.name, key, moment(record.time), value, self._taken.get(number))
            for number, (record, value, key) in self._events.items()
        ]
        return story

    def add(self, record: Record) -> None:
        value = self._read(record.payload)
        match record.kind:
            case Kind.STARTED:
                self._start(record, value)
            case Kind.EVENT:
                content, key = items_of(value, 2)
                self._events[record.seq] = (record, content, key)
            case Kind.CANCEL:
                self._story.cancel_requested = value if isinstance(value, str) else in_words(value)
            case Kind.COMPLETED | Kind.ERRED | Kind.CANCELLED | Kind.TERMINATED:
                self._end(record, value)
            case _:
                self._add_to_checkpoint(record, value)
        self._before = record.time

    def _start(self, record: Record, value: Any) -> None:
        _version, _python, arguments, keywords, timeout = items_of(value, 5)
        if isinstance(arguments, dict):
            self._story.arguments = tuple(arguments.get("$tuple", ()))
        if isinstance(keywords, dict):
            self._story.keywords = keywords
        if isinstance(timeout, int):
            self._story.deadline = record.time + timeout

    def _end(self, record: Record, value: Any) -> None:
        story = self._story
        if record.kind is Kind.TERMINATED:
            return
        *outcome, notes = items_of(value, 3 if record.kind is Kind.CANCELLED else 2)
        story.notes = tuple(map(str, notes or ()))
        if record.kind is Kind.COMPLETED:
            story.result = outcome[0]
        elif record.kind is Kind.ERRED:
            story.error = failure_in_words(outcome[0])

    def _add_to_checkpoint(self, record: Record, value: Any) -> None:
        checkpoint = self._checkpoint(record, value)
        match record.kind:
            case Kind.VALUE | Kind.DONE:
                checkpoint.value = value
                checkpoint.attempts += record.kind is Kind.DONE
                checkpoint.error = None
                checkpoint.end(CheckpointState.DONE, record.time)
            case Kind.FAILED:
                checkpoint.attempts += 1
                checkpoint.error = failure_in_words(value)
                checkpoint.end(CheckpointState.FAILED, record.time)
            case Kind.ATTEMPT:
                attempt, due, error = items_of(value, 3)
                checkpoint.attempts = attempt or checkpoint.attempts + 1
                checkpoint.due = due
                checkpoint.error = failure_in_words(error)
            case Kind.TIMER:
                _kind, checkpoint.due = items_of(value, 2)
                if checkpoint.kind == "delay" and checkpoint.due is not None and checkpoint.due <= record.time:
                    checkpoint.end(CheckpointState.DONE, record.time)
            case Kind.FIRED | Kind.ALARM:
                waited = checkpoint.kind in ("delay", "timer")
                checkpoint.end(CheckpointState.DONE if waited else CheckpointState.TIMED_OUT, record.time)
            case Kind.TAKEN:
                event = self._events.get(value) if isinstance(value, int) else None
                if event is not None:
                    checkpoint.value = event[1]
                    self._taken[value] = record.name
                checkpoint.end(CheckpointState.DONE, record.time)
            case _:
                self._add_to_child(checkpoint, record, value)

    def _add_to_child(self, checkpoint: _Checkpoint, record: Record, value: Any) -> None:
        if record.kind.name == "CHILD":
            checkpoint.child, detached = items_of(value, 2)
            if detached:  # nobody will be told of its end
                checkpoint.end(CheckpointState.DONE, record.time)
        elif record.kind.name == "RETURNED":
            checkpoint.child, kind, content = items_of(value, 3)
            completed = kind == Kind.COMPLETED
            checkpoint.value, checkpoint.error = (content, None) if completed else (None, failure_in_words(content))
            checkpoint.end(CheckpointState.DONE if completed else CheckpointState.FAILED, record.time)

    def _checkpoint(self, record: Record, value: Any) -> _Checkpoint:
        # Unnamed timers have names of their own making, which a checkpoint may have too.
        place = f"\0{record.name}" if record.kind is Kind.ALARM else record.name
        found = self._checkpoints.get(place)
        if found is None:
            says_when_asked = record.kind in (Kind.TIMER, Kind.INTENT)
            asked_at = record.time if says_when_asked else self._before
            found = _Checkpoint(record.name, _kind_of(record, value), record.seq, asked_at)
            self._checkpoints[place] = found
        return found


# What kind of checkpoint leaves which record; a FAILED may also be that of a `get` whose factory raised.
_KINDS = {"VALUE": "get", "TAKEN": "event", "ALARM": "timer", "CHILD": "child", "RETURNED": "child"}


def _kind_of(record: Record, value: Any) -> str:
    if record.kind is Kind.TIMER:
        kind, _due = items_of(value, 2)
        return kind if isinstance(kind, str) else "delay"
    return _KINDS.get(record.kind.name, "do")


def last_checkpoint(checkpoints: Sequence[CheckpointView]) -> tuple[str, datetime] | None:
    """Name and end of the checkpoint that ended last."""
    ended = [(view.ended_at, view.record, view.name) for view in checkpoints if view.ended_at is not None]
    if not ended:
        return None
    time, _record, name = max(ended)
    return name, time
