"""
The journal: the ordered, immutable records of one process, and the only truth about it.

Records are plain named tuples: tens of thousands a second are made, written and read. Their kinds are a closed set,
numbered for ever; what each payload holds (after the codec) stands beside its kind. Times are whole microseconds
since 1970 UTC and never decrease within a journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from durable.errors import CorruptJournal, InvalidName

ID_LIMIT = 1000
NAME_LIMIT = 200


class Kind(IntEnum):
    """What a record says. ``name`` is the checkpoint's name unless said otherwise."""

    STARTED = 1  # name: the definition; payload: (kernel version, Python minor, args, kwargs, timeout in µs or None),
    # and for a child or a life after the first also its lineage: (life, (parent's id, checkpoint there), definition)
    VALUE = 2  # a `get` took this value; payload: the value
    DONE = 3  # an action returned; payload: the value
    FAILED = 4  # an action failed for good; payload: the error
    ATTEMPT = 5  # an attempt failed and another follows; payload: (attempt, due time, error)
    INTENT = 6  # an `at_most_once` action is about to start; payload: empty
    TIMER = 7  # a named timer was set; payload: (checkpoint kind, due time)
    FIRED = 8  # that timer fired; payload: empty
    ALARM = 9  # an unnamed timer fired; name: task path, length and ordinal; payload: empty
    EVENT = 10  # an event arrived; name: the event; payload: (value, de-duplication key or None)
    TAKEN = 11  # a waiter took an event; payload: the sequence number of its EVENT record
    CANCEL = 12  # cancellation was asked for; name: "request" or "deadline"; payload: the reason
    COMPLETED = 13  # the function returned; name: empty; payload: (value, notes)
    ERRED = 14  # the function raised; payload: (error, notes)
    CANCELLED = 15  # the function let its cancellation through; payload: (reason, by deadline?, notes)
    TERMINATED = 16  # ended from outside, no code ran; payload: the reason
    CHILD = 17  # a child was started; payload: (its id, whether it is detached)
    RETURNED = (
        18  # a child ended; name: the checkpoint that started it; payload: (its id, kind of its end, what it says)
    )


OF_CHILDREN = frozenset({Kind.CHILD, Kind.RETURNED})
ENDS = frozenset({Kind.COMPLETED, Kind.ERRED, Kind.CANCELLED, Kind.TERMINATED})


class Record(NamedTuple):
    """One entry of a journal. ``seq`` counts from 1 without gaps; ``time`` is in microseconds since 1970 UTC."""

    seq: int
    kind: Kind
    name: str
    payload: bytes
    time: int


def check_name(name: object, what: str, limit: int = NAME_LIMIT) -> str:
    """
    Return *name* if every store can keep it; *what* names it in the error ("checkpoint name", "process id").

    Raises:
        InvalidName: It is not a string, is empty, longer than *limit* characters, or holds NUL or a lone surrogate.
    """
    if not isinstance(name, str):
        raise InvalidName(f"The {what} must be a string, not {type(name).__name__}: {name!r:.80}")
    if not name:
        raise InvalidName(f"The {what} must not be empty")
    if len(name) > limit:
        raise InvalidName(f"The {what} has at most {limit} characters, this one has {len(name)}: {name[:60]!r}…")
    if "\0" in name:
        raise InvalidName(f"The {what} must not contain NUL: {name!r:.80}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InvalidName(f"The {what} must not contain a lone surrogate: {name!r:.80}") from None
    return name


def check_journal(records: Iterable[Record], process_id: str) -> None:
    """
    Check the rules every journal keeps: starts with STARTED, counts from 1 without gaps, nothing after its end.

    Raises:
        CorruptJournal: One of the rules is broken.
    """
    previous: Record | None = None
    for record in records:
        expected = 1 if previous is None else previous.seq + 1
        if record.seq != expected:
            raise CorruptJournal(f"Journal of {process_id!r} has record {record.seq} where {expected} belongs")
        if (record.kind is Kind.STARTED) != (previous is None):
            raise CorruptJournal(f"Journal of {process_id!r} has {record.kind.name} as record {record.seq}")
        if previous is not None and previous.kind in ENDS:
            raise CorruptJournal(f"Journal of {process_id!r} goes on after its end", record=record.seq)
        if previous is not None and record.time < previous.time:
            raise CorruptJournal(f"Journal of {process_id!r} goes back in time at record {record.seq}")
        previous = record
