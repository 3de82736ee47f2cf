"""`Webhook`: one target as a host knows it. Journals know its name only."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from durable.errors import InvalidDefinition
from durable.retry import Retry
from durable.webhooks.signatures import signing_keys

# 5 s, 15 s, 45 s, … 12 hours: fifteen attempts in about three days, so that a weekend without the receiver is survived.
THREE_DAYS = Retry(15, delay=timedelta(seconds=5), factor=3, longest=timedelta(hours=12))


@dataclass(frozen=True, slots=True)
class Webhook:
    """
    Where messages go, and what they are signed with. Neither is ever written into a journal.

    Args:
        url: ``https://…`` (or ``http://…``: then others on the way can read along), without user and password.
        secret: As `new_secret` makes it; the old and the new one as a tuple while it is being replaced.
        retry: How often to try, with what pauses; its ``longest`` also limits what a ``Retry-After`` may ask for. Its
            ``on`` is not used.
        timeout: Longest time of one attempt, from looking up the name to the answer.
        allow_private: Let the address be one of this machine or a private network.
        tls: Instead of the public certificate authorities, for one of your own.

    Raises:
        InvalidDefinition: The URL, a secret, the retry or the timeout cannot be used.
    """

    url: str = field(repr=False)
    secret: str | tuple[str, ...] = field(repr=False)
    retry: Retry = THREE_DAYS
    timeout: timedelta = timedelta(seconds=15)
    allow_private: bool = False
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        signing_keys(self.secret)
        try:
            url = httpx.URL(self.url)
        except (httpx.InvalidURL, TypeError):
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise InvalidDefinition(
                "A webhook goes to an http or https URL with a host and without user and password",
                fix="write `Webhook('https://shop.example/hooks', secret)`; the signature says who sends",
            )
        if not isinstance(self.retry, Retry):
            raise InvalidDefinition(f"A webhook has retry={self.retry!r:.40}", fix="write `retry=Retry(…)`")
        if not isinstance(self.timeout, timedelta):
            raise InvalidDefinition(
                f"A webhook has timeout={self.timeout!r:.40}", fix="write `timeout=timedelta(seconds=…)`"
            )
        if self.timeout <= timedelta(0):
            raise InvalidDefinition(f"A webhook has a timeout that is not positive: {self.timeout}")
