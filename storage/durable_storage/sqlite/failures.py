"""
What SQLite and the operating system complain about, in the words of `durable.errors`.

One function, one table. Which primary result code means what is SQLite's own definition (https://sqlite.org/rescode.html);
the extended code stands in the error as a fact.
"""

from __future__ import annotations

import errno
import sqlite3

from durable.errors import NotAStore, StorageError, StorageFull, StorageReadOnly

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)

# primary result code -> (class, what happened, what to do)
_MEANINGS: dict[int, tuple[type[StorageError], str, str]] = {
    sqlite3.SQLITE_FULL: (StorageFull, "The disk under the store is full", "free some space; nothing is lost"),
    sqlite3.SQLITE_READONLY: (
        StorageReadOnly,
        "The store can be read but not written",
        "give this user write permission on the file and on its directory",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        StorageError,
        "The file of the store cannot be opened",
        "check the path and the permissions of the file and its directory",
    ),
    sqlite3.SQLITE_NOTADB: (NotAStore, "The file is not a SQLite database", "choose another path"),
    sqlite3.SQLITE_CORRUPT: (
        StorageError,
        "The database file is damaged",
        "stop every host, keep a copy, and restore a backup or try `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_BUSY: (
        StorageError,
        "Another program keeps the store locked",
        "close other programs that write to the file",
    ),
    sqlite3.SQLITE_IOERR: (
        StorageError,
        "The disk under the store failed",
        "look into the system log; the store goes on when the disk does",
    ),
    sqlite3.SQLITE_CONSTRAINT: (
        StorageError,
        "The batch contradicts what the store holds (a key or record is there already)",
        "this is a bug of the host",
    ),
}


def translate(error: sqlite3.Error | OSError, path: str) -> StorageError:
    """Return the `StorageError` that says what *error* means for the store at *path*; raise it ``from error``."""
    if isinstance(error, OSError):
        return _translate_system(error, path)
    code = getattr(error, "sqlite_errorcode", None)
    meaning = _MEANINGS.get(code & 0xFF) if code is not None else None
    if meaning is None:
        return StorageError(f"SQLite failed: {error}", path=path, result=getattr(error, "sqlite_errorname", None))
    kind, text, fix = meaning
    return kind(text, path=path, error=str(error), result=error.sqlite_errorname, fix=fix)


def _translate_system(error: OSError, path: str) -> StorageError:
    if error.errno in _FULL:
        return StorageFull("The disk under the store is full", path=path, fix="free some space; nothing is lost")
    if error.errno in _READ_ONLY:
        fix = "give this user write permission on the file and on its directory"
        return StorageReadOnly("The store can be read but not written", path=path, error=str(error), fix=fix)
    return StorageError(f"The operating system refused: {error}", path=path)
