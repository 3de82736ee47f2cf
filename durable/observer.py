"""
What a host tells whoever wants to watch it: `Observer`, a method for each thing that happens.

The host calls these on its event loop, right where the thing happens, and waits for them: a method must be quick, must
not block, and cannot await. A host without an observer pays one comparison for each call it does not make. An observer
only hears; nothing it does, not even failing, changes what the host does (`guarded`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol

from durable.journal import Record
from durable.step import Step
from durable.storage import Batch

logger = logging.getLogger("durable.host")


class Observed(Protocol):
    """Which process: what a process in memory, its row and its creation have in common."""

    @property
    def key(self) -> int:
        """Unique in the store, also when the id is used again."""

    @property
    def id(self) -> str:
        """As its starter named it."""

    @property
    def definition(self) -> str:
        """The durable name of its process function."""


class Outcome(StrEnum):
    """How an attempt of an action ended."""

    DONE = "done"
    FAILED = "failed"
    LET_GO = "let go"  # nobody waited for it any more: cancelled, timed out, or its host was leaving
    NOT_BEGUN = "not begun"  # by the time there was a thread for it, the host might not start anything


class Observer:
    """
    Hears what happens in a host or client. Inherit from this and write the methods you want; the others do nothing.
    A class and no protocol, so that a method that is added here some day breaks nobody's observer.

    Times are microseconds since 1970 UTC, lengths are seconds. Every process that a host took into memory (`here` at
    its start, or resumed) leaves it once: ended, stalled, parked or released. What a crash comes before is not told
    later: somebody else resumes the process, and tells that.
    """

    # processes

    def process_started(self, process: Observed, record: Record, *, here: bool) -> None:
        """
        A new process is on storage; *record* is its first.

        Called in the context of who started it; in an empty one if that is a process, of which it is a child.

        Args:
            here: It is in the memory of this host and runs; otherwise it is claimed by whoever comes first.
        """

    def child_started(self, process: Observed, record: Record, child: Observed) -> None:
        """
        *process* has started *child*: *record* of its checkpoint and the first record of the child have one time.

        Called right after the `process_started` of the child, once, by the host of the parent and in an empty context.
        Not called again when the parent is replayed.
        """

    def process_resumed(self, process: Observed, records: Sequence[Record]) -> None:
        """A process was claimed, with its journal so far: parked, left over, or never run yet (one record)."""

    def process_restarted(self, process: Observed, record: Record) -> None:
        """
        Its next life has begun under the same id, still in memory here; *record* is the first of its new journal.

        *process* is the life that is over; the definition of the next one, which may be another, is the record's name.
        """

    def process_parked(self, process: Observed, wake_at: int | None) -> None:
        """It left memory to wait; *wake_at*: when it wants to run by itself."""

    def process_stalled(self, process: Observed, reason: str) -> None:
        """It cannot go on, and waits for a fix."""

    def process_ended(self, process: Observed, record: Record) -> None:
        """Its last *record* is on storage; the kind says how it ended."""

    def process_released(self, process: Observed) -> None:
        """It left memory in any other way: the host leaves, lost its session, or gave it back."""

    def timer_fired(self, process: Observed, lag: float) -> None:
        """A timer of it fired, *lag* seconds after it was due: it was late, or the process had to be claimed first."""

    # actions

    def action_started(self, process: Observed, step: Step) -> None:
        """
        An attempt of an action is about to be called, or to wait for a thread.

        Called in the context in which the action will run: what is set in a `ContextVar` here is seen by the action.
        """

    def action_ended(self, step: Step, outcome: Outcome, error: BaseException | None) -> None:
        """An attempt has really ended; *step* is the very object of its start. *error* is what it raised."""

    # the store

    def batch_committed(self, batch: Batch, seconds: float) -> None:
        """*batch* is on storage, *seconds* after it was sent there."""

    def batch_failed(self, batch: Batch, seconds: float, error: BaseException) -> None:
        """The store refused *batch*, or did not answer; it is tried again unless the session is lost."""

    def session_lost(self, session: int) -> None:
        """
        This host was declared dead or an answer was lost: it lets go of everything and begins another session.

        Not called while the host leaves, when there is nothing left to begin: what it held is released as always.
        """


def guarded(observer: Observer) -> Observer:
    """*observer*, but what fails in it is logged and not raised; with its traceback the first time of each method."""
    guard = Observer()
    for name in vars(Observer):
        if not name.startswith("_"):
            setattr(guard, name, _guarded(name, getattr(observer, name)))
    return guard


def _guarded(name: str, method: Callable[..., None]) -> Callable[..., None]:
    failed = False

    def call(*args: Any, **kwargs: Any) -> None:
        nonlocal failed
        try:
            method(*args, **kwargs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a CancelledError would end whatever of the host has called, half-way
            if failed:
                logger.warning("The observer failed again in %s: %r", name, error)
            else:
                logger.exception("The observer failed in %s; more of this is logged in one line", name)
            failed = True

    return call
