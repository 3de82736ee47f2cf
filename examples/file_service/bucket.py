"""The object store of the service: what `Folder` can do, and what the API needs beside it. No temporary files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

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


@dataclass(frozen=True)
class Found:
    """One version of what lies in the bucket: an object, or an upload that was cut off, or is still under way."""

    path: str
    version: str
    is_unfinished: bool = False


class WrongSize(Exception):
    """A file is longer or shorter than its sender has said."""


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

        Raises:
            WrongSize: There are more, or less.
        """
        part = max(_PART, size // _PARTS)
        options: Any = {"use_multipart": size > part, "chunk_size": part, "max_concurrency": 2}
        try:
            await obstore.put_async(self._store, path, _exactly(size, chunks), **options)
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
        try:
            got = await obstore.get_async(self._store, path)
        except FileNotFoundError:
            await obstore.list(self._store, path).collect_async()  # fails in another way if there is no bucket
            raise
        return got.meta["size"], _bytes(got)

    def look(self) -> Iterator[Found]:
        """All that lies in the bucket."""
        if isinstance(self._store, S3Store):
            for page in self._pages("list_objects_v2", ""):  # obstore fails at the first key like "a//b"
                for one in page.get("Contents", ()):
                    yield Found(one["Key"].removeprefix(self._prefix), _version(one["ETag"], one["LastModified"]))
            for path, id in self._unfinished_uploads(""):
                yield Found(path, id, is_unfinished=True)
            return
        for page in obstore.list(self._store):
            for one in page:
                yield Found(str(one["path"]), _version(one["e_tag"], one["last_modified"]))
        for file in self._staged_files(""):
            with suppress(FileNotFoundError):  # it has become an object
                yield Found(str(file.relative_to(self._root)), _version_of_file(file), is_unfinished=True)

    def discard(self, found: Found) -> None:
        """Remove *found*, if it is still what it was: whatever else has been written there since then stays."""
        with suppress(FileNotFoundError):
            if not found.is_unfinished:
                now = obstore.head(self._store, found.path)
                if _version(now["e_tag"], now["last_modified"]) == found.version:
                    obstore.delete(self._store, found.path)
            elif isinstance(self._store, S3Store):
                self.abort_upload(found.path, found.version)
            elif _version_of_file(self._root / found.path) == found.version:
                self.remove_staged(self._root / found.path)


def _version(tag: str | None, modified: datetime) -> str:
    # The same content has the same tag again. Some servers tell fractions of seconds when they list, and not else.
    return f"{tag} {int(modified.timestamp())}"


def _version_of_file(file: Path) -> str:
    stat = file.stat()
    return f"{stat.st_ino} {stat.st_mtime_ns} {stat.st_size}"


async def _exactly(size: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks; they fail as soon as they are more than *size* bytes, and at their end if they are less."""
    count = 0
    async for chunk in chunks:
        count += len(chunk)
        if count > size:
            raise WrongSize(f"more than the {size} bytes of its Content-Length")
        yield chunk
    if count < size:
        raise WrongSize(f"{count} of the {size} bytes of its Content-Length")


async def _bytes(got: obstore.GetResult) -> AsyncIterator[bytes]:
    async for chunk in got.stream(CHUNK):
        yield bytes(chunk)
