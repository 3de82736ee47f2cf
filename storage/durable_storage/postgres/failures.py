"""
What PostgreSQL and the network complain about, in the words of `durable.errors`.

One function, one table. What a code means is PostgreSQL's own definition (its manual, appendix A). Three kinds matter
to who calls: the connection is gone (`is_lost`: whether the statement was applied is not known), the statement was
undone and may be sent again at once (`is_undone`), and everything else, which is for `translate`.
"""

from __future__ import annotations

import asyncpg
from asyncpg import exceptions

from durable.errors import (
    CorruptJournal,
    NewerFormat,
    NotAStore,
    NotOwned,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

# Everything the driver raises for reasons that are not ours.
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError, ValueError)
_LOST = (
    OSError,  # refused, reset, a name that cannot be resolved; TimeoutError is one
    EOFError,
    exceptions.PostgresConnectionError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.TooManyConnectionsError,
    exceptions.IdleInTransactionSessionTimeoutError,
    exceptions.ReadOnlySQLTransactionError,  # the primary has become a standby: another host is the one to write to
    exceptions.InternalClientError,  # the driver and the server do not agree any more on what was said last
)
# The server ends connections that did nothing for too long, by the clock of whoever administers it; older drivers have
# no class for either.
_LOST_CODES = ("57P05", "25P04")
_UNDONE = (exceptions.DeadlockDetectedError, exceptions.SerializationError)

# Whoever administers the server has to do something.
_RIGHTS = "ask the owner of the database for the rights that docs/postgresql.md names"
_DENIED: dict[str, tuple[str, str]] = {
    "28000": ("The server refuses this user", "check user, pg_hba.conf and TLS"),
    "28P01": ("The server refuses the password of this user", "check user and password in the URL"),
    "3D000": ("The database does not exist", "create it, or check its name in the URL"),
    "42501": ("The user lacks a right", _RIGHTS),
}
_BUG = "this is a bug of the host"
_MEANINGS: dict[str, tuple[type[StorageError], str, str]] = {
    "54000": (
        CorruptJournal,
        "PostgreSQL cannot keep a value, which is too large, or an id too long for an index",
        "of up to 2600 bytes every id fits, a longer one if PostgreSQL can compress it",
    ),
    "53100": (StorageFull, "The disk of the database server is full", "free some space; nothing is lost"),
    "3F000": (NotAStore, "The schema of the store is gone", "open the store again, with a user who may create it"),
    "42P01": (NotAStore, "A table of the store is gone", "restore it from a backup"),
    "42883": (NewerFormat, "The store was changed under this host by another version", "deploy that version here too"),
    "55P03": (StorageError, "Another transaction keeps rows locked", "look for long transactions; it is tried again"),
    "42704": (StorageError, "The server does not know a name or setting that it was given", "look at the URL"),
    "DU001": (NotOwned, "A process is not owned by this session, or a record does not follow the last one", _BUG),
    "DU002": (NotOwned, "An inbox item is gone, or not of this session", _BUG),
    "DU004": (StorageError, "The id of a child is taken", _BUG),
    "DU003": (
        StorageError,
        "The server begins transactions at another isolation level",
        "ALTER ROLE … SET default_transaction_isolation = 'read committed'",
    ),
    "23505": (
        StorageError,
        "The batch contradicts what the store holds (a key is there already)",
        _BUG,
    ),
}


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone with what was sent on it."""
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return "closed" in str(error) or "connection" in str(error)
    return isinstance(error, _LOST) or getattr(error, "sqlstate", None) in _LOST_CODES


def is_undone(error: BaseException) -> bool:
    """Whether the database took back all of the statement, and the same one may succeed now."""
    return isinstance(error, _UNDONE)


def translate(error: BaseException, shown: str) -> StorageError:
    """Return the `StorageError` that says what *error* means for the store *shown*; raise it ``from error``."""
    if isinstance(error, StorageError):
        return error
    code = getattr(error, "sqlstate", None) or ""
    said = getattr(error, "message", None) or str(error)
    if code in _DENIED:
        text, fix = _DENIED[code]
        return StorageDenied(text, store=shown, error=said, fix=fix)
    if code in _MEANINGS:
        kind, text, fix = _MEANINGS[code]
        return kind(text, store=shown, error=said, sqlstate=code, detail=getattr(error, "detail", None), fix=fix)
    if is_lost(error):
        return unavailable(error, shown)
    if isinstance(error, ValueError) or code.startswith("22"):
        # What one process writes cannot be kept: the host finds out which one, and the others go on.
        return CorruptJournal(f"PostgreSQL cannot keep a value: {error}", store=shown)
    return StorageError(f"PostgreSQL failed: {error!r}", store=shown, sqlstate=code or None)


def unavailable(error: BaseException | None, shown: str) -> StorageUnavailable:
    """The error of a server that is away for longer than a call waits."""
    reason = None if error is None else f"{type(error).__name__}: {error}"
    return StorageUnavailable(
        "The database cannot be reached",
        store=shown,
        error=reason,
        fix="look at server, network and URL; a host that runs tries again by itself, anything else is yours to repeat",
    )
