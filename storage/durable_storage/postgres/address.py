"""What a ``postgresql://`` URL says: how to reach the server, and the few options a store has of its own."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from durable.errors import StorageError

_FORMS = "write postgresql://user:password@host:5432/database"
_SCHEMES = ("postgresql", "postgres")
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,47}")
_POOLERS = ("none", "transaction")
_OURS = ("schema", "pooler", "patience")

# What libpq knows and the driver does not, which would give it to the server as a setting: the values that ask for what
# is done anyway, and what to do instead of any other. Names are those of the manual of PostgreSQL, 34.1.2.
_DONE_ANYWAY = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "keepalives": ("1",),
    "load_balance_hosts": ("disable",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}
_INSTEAD = {
    "channel_binding": "use sslmode=verify-full",
    "gssencmode": "use TLS (sslmode)",
    "hostaddr": "write the address as the host",
    "load_balance_hosts": "name the hosts in the order in which they are to be tried",
    "replication": "leave it out: a store is no replica",
    "require_auth": "say in pg_hba.conf how users prove who they are",
    "requirepeer": "use TLS with sslmode=verify-full",
    "sslcrldir": "use sslcrl",
    "tcp_user_timeout": "use patience: a call that has no answer by then looks for a new connection",
    **dict.fromkeys(
        ("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        "leave it out: a host is never silent for longer than a second, and patience says how long a call waits",
    ),
}


class Address(NamedTuple):
    """
    Where a store is, and how it is spoken to.

    ``dsn`` is what the driver gets: hosts, user, TLS, ``target_session_attrs``. ``shown`` is the same without secrets.
    ``schema``: where the tables are. ``pooled``: behind a pooler in transaction mode, where nothing may be left in a
    connection. ``patience``: seconds a call waits for a server that is away. ``connect_timeout``: seconds for one host
    to let us in. ``application``: the name under which the server lists our connections.
    """

    dsn: str
    shown: str
    schema: str = "durable"
    pooled: bool = False
    patience: float = 15.0
    connect_timeout: float = 60.0
    application: str = "durable"


def parse(url: str) -> Address:
    """
    Read *url*: options of ours, those of libpq, and settings of the server by their names.

    Raises:
        StorageError: It names no server or database, one of our options is wrong, or the driver cannot do what one of
            libpq's asks for.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    authority, _, database = location.partition("/")
    if scheme.partition("+")[0] not in _SCHEMES or not (authority or query):
        raise StorageError("Not the URL of a PostgreSQL store", fix=_FORMS)
    given = dict(parse_qsl(query, keep_blank_values=True))
    ours = {name: given.pop(name) for name in _OURS if name in given}
    connect_timeout = _connect_timeout(given.pop("connect_timeout", "0"))
    fallback = given.pop("fallback_application_name", "durable")
    application = given.pop("application_name", fallback)
    theirs = {name: value for name, value in given.items() if not _is_done_anyway(name, value)}
    hosts = authority.rpartition("@")[2] or given.get("host", "")
    if "," in hosts:
        theirs.setdefault("target_session_attrs", "read-write")  # a standby is of no use to a store
    dsn = f"postgresql://{location}" + (f"?{urlencode(theirs)}" if theirs else "")
    schema = ours.get("schema", "durable")
    if not _SCHEMA.fullmatch(schema):
        fix = "use a–z, 0–9 and _, at most 48 characters, and not pg_ at the beginning"
        raise StorageError(f"Not the name of a schema: {schema!r}", fix=fix)
    pooler = ours.get("pooler", "none")
    if pooler not in _POOLERS:
        raise StorageError(f"Option 'pooler' must be one of {', '.join(_POOLERS)}, not {pooler!r}")
    patience = ours.get("patience", "15")
    if not patience.isdecimal() or not 1 <= int(patience) <= 3600:
        raise StorageError(f"Option 'patience' must be a whole number of seconds from 1 to 3600, not {patience!r}")
    shown = f"{hosts}/{unquote(database)}"
    return Address(dsn, shown, schema, pooler == "transaction", float(patience), connect_timeout, application)


def _is_done_anyway(name: str, value: str) -> bool:
    """Whether the driver need not be told; an error if it cannot do that."""
    if value in _DONE_ANYWAY.get(name, ()):
        return True
    if name in _INSTEAD or name in _DONE_ANYWAY:
        fix = _INSTEAD.get(name, "leave it out")
        raise StorageError(f"Option {name}={value} cannot be followed: the driver does not know it", fix=fix)
    return False


def _connect_timeout(text: str) -> float:
    """Seconds; 0 and less mean that the driver decides, as they do for libpq."""
    if not re.fullmatch(r"-?[0-9]+", text):
        raise StorageError(f"Option 'connect_timeout' must be a whole number of seconds, not {text!r}")
    return float(text) if int(text) > 0 else 60.0
