"""What a ``sqlite://`` URL says: the file, and the few options a store has."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from durable.errors import StorageError

_FORMS = "write sqlite:///relative.db or sqlite:////absolute/path.db"
_OPTIONS = {"busy_timeout": (0, 3600), "readers": (1, 16)}


class Address(NamedTuple):
    """
    Where a store is, and how it is opened.

    ``busy_timeout``: seconds to wait for another program that has the file locked. ``readers``: connections for reads.
    """

    path: str
    busy_timeout: int = 10
    readers: int = 2


def parse(url: str) -> Address:
    """
    Read *url*; the path is taken literally but for percent escapes, and made absolute now.

    Raises:
        StorageError: It names no file, or has an option that does not exist or is out of range.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    if scheme != "sqlite" or not location.startswith("/") or len(location) < 2:
        raise StorageError(f"Not the URL of a SQLite store: {url!r}", fix=_FORMS)
    path = unquote(location[1:])
    if ":memory:" in path or path.startswith("file:"):
        raise StorageError(f"A SQLite store needs a file of its own: {url!r}", fix=f"for tests use memory://; {_FORMS}")
    if "\0" in path or path.endswith("/"):
        raise StorageError(f"Not the name of a file: {path!r}", fix=_FORMS)
    options = {name: _option(name, value) for name, value in parse_qsl(query, keep_blank_values=True)}
    return Address(os.path.realpath(path), **options)


def _option(name: str, value: str) -> int:
    if name not in _OPTIONS:
        raise StorageError(f"A SQLite store has no option {name!r}", known=", ".join(sorted(_OPTIONS)))
    lowest, highest = _OPTIONS[name]
    if not value.isdecimal() or not lowest <= int(value) <= highest:
        raise StorageError(f"Option {name!r} must be a whole number from {lowest} to {highest}, not {value!r}")
    return int(value)
