"""
The store behind ``--url``: opened for one command, and never made by looking.

Opening a store creates it, which is right for a host and wrong for whoever mistyped a path. So for the schemes that
name a file or directory of this machine it is looked at first, by path alone; providers are not asked.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit, urlunsplit

from durable.errors import StorageError
from durable.storage import JournalStorage, open_storage

_CREATES_NOTHING = "check the URL: this command does not create a store"


@asynccontextmanager
async def opened(url: str, *, create: bool = False) -> AsyncIterator[JournalStorage]:
    """
    The store of *url*, open.

    Args:
        create: Whether a store that does not exist is made.

    Raises:
        StorageError: There is none, or it cannot be opened.
    """
    storage = open_storage(url)
    if not create:
        check_exists(url)
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


def check_exists(url: str) -> None:
    """Raise `StorageError` if *url* names a file or directory that does not exist, or is empty."""
    path = local_path(url)
    if path is None:
        return
    if not os.path.exists(path):
        raise StorageError("There is no store here", path=path, fix=_CREATES_NOTHING)
    empty = not os.listdir(path) if os.path.isdir(path) else not os.path.getsize(path)
    if empty:
        raise StorageError("What is here is empty, and not a store yet", path=path, fix=_CREATES_NOTHING)


def local_path(url: str) -> str | None:
    """The path that *url* names on this machine, absolute and without symbolic links; None if it names none."""
    scheme, _, rest = url.partition(":")
    location = unquote(rest.partition("?")[0])
    match scheme.lower():
        case "sqlite":
            path = location.removeprefix("///")
        case "file":
            path = location[2:].removeprefix("localhost") if location.startswith("//") else location
        case _:
            return None
    return os.path.realpath(path) if path.strip("/") else None


def name_of(url: str) -> str:
    """*url* as it is told to others: the same from every directory, and without password and options."""
    if (path := local_path(url)) is not None:
        return f"{url.partition(':')[0].lower()}://{'/' if url.lower().startswith('sqlite') else ''}{path}"
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, f"{user.partition(':')[0]}{at}{place}", parts.path, "", ""))
