"""
Whose file it is, and how it becomes a store of the newest version.

Two looks: `check_file` reads the header of a file before anything is opened or made beside it, `prepare` asks SQLite
itself, which also knows what is still in the WAL. Either refuses what is not ours or newer than we are.
"""

from __future__ import annotations

import os
import sqlite3

from durable.errors import NotAStore, StorageError, UnsupportedFilesystem
from durable_storage.sqlite.failures import translate
from durable_storage.sqlite.migrations import check_version, migrate, version_of

APPLICATION_ID = 0x44757261  # "Dura", in the header of every store
_HEADER = b"SQLite format 3\0"


def check_file(path: str) -> None:
    """
    Refuse, before anything is created or opened beside it, a file that is surely not ours or is newer than we know.

    It reads the header with plain I/O: opening a foreign file through SQLite may already recover or checkpoint it. Not
    for a file that this OS process has open: closing the descriptor would free SQLite's own locks.

    Raises:
        NotAStore: It is something else.
        NewerFormat: A newer version of this library wrote it.
        StorageError: The directory is missing.
    """
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise StorageError(
            "The directory of the store does not exist", directory=directory, fix=f"mkdir -p {directory}"
        )
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise NotAStore("The path of the store is a directory", path=path, fix="name a file") from None
    except OSError as error:
        raise translate(error, path) from error
    if header:
        if not header.startswith(_HEADER) or len(header) < 100 or _number(header, 68) != APPLICATION_ID:
            raise _not_a_store(path)
        check_version(_number(header, 60), path)


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")


def _not_a_store(path: str) -> NotAStore:
    return NotAStore(
        "The file exists and is not a store of this library; it was not touched", path=path, fix="choose another path"
    )


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make *connection* one to a store of the newest version, whatever a crash has left half done."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise _not_a_store(path)
        # The first thing ever written, still without WAL: from now on the header tells whose file it is.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    check_version(version_of(connection), path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise UnsupportedFilesystem(
            "SQLite cannot keep a WAL here: the filesystem has no shared memory or locks",
            path=path,
            journal_mode=mode,
            fix="keep the store on a local disk",
        )
    migrate(connection, path)
