"""
Who may do what, and how much of it: the authentication hook, the rate limit, and requests that come from web pages.

Belongs here: everything that is decided before a request is answered. What is refused is an `HTTPException`, which
`problems` turns into an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from math import ceil
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from throttled import MemoryStore, Throttled
from throttled.rate_limiter import Quota, Rate

from durable._host.options import check_length, check_number

logger = logging.getLogger("durable.web")


class AccessKind(StrEnum):
    """What a request wants to do."""

    LIST = "list"
    START = "start"
    LOOK = "look"
    RESULT = "result"
    HISTORY = "history"
    WATCH = "watch"
    RAISE_EVENT = "raise event"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    RESUME = "resume"


CHANGES = frozenset(
    {AccessKind.START, AccessKind.RAISE_EVENT, AccessKind.CANCEL, AccessKind.TERMINATE, AccessKind.RESUME}
)


@dataclass(frozen=True, slots=True)
class Access:
    """
    What a request wants to do, and with what.

    Attributes:
        process_id: The process; None for a listing, and for a start that leaves the id to us.
        definition: What is to be started, or what a listing is narrowed to.
    """

    kind: AccessKind
    process_id: str | None = None
    definition: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as `Authorize` found out; the name is what requests are counted by, and what stands in the log."""

    name: str


Authorize = Callable[[HTTPConnection, Access], Awaitable[Principal | None]]
"""
Says who asks, if they may: a `Principal`, or None to refuse (403).

To ask for credentials raise ``HTTPException(401, headers={"WWW-Authenticate": "Bearer"})`` of Starlette.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much may be asked for.

    Attributes:
        body: Longest request body in bytes.
        rate: Requests per second of one principal, or of one address if there is no hook; None: any number.
        burst: How many may come at once after a pause.
        clients: How many principals and addresses are kept in mind; those that asked longest ago are forgotten.
        wait: Longest wait of one request for a result or a change.
        page: Most processes, or records, of one answer.
        streams: Most streams (SSE and WebSocket) open at a time.

    Raises:
        InvalidDefinition: A number is not a whole one of at least 1 (*streams*: 0), or *wait* is no timedelta.
    """

    body: int = 1024 * 1024
    rate: int | None = 50
    burst: int = 100
    clients: int = 10_000
    wait: timedelta = timedelta(seconds=60)
    page: int = 1000
    streams: int = 10_000

    def __post_init__(self) -> None:
        for name in ("body", "burst", "clients", "page"):
            check_number(getattr(self, name), f"`{name}` of Limits")
        if self.rate is not None:
            check_number(self.rate, "`rate` of Limits")
        check_number(self.streams, "`streams` of Limits", 0)
        check_length(self.wait, "`wait` of Limits")


class Gate:
    """Lets requests pass, or refuses them."""

    def __init__(self, authorize: Authorize | None, limits: Limits, origins: Collection[str]) -> None:
        self._authorize = authorize
        self._origins = frozenset(origins)
        self._bucket = None if limits.rate is None else _bucket(limits.rate, limits.burst, limits.clients)
        self._has_warned = False

    async def admit(self, connection: HTTPConnection, access: Access) -> None:
        """
        Return if *connection* may go on with *access*.

        Raises:
            HTTPException: It may not (403, or what the hook raised), or it comes too often (429).
        """
        self._check_origin(connection)
        client = f"address {connection.client.host if connection.client else 'unknown'!r}"
        if self._authorize is None:
            self._warn_if_reachable(connection)
            self._count(client)
            self._note(client, access)
            return
        # Who is refused pays, so that nobody can try credentials without end; who is let in pays by name.
        self._check_not_empty(client)
        try:
            principal = await self._authorize(connection, access)
        except HTTPException:
            self._count(client)
            raise
        if principal is None:
            self._count(client)
            raise HTTPException(403, "You may not do this")
        client = f"principal {principal.name!r}"  # quoted: a name with a line break in it would forge a line of the log
        self._count(client)
        self._note(client, access)

    def _check_origin(self, connection: HTTPConnection) -> None:
        # A browser sends a page's requests to any address, cookies and all, and asks nobody where a request is "simple"
        # or a WebSocket. Programs send no such header.
        origin = connection.headers.get("origin")
        if origin is None or origin in self._origins:
            return
        if _netloc(origin) != connection.headers.get("host", "").lower():
            raise HTTPException(403, "A page of another origin may not do this")

    def _count(self, client: str) -> None:
        if self._bucket is not None and (result := self._bucket.limit(client)).limited:
            raise _too_often(result.state.retry_after)

    def _check_not_empty(self, client: str) -> None:
        if self._bucket is not None and not (state := self._bucket.peek(client)).remaining:
            raise _too_often(state.retry_after)

    def _warn_if_reachable(self, connection: HTTPConnection) -> None:
        if self._has_warned or connection.client is None or is_loopback(connection.client.host):
            return
        self._has_warned = True
        logger.warning(
            "Processes are open to everybody who reaches this address: %s asks, and no `authorize` was given",
            connection.client.host,
        )

    def _note(self, client: str, access: Access) -> None:
        if access.kind in CHANGES:
            of = "" if access.definition is None else f" of {access.definition!r}"
            logger.info("%s: %s process %r%s", client, access.kind.value, access.process_id, of)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # no address at all
        return None


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches *address*."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _bucket(rate: int, burst: int, clients: int) -> Throttled:
    # GCRA is the token bucket with one number per client. The library's "token_bucket" counts whole seconds.
    store = MemoryStore(options={"MAX_SIZE": clients})
    return Throttled(using="gcra", quota=Quota(Rate(timedelta(seconds=1), rate), burst), store=store)


def _too_often(retry_after: float) -> HTTPException:
    return HTTPException(429, "Too many requests", {"Retry-After": str(max(1, ceil(retry_after)))})
