"""One process as one file: its text, read and written so that it is there completely or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from durable.errors import StorageError
from durable.transfer.snapshot import Snapshot
from durable.transfer.text import dump, load


def write_file(path: Path, snapshot: Snapshot, *, replace: bool = False) -> None:
    """
    Write *snapshot* to *path*, which appears complete or not at all.

    Args:
        replace: Whether a file of this name may be replaced.

    Durability: The file and its name are on the disk at return.
    Raises:
        StorageError: There is such a file, or the directory cannot be written.
    """
    if not replace and path.exists():
        raise _exists(path)
    try:
        _write_atomically(path, dump(snapshot), replace)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise StorageError(f"The file could not be written: {error.strerror}", path=path) from error


def read_file(path: Path) -> Snapshot:
    """
    Read the process in *path*, and check all of it.

    Raises:
        NotAStore: It is some other file.
        NewerFormat: A newer version of this library wrote it.
        CorruptJournal: It is cut off or damaged.
        StorageError: It cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"The file could not be read: {error.strerror}", path=path) from error
    return load(content, str(path))


def _exists(path: Path) -> StorageError:
    fix = "choose another name, or have it replaced (`--force`, `replace=True`)"
    return StorageError("The file exists already and was not touched", path=path, fix=fix)


def _write_atomically(path: Path, content: bytes, replace: bool) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(name, path)
        else:
            os.link(name, path)  # unlike a rename, it fails if somebody else made the file meanwhile
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
