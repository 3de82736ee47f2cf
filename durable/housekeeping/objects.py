"""
A folder in any object store, by URL: whole objects in, whole objects or parts of them out.

One code path for files, S3 and memory, which is obstore's. An object appears whole or not at all, and when `put` has
returned it stays, also in a folder of this machine: obstore does not flush what it writes there, so this module does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from durable.errors import StorageError, needing_extra


class Folder:
    """
    The folder behind *url*.

    Args:
        create: Whether a folder of this machine is made if it is missing.

    Raises:
        MissingExtra: The extra ``objects`` is not installed.
        StorageError: obstore knows nothing for the URL, or there is no such folder.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        with needing_extra("objects", "An archive"):
            import obstore  # here, because it is an extra
        self.url = url
        self._obstore: Any = obstore
        self._local = _path(url) if urlsplit(url).scheme == "file" else None
        with self._told("opened"):
            self._store: Any = _open_store(url, create)

    async def put(self, path: str, content: bytes) -> None:
        """Write an object; durable at return. One that is there is replaced."""
        with self._told("written"):
            # In one piece: a multipart upload that is cut off leaves parts behind, which are paid for and not listed.
            await self._obstore.put_async(self._store, path, content, use_multipart=False)
            if self._local is not None:
                await asyncio.to_thread(_flush, self._local, path)

    async def get(self, path: str) -> bytes:
        """A whole object."""
        with self._told("read"):
            found = await self._obstore.get_async(self._store, path)
            return bytes(await found.bytes_async())

    async def part(self, path: str, offset: int, length: int) -> bytes:
        """*length* bytes of an object, from *offset* on."""
        with self._told("read"):
            return bytes(await self._obstore.get_range_async(self._store, path, start=offset, length=length))

    async def names(self, prefix: str) -> list[str]:
        """The paths of all objects below *prefix*, in order."""
        with self._told("listed"):
            return sorted([str(one["path"]) async for page in self._obstore.list(self._store, prefix) for one in page])

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, self._obstore.exceptions.BaseError) as error:
            why = str(error).partition("\n")[0]  # further lines are for those who develop obstore
            raise StorageError(f"The archive could not be {what}: {why}", archive=self.url) from error


def _open_store(url: str, create: bool) -> Any:
    from obstore.store import from_url  # here, because it is an extra

    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return _in_memory(url)
    if scheme == "file" and create:
        root = _path(url)
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        store = from_url(url, mkdir=True)
        for folder in missing:  # that it is there must be as sure as what will be in it
            _sync(folder.parent)
        return store
    return from_url(url)


@cache  # one for each URL: what was put there by one must be there for the next
def _in_memory(url: str) -> Any:
    from obstore.store import MemoryStore  # here, because it is an extra

    return MemoryStore()


def _path(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _flush(root: Path, path: str) -> None:
    """Flush a file, and the directories on the way to it, which may be new."""
    place = root / path
    for one in (place, *place.parents):
        _sync(one)
        if one == root:
            break


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
