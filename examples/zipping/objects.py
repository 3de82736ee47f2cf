"""
A folder in any object store, by URL: ``file:///path``, ``s3://bucket/path``, ``memory://name``, and more by obstore.

An object appears whole or not at all. But an upload that was cut off leaves something that no listing shows: on S3 an
unfinished multipart upload, which is paid for, and in a local folder a file named ``…#1``. obstore cannot see either,
so `Folder.forget_uploads` does, by boto3 or by looking into the folder. Other stores forget such uploads after a while.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import MemoryStore, ObjectStore, S3Store, from_url

try:  # boto3 is there with s3://, and its errors are of no family that others know
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
except ImportError:
    _OF_BOTO: tuple[type[Exception], ...] = ()
else:
    _OF_BOTO = (BotoCoreError, ClientError)

CHUNK = 256 << 10  # of larger ones, made in many threads, more memory stays behind
# What comes of a store that cannot just now.
TROUBLE: tuple[type[Exception], ...] = (OSError, obstore.exceptions.BaseError, *_OF_BOTO)
_PART = 5 << 20  # bytes uploaded at once, the least that S3 takes; a few of them are in memory at a time
_PARTS = 9_000  # S3 takes at most 10,000 parts for one object


class Folder:
    """
    A folder of an object store. Credentials and endpoints come from the environment, as for every tool of the store.

    ``s3://`` needs boto3 beside obstore, to clean up after uploads that were cut off.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = _open_store(url)

    def put(self, path: str, chunks: Iterator[bytes], size: int) -> None:
        """Write an object from *chunks*, *size* bytes or a little more, with only a few parts of it in memory."""
        part = max(_PART, size // _PARTS)
        options: Any = {"use_multipart": size > part, "chunk_size": part, "max_concurrency": 2}
        obstore.put(self._store, path, _elsewhere(chunks), **options)

    def read(self, path: str) -> Iterator[bytes]:
        """An object, chunk by chunk."""
        for chunk in obstore.get(self._store, path).stream(CHUNK):
            yield bytes(chunk)

    def open(self, path: str) -> io.BufferedReader:
        """An object as a file to read and seek in."""
        return io.BufferedReader(_Reader(obstore.open_reader(self._store, path, buffer_size=CHUNK)), CHUNK)

    def names(self) -> list[str]:
        """Every object of the folder, in order, and every upload that was cut off."""
        return sorted([str(one["path"]) for page in obstore.list(self._store) for one in page] + self._cut_off(""))

    def remove(self, path: str) -> None:
        """Remove the object *path*, or all below it if it ends with a slash, and uploads that were cut off."""
        self.forget_uploads(path)
        if path.endswith("/"):
            for page in obstore.list(self._store, path.rstrip("/")):
                obstore.delete(self._store, [str(one["path"]) for one in page])
        else:
            with suppress(FileNotFoundError):
                obstore.delete(self._store, path)

    def forget_uploads(self, path: str) -> None:
        """Remove what uploads of the object *path*, or of all below it, have left behind when they were cut off."""
        if isinstance(self._store, S3Store):
            for key, id in self._unfinished_uploads(path):
                self.abort_upload(key, id)
        for file in self._staged_files(path):
            self.remove_staged(file)

    def abort_upload(self, path: str, id: str) -> None:
        """Abort one upload on S3 and no other of the same object."""
        with suppress(_s3().exceptions.NoSuchUpload):
            _s3().abort_multipart_upload(Bucket=self._bucket, Key=self._prefix + path, UploadId=id)

    def remove_staged(self, file: Path) -> None:
        """Remove what one upload into a local folder has left behind."""
        file.unlink(missing_ok=True)
        if file.parent != self._root and not any(file.parent.iterdir()):
            file.parent.rmdir()

    # --- what obstore cannot see ---

    def _cut_off(self, path: str) -> list[str]:
        if isinstance(self._store, S3Store):
            return [f"{key} (unfinished upload {id})" for key, id in self._unfinished_uploads(path)]
        return [str(file.relative_to(self._root)) for file in self._staged_files(path)]

    def _unfinished_uploads(self, path: str) -> Iterator[tuple[str, str]]:
        for page in self._pages("list_multipart_uploads", path):
            for upload in page.get("Uploads", ()):
                key = upload["Key"].removeprefix(self._prefix)
                if _is_meant(key, path):
                    yield key, upload["UploadId"]

    def _pages(self, call: str, path: str) -> Iterator[Any]:
        pages: Iterator[Any] = _s3().get_paginator(call).paginate(Bucket=self._bucket, Prefix=self._prefix + path)
        return pages

    def _staged_files(self, path: str) -> list[Path]:
        if urlsplit(self.url).scheme != "file":
            return []
        below = "**/*" if path.endswith("/") or not path else ""
        found = self._root.glob(f"{escape(path)}{below}#*")
        return [file for file in found if file.name.rpartition("#")[2].isdecimal()]

    @property
    def _root(self) -> Path:
        return Path(unquote(urlsplit(self.url).path))

    @property
    def _bucket(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def _prefix(self) -> str:
        folder = urlsplit(self.url).path.strip("/")
        return f"{folder}/" if folder else ""


@cache  # one store for each URL: what is in memory must be there for the next step too
def _open_store(url: str) -> ObjectStore:
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryStore()
    if scheme == "file":
        return from_url(url, mkdir=True, automatic_cleanup=True)
    return from_url(url)


@cache
def _s3() -> Any:
    import boto3  # type: ignore[import-untyped]  # here, because only s3:// needs it

    return boto3.client("s3")


def _is_meant(name: str, path: str) -> bool:
    return name.startswith(path) if path.endswith("/") or not path else name == path


def _elsewhere(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, made in another thread: where obstore takes them, it cannot be called a second time."""
    with ThreadPoolExecutor(1) as thread:
        while (chunk := thread.submit(next, chunks, None).result()) is not None:
            yield chunk


class _Reader(io.RawIOBase):
    """obstore's reader as a file of the standard library."""

    def __init__(self, reader: obstore.ReadableFile) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: Any) -> int:
        data = self._reader.read(len(buffer))
        buffer[: len(data)] = memoryview(data)
        return len(data)
