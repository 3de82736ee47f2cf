"""A host for an observer, driven by hand: it tells what a real one would, and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from durable.journal import Kind, Record
from durable.observer import Observer, Outcome
from durable.step import Step

T = TypeVar("T")

START = 1_800_000_000_000_000  # microseconds


@dataclass(frozen=True)
class Process:
    """What a host gives an observer to say which process it is about."""

    key: int = 7
    id: str = "order-7"
    definition: str = "ship"


def record(seq: int, kind: Kind, seconds: float = 0) -> Record:
    return Record(seq, kind, "ship" if kind is Kind.STARTED else "", b"", START + int(seconds * 1_000_000))


STARTED = record(1, Kind.STARTED)


def run_action(
    observer: Observer,
    process: Process,
    checkpoint: str,
    *,
    attempt: int = 1,
    error: BaseException | None = None,
    outcome: Outcome | None = None,
    action: Callable[[], T] = lambda: None,  # type: ignore[assignment,return-value]
) -> T:
    """One attempt of an action, in a context of its own as in a host; what *action* gave."""
    step = Step(process.id, checkpoint, attempt, _ignore)
    context = copy_context()
    context.run(observer.action_started, process, step)
    result = context.run(action)
    if outcome is None:
        outcome = Outcome.DONE if error is None else Outcome.FAILED
    observer.action_ended(step, outcome, error)
    return result


def journal(length: int) -> Sequence[Record]:
    return [STARTED, *(record(seq, Kind.DONE) for seq in range(2, length + 1))]


def _ignore(*args: Any) -> None:
    """Nobody watches progress here."""
