"""The object store of the service: what `Folder` can do, and what the API needs beside it. No temporary files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import obstore

from examples.file_service import settings
from examples.zipping.objects import CHUNK, TROUBLE, Folder

_PART = 5 << 20  # bytes of an upload that are sent at once; at most three of them are in memory
_PARTS = 9_000  # S3 takes at most 10,000 parts for one object


@dataclass(frozen=True)
class Stored:
    """A file in the bucket."""

    path: str
    name: str
    size: int
    modified: datetime


class UploadMissing(Exception):
    """A file that a task asks for was never uploaded, or so long ago that it was taken for abandoned."""


class Bucket(Folder):
    """The bucket of the settings."""

    def __init__(self) -> None:
        super().__init__(settings.BUCKET)

    async def receive(self, path: str, chunks: AsyncIterator[bytes], size: int) -> None:
        """
        Write an object of *size* bytes from *chunks*, as they come: all of it, or nothing.

        What a crash leaves of it is found by `orphans`.
        """
        part = max(_PART, size // _PARTS)
        options: Any = {"use_multipart": size > part, "chunk_size": part, "max_concurrency": 2}
        try:
            await obstore.put_async(self._store, path, chunks, **options)
        except BaseException:
            with suppress(*TROUBLE):  # the store may be what failed
                await asyncio.to_thread(self.forget_uploads, path)
            raise

    def find(self, folder: str, names: Sequence[str]) -> list[Stored]:
        """
        The objects *names* in *folder*.

        Raises:
            UploadMissing: One of them is not there.
        """
        found = {}
        for page in obstore.list(self._store, folder.rstrip("/")):
            for one in page:
                name = str(one["path"]).rpartition("/")[2]
                found[name] = Stored(str(one["path"]), name, one["size"], one["last_modified"])
        if missing := [name for name in names if name not in found]:
            raise UploadMissing(f"not uploaded: {', '.join(missing)}")
        return [found[name] for name in names]

    async def stream(self, path: str) -> tuple[int, AsyncIterator[bytes]]:
        """
        The size of an object, and the object, chunk by chunk.

        Raises:
            FileNotFoundError: There is none.
        """
        got = await obstore.get_async(self._store, path)
        return got.meta["size"], _bytes(got)

    def discard(self, names: Iterable[str]) -> None:
        """Remove objects, and uploads that were cut off, by the names that `names` gives them."""
        for name in names:
            path, is_cut_off = whole_path(name)
            self.forget_uploads(path) if is_cut_off else self.remove(path)


def whole_path(name: str) -> tuple[str, bool]:
    """The object that a name of `Folder.names` belongs to, and whether it is only an upload of it that was cut off."""
    path, is_unfinished, _ = name.partition(" (unfinished upload ")
    if is_unfinished:
        return path, True
    path, mark, number = name.rpartition("#")
    return (path, True) if mark and number.isdecimal() else (name, False)


async def _bytes(got: obstore.GetResult) -> AsyncIterator[bytes]:
    async for chunk in got.stream(CHUNK):
        yield bytes(chunk)
