"""
What every provider checks of a batch before it applies it, whatever it keeps its data in.

Here are the rules that need no more than the batch and a few facts about the processes it names. What a rule guards:
only the owning session appends, a journal has no gap, and a client only creates and sends mail. Breaking one is a bug
of a host, so it is an error for the whole batch, never an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import overload

from durable.errors import CorruptJournal, NotOwned, ProcessExists, StorageError
from durable.journal import Record
from durable.storage import Batch


def check_shape(batch: Batch) -> None:
    """
    Check what the batch alone can tell.

    Raises:
        StorageError: A client's batch (session None) does more than create and send, or two parts of a batch let go
            of the same process or restart it, or a notice has no end, or a time is out of range.
        CorruptJournal: A creation or restart does not begin its journal with record 1 and go on without gaps.
    """
    if batch.session is None:
        owned = any(creation.owned for creation in batch.creations)
        if owned or batch.children or batch.records or batch.taken or batch.progress or batch.restarts:
            raise StorageError("A batch without a session may only create pending processes and send mails")
        if batch.parks or batch.stalls or batch.ends or batch.notices:
            raise StorageError("A batch without a session may only create pending processes and send mails")
    for creation in (*batch.creations, *batch.children):
        if creation.record.seq != 1:
            raise CorruptJournal(f"Process {creation.id!r} cannot begin with record {creation.record.seq}")
    for time in _times(batch):
        if time is not None and not -(2**63) <= time < 2**63:
            raise StorageError("A time in a batch has more than 64 bits; nothing was written", time=time)
    if batch.notices and not {notice.key for notice in batch.notices} <= {end.key for end in batch.ends}:
        raise StorageError("A batch has a notice of an end that is not in it")
    if len(batch.parks) + len(batch.stalls) + len(batch.ends) + len(batch.restarts) > 1:
        twice = [key for key, times in Counter(released_keys(batch)).items() if times > 1]
        if twice:
            raise StorageError("A batch lets go of a process twice, or of one that it restarts", keys=twice)
    for restart in batch.restarts:
        if [record.seq for record in restart.records] != list(
            range(1, len(restart.records) + 1)
        ) or not restart.records:
            raise CorruptJournal(f"The next life of process {restart.key} has a gap", key=restart.key)


def _times(batch: Batch) -> Iterator[int | None]:
    """Every time in *batch*: microseconds that stores keep in 64 bits."""
    for creation in (*batch.creations, *batch.children):
        yield creation.wake_at
        yield creation.record.time
        yield creation.created_at
    for _, record in batch.records:
        yield record.time
    for mail in (*batch.mails, *(notice.mail for notice in batch.notices)):
        yield mail.time
    for restart in batch.restarts:
        for record in restart.records:
            yield record.time
    for park in batch.parks:
        yield park.wake_at
    for end in batch.ends:
        yield end.record.time


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: None) -> None: ...
@overload
def storable(text: str | None) -> str | None: ...
def storable(text: str | None) -> str | None:
    """*text* as every store can keep it: reasons are the words of errors, which may hold anything."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def stall_reason(error: CorruptJournal) -> str:
    """Why a process stays where it is, of which a provider cannot read what is stored, and what to do about it."""
    return str(error.args[0]) if error.fix is None else f"{error.args[0]}; {error.fix}"


def released_keys(batch: Batch) -> list[int]:
    """Keys of the processes that *batch* lets go of or restarts, in the order of its fields."""
    changing = (batch.restarts, batch.parks, batch.stalls, batch.ends)
    return [change.key for changes in changing for change in changes]


def check_children(taken: Iterable[str]) -> None:
    """
    Refuse the batch if the id of a child is *taken*.

    Raises:
        ProcessExists: There is one; nothing may be written.
    """
    if ids := list(taken):
        raise ProcessExists("A process that is to be started by another exists already", taken=ids)


def keys_to_own(batch: Batch) -> set[int]:
    """Keys of every process that the session of *batch* must own, created by this batch or before."""
    keys = {key for key, _ in batch.records}
    keys.update(batch.progress)
    keys.update(released_keys(batch))
    return keys


def check_journals(batch: Batch, lengths: dict[int, int]) -> None:
    """
    Check that the batch touches only what its session owns, and that every record follows its predecessor.

    Args:
        batch: What is about to be written.
        lengths: For each process the session owns, among those the batch names, its number of records; changed.

    Raises:
        NotOwned: The session does not own one of the processes.
        CorruptJournal: A record is there already, or leaves a gap.
    """
    for key, record in batch.records:
        if lengths.get(key) != record.seq - 1:
            _refuse(batch, key, record, lengths)
        lengths[key] = record.seq
    for end in batch.ends:
        if lengths.get(end.key) != end.record.seq - 1:
            _refuse(batch, end.key, end.record, lengths)
    for key in (*batch.progress, *released_keys(batch)):
        if key not in lengths:
            raise _not_owned(batch, key)


def _refuse(batch: Batch, key: int, record: Record, lengths: dict[int, int]) -> None:
    """Say why *record* cannot be the next one of its journal."""
    if key not in lengths:
        raise _not_owned(batch, key)
    raise CorruptJournal(f"Record {record.seq} of process {key} does not follow record {lengths[key]}", key=key)


def _not_owned(batch: Batch, key: int) -> NotOwned:
    return NotOwned(f"Session {batch.session} does not own process {key}; nothing was written", key=key)
