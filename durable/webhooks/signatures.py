"""
Signing and verifying as Standard Webhooks says: HMAC-SHA256 over id, time and body, in three headers.

Needs nothing but the standard library, so receivers can use it as it is. The specification's own Python package leaves
`ValueError` to be caught for headers that are nonsense, and its tolerance is fixed; the tests compare with it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from durable.errors import InvalidDefinition, InvalidSignature

_PREFIX = "whsec_"
_SHORTEST = 24  # bytes of a secret, as the specification wants it
_VERSION = "v1,"


def new_secret() -> str:
    """A new random secret, to be given to both sides and to nobody else."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signing_keys(secret: str | tuple[str, ...]) -> tuple[bytes, ...]:
    """
    What signs, of a secret or several as they are written down.

    Raises:
        InvalidDefinition: One of them is not ``whsec_`` and base64 of 24 bytes or more, and is not shown. Or there is
            none, and everybody could say to be the sender.
    """
    if not secret:
        raise InvalidDefinition("A webhook has no secret", fix="make one with `durable.webhooks.new_secret()`")
    return tuple(_signing_key(one) for one in ((secret,) if isinstance(secret, str) else secret))


def _signing_key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not secret.startswith(_PREFIX) or len(key) < _SHORTEST:
        raise InvalidDefinition(
            f"The secret of a webhook is {_PREFIX!r} and base64 of {_SHORTEST} bytes or more, and this one is not",
            fix="make one with `durable.webhooks.new_secret()`",
        )
    return key


def signed_headers(keys: tuple[bytes, ...], id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that go with *body*: a signature for each of *keys*, so that a receiver may have the old or new."""
    signatures = " ".join(_sign(key, id, str(timestamp), body) for key in keys)
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def verify(
    secret: str | tuple[str, ...],
    headers: Mapping[str, str],
    body: bytes,
    tolerance: timedelta = timedelta(minutes=5),
) -> dict[str, Any]:
    """
    Check that a message comes from who has the secret, unchanged and lately; return what is in it.

    The same message may come twice. Its ``id`` is the same then: take it once.

    Args:
        secret: The secret, or the old and the new one while it is being replaced.
        headers: Those of the request, in upper or lower case.
        body: The body of the request, byte for byte: not parsed and written again.
        tolerance: How far apart the clocks of both sides may be, and how long a recorded message can be played again.

    Raises:
        InvalidSignature: Do not believe it; answer 400.
        InvalidDefinition: *secret* is not one.
    """
    keys = signing_keys(secret)
    own = {name.lower(): value for name, value in headers.items()}
    try:
        id, timestamp, signatures = (own[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise InvalidSignature(f"The message has no header {missing.args[0]!r}") from None
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        raise InvalidSignature("The time of the message is not a number of seconds")
    expected = [_sign(key, id, timestamp, body).encode() for key in keys]
    given = [_bytes(one) for one in signatures.split(" ")]
    # In constant time, so that nobody learns from the time how much of a guess was right.
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise InvalidSignature("No signature of the message fits its id, time and body", fix="compare the secrets")
    if abs(time.time() - int(timestamp)) > tolerance.total_seconds():
        raise InvalidSignature(
            f"The message was sent at {timestamp}, which is more than {tolerance} away",
            fix="set the clocks; if they are right, somebody plays an old message again",
        )
    message: dict[str, Any] = json.loads(body)
    return message


def _sign(key: bytes, id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(key, b".".join((_bytes(id), timestamp.encode(), body)), "sha256")
    return _VERSION + base64.b64encode(digest).decode()


def _bytes(header: str) -> bytes:
    """A header as bytes; a server may have read bytes that are no text into lone surrogates."""
    return header.encode(errors="surrogatepass")
