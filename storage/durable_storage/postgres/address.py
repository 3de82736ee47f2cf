"""What a ``postgresql://`` URL says: how to reach the server, and the few options a store has of its own."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from durable.errors import StorageError

_FORMS = "write postgresql://user:password@host:5432/database"
_SCHEMES = ("postgresql", "postgres")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_POOLERS = ("none", "transaction")


class Address(NamedTuple):
    """
    Where a store is, and how it is spoken to.

    ``dsn`` is what the driver gets: hosts, user, TLS, ``target_session_attrs``. ``shown`` is the same without secrets.
    ``schema``: where the tables are. ``pooled``: behind a pooler in transaction mode, where nothing may be left in a
    connection. ``patience``: seconds a call waits for a server that is away.
    """

    dsn: str
    shown: str
    schema: str = "durable"
    pooled: bool = False
    patience: float = 15.0


def parse(url: str) -> Address:
    """
    Read *url*. What is not an option of ours is left to the driver, as libpq knows it (``sslmode``, several hosts, …).

    Raises:
        StorageError: It names no server or database, or one of our options is wrong.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    authority, _, database = location.partition("/")
    if scheme.partition("+")[0] not in _SCHEMES or not (authority or query):
        raise StorageError("Not the URL of a PostgreSQL store", fix=_FORMS)
    given = parse_qsl(query, keep_blank_values=True)
    ours = {name: value for name, value in given if name in ("schema", "pooler", "patience")}
    theirs = [(name, value) for name, value in given if name not in ours]
    hosts = authority.rpartition("@")[2]
    if "," in hosts and not any(name == "target_session_attrs" for name, _ in theirs):
        theirs.append(("target_session_attrs", "read-write"))  # a standby is of no use to a store
    dsn = f"postgresql://{location}" + (f"?{urlencode(theirs)}" if theirs else "")
    schema = ours.get("schema", "durable")
    if not _SCHEMA.fullmatch(schema):
        raise StorageError(f"Not the name of a schema: {schema!r}", fix="use a–z, 0–9 and _, at most 48 characters")
    pooler = ours.get("pooler", "none")
    if pooler not in _POOLERS:
        raise StorageError(f"Option 'pooler' must be one of {', '.join(_POOLERS)}, not {pooler!r}")
    patience = ours.get("patience", "15")
    if not patience.isdecimal() or not 1 <= int(patience) <= 3600:
        raise StorageError(f"Option 'patience' must be a whole number of seconds from 1 to 3600, not {patience!r}")
    socket_folder = next((value for name, value in theirs if name == "host"), "")
    shown = f"{hosts or socket_folder}/{unquote(database)}"
    return Address(dsn, shown, schema, pooler == "transaction", float(patience))
