"""
The layout of an archive: which bytes stand in which object under which name. Pure, no object store in sight.

A bundle is some processes that ended on one day. It becomes two objects of the same name: in ``processes/`` the
processes, each a gzip member of its own, so that one can be read without the others and `zcat` reads them all; and in
``index/`` a line for each, which says where it is. A name is made of the content. So hosts that archive the same
processes write the same objects, and hosts that archive others never write over them.

Source: one gzip member for each record is how web archives do it (WARC, ISO 28500, annex D).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from durable.errors import CorruptJournal
from durable.storage import ProcessRow, Status
from durable.times import moment

SUFFIX = ".jsonl.gz"
_LEVEL = 6  # as the program gzip


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """
    One process of an archive, as its index knows it.

    Attributes:
        key: Its key in the store it comes from. An id may come again after a purge, a key does not.
        object: Path of the object it is in.
        offset: Where its gzip member begins there, in bytes.
        length: How long that is, in bytes.
    """

    id: str
    key: int
    definition: str
    queue: str
    status: Status
    created_at: datetime
    ended_at: datetime
    object: str
    offset: int
    length: int


@dataclass(slots=True)
class Bundle:
    """Processes on their way into one object, in the order of their ends."""

    rows: list[ProcessRow] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    _ends: list[int] = field(default_factory=list)
    _digest: Any = field(default_factory=sha256)

    def add(self, row: ProcessRow, text: bytes) -> None:
        """Add the process of *row*, whose form is *text*."""
        self.rows.append(row)
        self.content += gzip.compress(text, _LEVEL, mtime=0)  # no time of writing: same process, same bytes
        self._ends.append(len(self.content))
        self._digest.update(text)

    def path(self) -> str:
        """Where the processes go, below ``processes/``; where the index goes, below ``index/``."""
        first = moment(self.rows[0].ended_at or 0)
        return f"{first:%Y/%m/%d/%H%M%S}-{self._digest.hexdigest()[:16]}{SUFFIX}"

    def index(self) -> bytes:
        """The object that tells where each process is."""
        offsets = [0, *self._ends]
        lines = [
            {
                "id": row.id,
                "key": row.key,
                "definition": row.definition,
                "queue": row.queue,
                "status": row.status.value,
                "created_at": _written(row.created_at),
                "ended_at": _written(row.ended_at or 0),
                "offset": offset,
                "length": end - offset,
            }
            for row, offset, end in zip(self.rows, offsets, self._ends, strict=False)
        ]
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        return gzip.compress(text.encode(), _LEVEL, mtime=0)


def entries(path: str, index: bytes) -> Iterator[ArchiveEntry]:
    """
    What stands in the index at *path* below ``index/``.

    Raises:
        CorruptJournal: It is damaged.
    """
    try:
        lines = [json.loads(line) for line in gzip.decompress(index).splitlines()]
        for line in lines:
            yield ArchiveEntry(
                id=line["id"],
                key=line["key"],
                definition=line["definition"],
                queue=line["queue"],
                status=Status(line["status"]),
                created_at=datetime.fromisoformat(line["created_at"]),
                ended_at=datetime.fromisoformat(line["ended_at"]),
                object=f"processes/{path}",
                offset=line["offset"],
                length=line["length"],
            )
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
        raise CorruptJournal(
            f"The index of an archive is damaged: {error}",
            object=f"index/{path}",
            fix=f"the processes themselves are in processes/{path}, which `zcat` reads",
        ) from error


def day_of(row: ProcessRow) -> date:
    """The day, in UTC, on which the process of *row* has ended."""
    return moment(row.ended_at or 0).date()


def is_between(path: str, first: date | None, last: date | None) -> bool:
    """Whether the processes at *path*, below ``processes/`` or ``index/``, ended from day *first* to day *last*."""
    day = path[:10].replace("/", "-")
    return (first is None or first.isoformat() <= day) and (last is None or day <= last.isoformat())


def _written(microseconds: int) -> str:
    return moment(microseconds).isoformat(timespec="microseconds")
