"""One attempt to deliver one message: a request to an address that was checked, and what its answer means."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

import httpx

from durable.errors import WebhookFailed, WebhookRefused
from durable.webhooks.addresses import addresses_of
from durable.webhooks.signatures import signed_headers, signing_keys
from durable.webhooks.target import Webhook

_LONGEST = 200  # characters of a failure that are shown
_PASSING = (408, 429)  # of the answers below 500, those that say: later


async def post(target: str, webhook: Webhook, id: str, body: bytes) -> int:
    """
    Send the message once; return the status of the answer, which is 2xx. Nothing else of the answer is looked at.

    Raises:
        WebhookFailed: It may go better later.
        WebhookRefused: It will not.
    """
    url = httpx.URL(webhook.url)
    host = url.raw_host.decode("ascii")
    addresses = await addresses_of(target, host, timeout=webhook.timeout, allow_private=webhook.allow_private)
    headers = {
        "host": url.netloc.decode("ascii"),
        "content-type": "application/json",
        "user-agent": "durable-webhooks",
        "connection": "close",
        **signed_headers(signing_keys(webhook.secret), id, int(time.time()), body),
    }
    seconds = webhook.timeout.total_seconds()
    # A transport of its own, so that no proxy of the environment is asked: it would look the name up again.
    transport = httpx.AsyncHTTPTransport(verify=webhook.tls or _public_authorities())
    timeout = httpx.Timeout(seconds, connect=seconds / len(addresses))
    failure: httpx.TransportError | None = None
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
        for address in addresses:
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": host},  # the certificate is that of the name
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error  # nothing was sent: perhaps the next address answers
                continue
            except httpx.TransportError as error:
                failure = error
                break
            await answer.aclose()
            return _judged(target, answer)
    raise WebhookFailed(f"Webhook {target!r} could not be reached: {_shown(failure)}", target=target) from None


def _shown(failure: httpx.TransportError | None) -> str:
    """The failure without most of what a receiver may have put into it: it is journaled at every attempt."""
    text = repr(failure)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _judged(target: str, answer: httpx.Response) -> int:
    status = answer.status_code
    if answer.is_success:
        return status
    said = f"Webhook {target!r} answered {status} {answer.reason_phrase:.60}".rstrip()
    if status in _PASSING or answer.is_server_error:
        seconds = _retry_after(answer.headers.get("retry-after", ""))
        raise WebhookFailed(said, target=target, status=status, retry_after=seconds)
    if answer.is_redirect:
        fix = "redirects are not followed: give the URL it leads to"
    else:
        fix = "mend the URL, the secret or the receiver, and send it again by starting another delivery"
    raise WebhookRefused(said, target=target, status=status, fix=fix)


def _retry_after(header: str) -> float | None:
    """The seconds in a ``Retry-After``: a number, or a date."""
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds)


@cache
def _public_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()
