"""Bringing a state up to date with the commit log, from segment to segment."""

from __future__ import annotations

from durable_storage.filesystem.log import Log, Transaction
from durable_storage.filesystem.state import State
from durable_storage.filesystem.transaction import redo


class Outdated(Exception):
    """The log does not go on from where it was read; the state has to be built again."""


def head_of(state: State) -> dict[str, object]:
    """What a segment of the log begins with: all that stands in no journal file."""
    return {"stamp": state.stamp, "sessions": state.sessions.to_log()}


def enter(state: State, log: Log, segment: int) -> None:
    """
    Go on reading at the beginning of *segment*.

    Raises:
        Outdated: It was moved into the files while nobody looked here.
    """
    try:
        head = log.enter(segment)
    except FileNotFoundError:
        raise Outdated from None
    state.stamp = max(state.stamp, head["stamp"])
    state.sessions.change(head["sessions"])


def follow(state: State, log: Log, *, locked: bool) -> None:
    """
    Read on to the end of the log; *locked* says that nobody can be writing now.

    Raises:
        Outdated: What was read last is not there any more: its writer took it back, because the disk had failed. Or
            what follows is not: it was moved into the files. It is raised again until everything is read anew.
        CorruptJournal: The log is damaged.
    """
    if log.is_lost or log.was_changed():
        raise Outdated
    try:
        while log.has_more():
            segment = log.segment
            for transaction in log.read(locked=locked):
                _follow(state, log, transaction, segment)
            if segment == log.segment:
                return
    except BaseException:
        log.is_lost = True  # it was read further than the state tells
        raise


def _follow(state: State, log: Log, transaction: Transaction, segment: int) -> None:
    redo(state, transaction, segment)
    if "flushed" in transaction.head:
        state.flushed(transaction.head["flushed"])
    if "next" in transaction.head:
        enter(state, log, transaction.head["next"])
