"""What a ``file:`` URL says: the directory of the store."""

from __future__ import annotations

import os
from urllib.parse import unquote

from durable.errors import StorageError

_FORMS = "write file:///absolute/directory or file:relative/directory"


def parse(url: str) -> str:
    """
    Return the directory that *url* names, absolute and without symbolic links, whether it exists or not.

    ``file:///absolute/directory`` is what every program takes for a file URL (RFC 8089); ``file:relative/directory``
    is counted from the working directory. The path is taken literally but for percent escapes.

    Raises:
        StorageError: It names no directory, or something on another host, or has options (there are none).
    """
    scheme, _, location = url.partition(":")
    if location.startswith("//"):
        host, slash, path = location[2:].partition("/")
        if host not in ("", "localhost") or not slash:
            raise StorageError(f"Not the URL of a directory of this machine: {url!r}", fix=_FORMS)
        location = slash + path
    path, mark, _ = location.partition("?")
    if scheme.lower() != "file" or mark or not path.strip("/"):
        raise StorageError(f"Not the URL of a directory: {url!r}", fix=f"{_FORMS}; there are no options")
    path = unquote(path)
    if "\0" in path:
        raise StorageError(f"Not the name of a directory: {path!r}", fix=_FORMS)
    return os.path.realpath(path)
