"""What the operating system complains about, in the words of `durable.errors`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from durable.errors import StorageError, StorageFull, StorageReadOnly

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def translated(directory: str) -> Iterator[None]:
    """Raise the `StorageError` that says what an `OSError` inside means for the store in *directory*."""
    try:
        yield
    except OSError as error:
        raise translate(error, directory) from error
    except UnicodeEncodeError as error:
        raise StorageError(f"A file cannot keep that, nothing was written: {error}", path=directory) from error


def translate(error: OSError, directory: str) -> StorageError:
    """Return the `StorageError` for *error*."""
    name = errno.errorcode.get(error.errno or 0)
    facts = {"path": error.filename or directory, "error": os.strerror(error.errno) if error.errno else str(error)}
    if error.errno in _FULL:
        return StorageFull("The disk under the store is full", **facts, fix="free some space; nothing is lost")
    if error.errno in _READ_ONLY:
        fix = "give this user write permission on the directory and everything in it"
        return StorageReadOnly("The store cannot be written by this user", **facts, fix=fix)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageError("Too many files are open", **facts, fix="raise the limit (ulimit -n)")
    if error.errno == errno.EIO:
        fix = "look into the system log; the store goes on when the disk does"
        return StorageError("The disk under the store failed", **facts, fix=fix)
    return StorageError(f"The operating system refused ({name})", **facts)
