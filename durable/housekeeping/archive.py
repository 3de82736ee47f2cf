"""
Archives: processes that have left their store, in any object store. Writing is for housekeeping, reading for anybody.

Nothing in an archive is ever changed or deleted here. A process may be in it twice, if a host died between archiving
and purging; whoever reads it hears of it once.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

from durable.errors import CorruptJournal
from durable.housekeeping.bundle import ArchiveEntry, Bundle, entries, is_between
from durable.housekeeping.objects import Folder
from durable.transfer.snapshot import Snapshot
from durable.transfer.text import load

_TOGETHER = 16  # objects of an index that are read at the same time


@dataclass(frozen=True, slots=True)
class ArchivedProcess:
    """
    One process out of an archive.

    Attributes:
        entry: What the index says of it.
        text: Its lines: payloads readable where the codec hides nothing. Written to a file, it can be imported.
        snapshot: The same as data, exact: `durable.transfer.put` brings it into a store again.
    """

    entry: ArchiveEntry
    text: bytes
    snapshot: Snapshot


class Archive:
    """
    The archive in the folder behind *url*.

    Args:
        create: Whether a folder of this machine is made if it is missing.

    Raises:
        MissingExtra: The extra ``objects`` is not installed.
        StorageError: The URL leads to no object store.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._folder = Folder(url, create=create)

    async def put(self, bundle: Bundle) -> None:
        """
        Write *bundle*.

        Durability: Processes and index are in the archive at return. If this fails, the processes may be there without
        an index: nobody finds them, and when they are archived again nothing of that is in the way.
        """
        path = bundle.path()
        await self._folder.put(f"processes/{path}", bytes(bundle.content))
        await self._folder.put(f"index/{path}", bundle.index())

    async def find(
        self, id: str | None = None, *, first: date | None = None, last: date | None = None
    ) -> AsyncIterator[ArchiveEntry]:
        """Entries; see `list_archive`."""
        names = [name.removeprefix("index/") for name in await self._folder.names("index")]
        names = [name for name in names if is_between(name, first, last)]
        seen: set[tuple[int, str]] = set()
        for start in range(0, len(names), _TOGETHER):
            window = names[start : start + _TOGETHER]
            found = await asyncio.gather(*(self._folder.get(f"index/{name}") for name in window))
            for name, content in zip(window, found, strict=True):
                for entry in entries(name, content):
                    if id in (None, entry.id) and (entry.key, entry.id) not in seen:
                        seen.add((entry.key, entry.id))
                        yield entry

    async def read(self, entry: ArchiveEntry) -> ArchivedProcess:
        """
        The process of *entry*, checked.

        Raises:
            CorruptJournal: It is damaged.
            StorageError: It cannot be read.
        """
        member = await self._folder.part(entry.object, entry.offset, entry.length)
        where = f"{entry.object} at byte {entry.offset}"
        try:
            text = gzip.decompress(member)
        except (OSError, EOFError, zlib.error) as error:
            raise CorruptJournal(f"The archive is damaged: {error}", where=where) from error
        return ArchivedProcess(entry, text, load(text, where))


async def list_archive(
    url: str, *, id: str | None = None, first: date | None = None, last: date | None = None
) -> AsyncIterator[ArchiveEntry]:
    """
    Go through an archive without reading the processes in it, in the order in which they ended, roughly.

    One small object is read for every batch that was archived. *first* and *last* keep others unread.

    Args:
        url: As in `Retention`.
        id: Only processes with this id. There may be several: an id can be used again after a purge.
        first: Only what ended on this day (UTC) or later.
        last: Only what ended on this day (UTC) or earlier.

    Raises:
        MissingExtra: The extra ``objects`` is not installed.
        StorageError: The archive cannot be reached.
        CorruptJournal: A part of its index is damaged.
    """
    async for entry in Archive(url).find(id, first=first, last=last):
        yield entry


async def read_archive(
    url: str, *, id: str | None = None, first: date | None = None, last: date | None = None
) -> AsyncIterator[ArchivedProcess]:
    """
    Read processes out of an archive; arguments, order and errors as for `list_archive`.

    Of each process exactly its own bytes are read, and only when it is its turn.
    """
    archive = Archive(url)
    async for entry in archive.find(id, first=first, last=last):
        yield await archive.read(entry)
