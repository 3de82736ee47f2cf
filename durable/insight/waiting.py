"""
Where a process stands and why, in one plain sentence.

`waiting_for` is given what the process waits for if it was replayed (`durable.checking`). Otherwise `recorded_waits`
reads from row and journal what they tell: of a parked process an open timer or attempt whose time is the one the row
wants to wake at, of one that is held all that is open in its journal; and children that have not returned.
Waiting for an event without a timeout leaves no record; then the sentence says what is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from durable.insight.checkpoints import Story, last_checkpoint
from durable.insight.views import (
    CheckpointState,
    CheckpointView,
    Place,
    ProcessSummary,
    Wait,
    WaitingFor,
    WaitKind,
)
from durable.storage import Status
from durable.times import moment

_KINDS = {
    "do": WaitKind.ACTION,
    "event": WaitKind.EVENT,
    "delay": WaitKind.DELAY,
    "timeout": WaitKind.TIMEOUT,
    "child": WaitKind.CHILD,
}


def waiting_for(
    summary: ProcessSummary, story: Story, now: datetime, replayed: Sequence[Wait] | None = None
) -> WaitingFor:
    """Where the process of *summary* stands at *now*; *replayed* is what it waits for, if that is known exactly."""
    if summary.place in (Place.ENDED, Place.STALLED):
        return WaitingFor(_over(summary, story), exact=True)
    waits = tuple(recorded_waits(summary, story, now) if replayed is None else _with_ids(replayed, story))
    held = summary.place is Place.HELD
    sentence = ", and ".join(_in_words(wait, held, now) for wait in waits if wait.kind is not WaitKind.DEADLINE)
    if not sentence:
        sentence = _what_is_known(summary, story, waits)
    elif replayed is None and (held or any(wait.kind is WaitKind.CHILD for wait in waits)):
        sentence = f"{sentence}, as far as its journal tells"
    if summary.place is Place.CLAIMABLE:
        sentence = f"waits to be claimed by a host of queue {summary.queue!r}; then it {sentence}"
    elif held:  # whether that session still lives, the row does not tell
        sentence = f"{sentence} (held by session {summary.session}; if its host has stopped, another one goes on)"
    return WaitingFor(sentence, waits, exact=replayed is not None)


def recorded_waits(summary: ProcessSummary, story: Story, now: datetime) -> list[Wait]:
    """What row and journal tell at *now* of what the process waits for."""
    waits = [_wait(view) for view in story.checkpoints if view.state is CheckpointState.OPEN]
    children = [wait for wait in waits if wait.kind is WaitKind.CHILD]
    others = [wait for wait in waits if wait.kind is not WaitKind.CHILD]
    match summary.place:
        case Place.PARKED:
            # A timer whose waiter has gone stays open in the journal; the row knows when the process really wakes.
            timed = [wait for wait in others if wait.until is not None and wait.until == summary.wake_at]
            if not timed and story.deadline is not None and moment(story.deadline) == summary.wake_at:
                timed = [Wait(WaitKind.DEADLINE, until=summary.wake_at)]
            return timed + children
        case Place.HELD:
            # For the same reason one that is overdue counts only where nothing else can be meant.
            ahead = [wait for wait in others if wait.kind is WaitKind.ACTION or wait.until is None or wait.until > now]
            return ahead + children or others
        case _:
            return [wait for wait in others if wait.kind is WaitKind.ACTION]


def _wait(view: CheckpointView) -> Wait:
    kind = _KINDS.get(view.kind, WaitKind.TIMER)
    attempt = view.attempts + 1 if kind is WaitKind.ACTION else None
    return Wait(kind, view.name, until=view.due, attempt=attempt, child=view.child)


def _with_ids(waits: Sequence[Wait], story: Story) -> list[Wait]:
    """*waits* with the ids of children, which the journal knows."""
    ids = {view.name: view.child for view in story.checkpoints if view.child is not None}
    return [replace(wait, child=ids.get(wait.name)) if wait.kind is WaitKind.CHILD else wait for wait in waits]


def _over(summary: ProcessSummary, story: Story) -> str:
    reason = first_line(summary.reason) if summary.reason else ""
    match summary.status:
        case Status.STALLED:
            return f"stalled: {reason}"
        case Status.COMPLETED:
            return f"completed at {at(summary.ended_at)}"
        case Status.FAILED:
            return f"failed at {at(summary.ended_at)}: {first_line(story.error or 'for an unreadable reason')}"
        case _:
            return f"{summary.status.value} at {at(summary.ended_at)}" + (f": {reason}" if reason else "")


def _what_is_known(summary: ProcessSummary, story: Story, waits: Sequence[Wait]) -> str:
    last = last_checkpoint(story.checkpoints)
    after = "from its start" if last is None else f"after checkpoint {last[0]!r} ({at(last[1])})"
    if summary.place is Place.HELD:
        return f"runs an action, or waits for an event or a branch, {after}"
    if summary.place is Place.CLAIMABLE:
        return f"goes on {after}"
    if waits:
        return f"waits for an event or a branch {after}, and its own timeout cancels it at {at(waits[0].until)}"
    if summary.wake_at is not None:
        return f"waits {after} until {at(summary.wake_at)}, for a timer of asyncio"
    return f"waits for an event or a branch {after}, without a timer"


def _in_words(wait: Wait, held: bool, now: datetime) -> str:
    until = "" if wait.until is None else f" until {at(wait.until)}"
    match wait.kind:
        case WaitKind.ACTION:
            if wait.until is not None and wait.until > now:
                return f"waits to try action {wait.name!r} again, attempt {wait.attempt}, next try at {at(wait.until)}"
            return f"{'runs' if held else 'wants to run'} action {wait.name!r}, attempt {wait.attempt}"
        case WaitKind.VALUE:
            return f"is about to take value {wait.name!r}"
        case WaitKind.EVENT:
            if wait.event is None or wait.event == wait.name:
                return f"waits for event {wait.name!r}{until}"
            return f"waits for event {wait.event!r} at checkpoint {wait.name!r}{until}"
        case WaitKind.DELAY:
            return f"waits in delay {wait.name!r}{until}"
        case WaitKind.TIMEOUT:
            return f"is limited by timeout {wait.name!r}{until}"
        case WaitKind.TIMER:
            return f"waits for a timer of asyncio{f' in task {wait.name!r}' if wait.name else ''}{until}"
        case WaitKind.CHILD:
            return f"waits for child {wait.name!r}{f' (process {wait.child!r})' if wait.child else ''}"
        case WaitKind.OTHER:
            return f"waits at checkpoint {wait.name!r}{until}"
        case WaitKind.DEADLINE:
            return f"is cancelled by its own timeout at {at(wait.until)}"


def at(time: datetime | None) -> str:
    """A time for people, in UTC: seconds only where there are any."""
    if time is None:
        return "an unknown time"
    return f"{time.astimezone(UTC):{'%Y-%m-%d %H:%M:%S' if time.second else '%Y-%m-%d %H:%M'}} UTC"


def first_line(text: str) -> str:
    """The first line of an error text."""
    return text.partition("\n")[0]
