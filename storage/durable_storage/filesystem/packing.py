"""
Entries as bytes, for the index and for memory: most processes wait or have ended, and nobody looks at them for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]

from durable.storage import Status
from durable_storage.filesystem.entry import Entry

_STATUSES = {str(status): status for status in Status}


def pack(entry: Entry) -> bytes:
    """All of an entry that has nothing pending and no damage."""
    values = (
        (entry.key, entry.id, entry.born, entry.definition, entry.queue, entry.owner, entry.wake_at),
        entry.length,
        str(entry.status),
        entry.mail,
        entry.created_at,
        entry.ended_at,
        entry.reason,
        entry.progress,
        entry.seq,
        [(number, *where) for number, where in entry.inbox.items()],
    )
    return to_bytes(values)


def to_bytes(values: Any) -> bytes:
    """MessagePack of *values*."""
    return bytes(msgpack.packb(values) or b"")


def unpack(packed: bytes) -> Entry:
    """The entry that was packed."""
    values: list[Any] = msgpack.unpackb(packed)
    made, length, status, mail, created_at, ended_at, reason, progress, seq, inbox = values
    entry = Entry(*made)
    entry.length = length
    entry.status = _STATUSES[status]
    entry.mail = mail
    entry.created_at = created_at
    entry.ended_at = ended_at
    entry.reason = reason
    entry.progress = progress
    entry.seq = seq
    if inbox:
        entry.inbox = {number: (offset, length) for number, offset, length in inbox}  # copied before it is changed
    return entry


class Entries:
    """Entries by key; those at rest are kept packed, and unpacked when they are asked for."""

    def __init__(self, packed: Iterable[tuple[int, bytes]] = ()) -> None:
        self._all: dict[int, Entry | bytes] = dict(packed)

    def __getitem__(self, key: int) -> Entry:
        found = self._all[key]
        if isinstance(found, bytes):
            found = self._all[key] = unpack(found)
        return found

    def get(self, key: int) -> Entry | None:
        """The entry with that key, or None."""
        return self[key] if key in self._all else None

    def peek(self, key: int) -> Entry:
        """The entry, to look at only: it stays packed."""
        found = self._all[key]
        return unpack(found) if isinstance(found, bytes) else found

    def peek_packed(self, key: int) -> bytes:
        """The entry packed, which it has to be allowed to be."""
        found = self._all[key]
        return found if isinstance(found, bytes) else pack(found)

    def put_to_rest(self, key: int) -> None:
        """Keep it packed until it is asked for, if nobody owns it."""
        entry = self._all[key]
        if isinstance(entry, Entry) and entry.owner is None and not entry.pending and entry.damage is None:
            self._all[key] = pack(entry)

    def __setitem__(self, key: int, entry: Entry) -> None:
        self._all[key] = entry

    def __delitem__(self, key: int) -> None:
        del self._all[key]

    def __contains__(self, key: object) -> bool:
        return key in self._all

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)
