"""
A batch as the arguments of the function in the database, and what the function answers as a result.

Arrays of one part are either all there or all None. New processes go in the order of their ids, whatever locks existing
ones in the order of their keys: batches of different hosts then never wait for each other in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from durable.errors import CorruptJournal
from durable.storage import Batch, BatchResult, Creation, Delivery, End, Park, ProcessRow, Stall, Status
from durable_storage.checks import check_shape, storable
from durable_storage.schema import STATUS_NUMBERS, process_row

_PARTS: Final = {
    "creations": 12,
    "owned": 2,
    "records": 6,
    "taken": 1,
    "mails": 6,
    "progress": 2,
    "lives": 3,
    "records of lives": 6,
    "releases": 10,
    "notices": 7,
}
_NONE: Final = {width: (None,) * width for width in _PARTS.values()}
_DELIVERIES: Final = {"d": Delivery.DELIVERED, "n": Delivery.NOT_FOUND, "e": Delivery.ENDED}
_STALLED: Final = STATUS_NUMBERS[Status.STALLED]
_LARGEST: Final = 10**9  # bytes of payloads; PostgreSQL hangs up on who says more than 1 GiB at once
_Column = Sequence[Any] | None


class Calls:
    """
    The statements that apply a batch in *schema*: of one record, of records only, and of anything.

    Args:
        pooled: Whether connections have none of our settings, on which the first one relies.
    """

    def __init__(self, schema: str, *, pooled: bool) -> None:
        self._pooled = pooled

        def call(function: str, width: int) -> str:
            return f'"{schema}".{function}({", ".join(f"${place}" for place in range(1, 3 + width + 1))})'

        # Where there is nothing to answer the function is called as a value: a table of one row would cost more.
        value = "SELECT {} AS verdict, NULL AS answer, NULL AS hear"
        self._of_one = value.format(call("append_record", _PARTS["records"]))
        self._of_records = value.format(call("append_records", _PARTS["owned"] + _PARTS["records"]))
        self._of_anything = f"SELECT verdict, answer, hear FROM {call('commit_batch', sum(_PARTS.values()))}"

    def prepare(self, batch: Batch) -> tuple[str, Sequence[Any]]:
        """
        The statement for *batch*, and its arguments after the session and the numbers of batches.

        Raises:
            StorageError: It is not a batch that anybody may write (`check_shape`).
            CorruptJournal: The records of one process do not follow each other, or it is too large to be sent.
        """
        if not _has_only_records(batch):
            _check_size(_payloads(batch))
            return self._of_anything, _arguments(batch)
        _check_size(record.payload for _, record in batch.records)
        if len(batch.records) == 1 and not self._pooled:
            [(key, record)] = batch.records
            return self._of_one, (key, *record)
        return self._of_records, (*_columns(2, _owned(batch, ())), *_records(batch))


def _has_only_records(batch: Batch) -> bool:
    return bool(batch.records) and not (
        batch.session is None
        or batch.creations
        or batch.children
        or batch.taken
        or batch.mails
        or batch.progress
        or batch.restarts
        or batch.parks
        or batch.stalls
        or batch.ends
        or batch.notices
    )


def _payloads(batch: Batch) -> Iterator[bytes]:
    for creation in (*batch.creations, *batch.children):
        yield creation.record.payload
    for _, record in batch.records:
        yield record.payload
    for restart in batch.restarts:
        for record in restart.records:
            yield record.payload
    for end in batch.ends:
        yield end.record.payload
    for mail in (*batch.mails, *(notice.mail for notice in batch.notices)):
        yield mail.payload
    yield from batch.progress.values()


def _check_size(payloads: Iterable[bytes]) -> None:
    size = sum(map(len, payloads))
    if size > _LARGEST:
        raise CorruptJournal(
            f"PostgreSQL takes no more than 1 GB at once, not {size} bytes",
            fix="keep large data in a file or object store and record its name",
        )


def _arguments(batch: Batch) -> Sequence[_Column]:
    check_shape(batch)
    new = [*((creation, False) for creation in batch.creations), *((child, True) for child in batch.children)]
    new.sort(key=lambda creation: creation[0].id)
    releases: list[Park | Stall | End] = [*batch.parks, *batch.stalls, *batch.ends]
    releases.sort(key=lambda release: release.key)
    return [
        *_columns(12, [_new(*creation) for creation in new]),
        *_columns(2, _owned(batch, releases)),
        *_records(batch),
        batch.taken or None,
        *_columns(6, batch.mails),
        *_columns(2, sorted(batch.progress.items())),
        *_columns(3, sorted(restart[:3] for restart in batch.restarts)),
        *_columns(6, [(restart.key, *record) for restart in batch.restarts for record in restart.records]),
        *_columns(10, [_release(release) for release in releases]),
        *_columns(7, [(key, *mail) for key, mail in batch.notices]),
    ]


def _records(batch: Batch) -> Sequence[_Column]:
    if not batch.records:
        return _NONE[6]
    keys, records = zip(*batch.records, strict=True)
    return keys, *zip(*records, strict=True)


def _columns(width: int, rows: Sequence[Iterable[Any]]) -> Sequence[_Column]:
    return tuple(zip(*rows, strict=True)) if rows else _NONE[width]


def _new(creation: Creation, is_child: bool) -> tuple[Any, ...]:
    *row, record, created_at = creation
    first = (record.kind, record.name, record.payload, record.time)
    return *row, is_child, *first, record.time if created_at is None else created_at


def _owned(batch: Batch, releases: Sequence[Park | Stall | End]) -> Sequence[tuple[int, int | None]]:
    """Each process that is written to, with the length its journal must have before; None where none is added."""
    lengths: dict[int, int | None] = {}
    following: dict[int, int] = {}
    for key, record in (*batch.records, *((end.key, end.record) for end in batch.ends)):
        seq = record.seq
        if key not in following:
            lengths[key] = seq - 1
        elif following[key] != seq:
            raise CorruptJournal(f"Record {seq} of process {key} does not follow the one before it", key=key)
        following[key] = seq + 1
    for key in batch.progress:
        lengths.setdefault(key, None)
    for change in (*batch.restarts, *releases):
        lengths.setdefault(change.key, None)
    return sorted(lengths.items())


def _release(release: Park | Stall | End) -> tuple[Any, ...]:
    """Key, mail, status, wake_at, reason, time of end; and the last record but its time, which is that of the end."""
    nothing = (None, None, None, None)
    match release:
        case Park(key, wake_at, mail):
            return (key, mail, 0, wake_at, None, None, *nothing)
        case Stall(key, reason, mail):
            return (key, mail, _STALLED, None, storable(reason), None, *nothing)
        case End(key, status, reason, record, mail):
            last = (record.seq, record.kind, record.name, record.payload)
            return (key, mail, STATUS_NUMBERS[Status(status)], None, storable(reason), record.time, *last)


def read_answer(text: str | None, batch: Batch) -> BatchResult:
    """What the function has answered to *batch*, at once or later from the row of the session."""
    if text is None:
        return BatchResult()
    facts = json.loads(text)
    rows = {row.id: row for row in map(_row, facts["taken"] or ())}
    return BatchResult(
        {creation.id: rows[creation.id] for creation in batch.creations if creation.id in rows},
        [_DELIVERIES[letter] for letter in facts["deliveries"] or ""],
        frozenset(facts["held"] or ()),
    )


def _row(values: list[Any]) -> ProcessRow:
    *others, progress = values
    return process_row((*others, None if progress is None else bytes.fromhex(progress)))
