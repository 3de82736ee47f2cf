"""
Where a message may go: what a name means is looked up once, checked, and exactly that is connected to.

If the name were looked up again for the connection, whoever owns it could answer with a public address first and with
one inside our network then.

Looking up is a call that blocks for as long as the name servers like, so each has a daemon thread of its own. On those
of asyncio's default executor a few names that nobody answers for would keep all others waiting, and the program from
its exit.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from durable.errors import WebhookFailed, WebhookRefused

# What some Pythons call global and nobody on the internet has: protocol assignments, relays of 6to4, documentation, and
# the private addresses that IPv6 had before it had others.
_NOT_PUBLIC = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "fec0::/10")))

_MOST = 100  # names that are looked up at a time
_under_way: dict[str, Future[list[str]]] = {}
_lock = threading.Lock()


async def addresses_of(target: str, host: str, *, timeout: timedelta, allow_private: bool) -> list[str]:
    """
    The addresses of *host*, in the order the system prefers.

    Raises:
        WebhookFailed: The name could not be looked up, or not before *timeout*.
        WebhookRefused: One of the addresses is not public, and *allow_private* is not set.
    """
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            addresses = await asyncio.wrap_future(_look_up(host))
    except TimeoutError:
        message = f"The host of webhook {target!r} is not found within {timeout.total_seconds():g} s"
        raise WebhookFailed(message, target=target) from None
    except (OSError, UnicodeError) as error:
        raise WebhookFailed(f"The host of webhook {target!r} is not found: {error}", target=target) from None
    # One private address among public ones is no accident that should depend on which of them answers.
    refused = [] if allow_private else [address for address in addresses if not is_public(address)]
    if refused:
        raise WebhookRefused(
            f"Webhook {target!r} leads to {refused[0]}, which is not a public address",
            target=target,
            address=refused[0],
            fix="if it is meant to, write `Webhook(…, allow_private=True)`",
        )
    return addresses


def _look_up(host: str) -> Future[list[str]]:
    """The addresses of *host*, asked for on a thread; of a look-up that is under way already there is no second one."""
    with _lock:
        if (found := _under_way.get(host)) is not None:
            return found
        if len(_under_way) >= _MOST:
            raise OSError(f"{_MOST} other names are being looked up")
        found = Future()
        found.set_running_or_notify_cancel()  # from now on who gives up waiting does not take it from the others
        try:
            threading.Thread(target=_ask, args=[host, found], name=f"look-up {host}", daemon=True).start()
        except RuntimeError as error:  # no thread is to be had: tried again, as every look-up that fails
            raise OSError(str(error)) from error
        _under_way[host] = found
        return found


def _ask(host: str, found: Future[list[str]]) -> None:
    addresses: list[str] = []
    failure: Exception | None = None
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in answers))
    except Exception as error:
        failure = error
    with _lock:
        del _under_way[host]
    if failure is None:
        found.set_result(addresses)
    else:
        found.set_exception(failure)


def is_public(text: str) -> bool:
    """Whether an address is one of the internet, and not of this machine, its network, or a tunnel into one."""
    address = ip_address(text)
    # Older Pythons call 6to4 addresses and multicast global; 4-in-6 forms, NAT64 among them, are in reserved ranges.
    tunnelled = isinstance(address, IPv6Address) and address.sixtofour is not None
    special = address.is_multicast or address.is_reserved or tunnelled
    return address.is_global and not special and not any(address in network for network in _NOT_PUBLIC)
