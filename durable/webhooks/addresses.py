"""
Where a message may go: what a name means is looked up once, checked, and exactly that is connected to.

If the name were looked up again for the connection, whoever owns it could answer with a public address first and with
one inside our network then.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv6Address, ip_address, ip_network

from durable.errors import WebhookFailed, WebhookRefused

# What some Pythons call global and nobody on the internet has: protocol assignments, relays of 6to4, documentation, and
# the private addresses that IPv6 had before it had others.
_NOT_PUBLIC = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "fec0::/10")))


async def addresses_of(target: str, host: str, port: int, *, allow_private: bool) -> list[str]:
    """
    The addresses of *host*, in the order the system prefers.

    Raises:
        WebhookFailed: The name could not be looked up.
        WebhookRefused: One of the addresses is not public, and *allow_private* is not set.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise WebhookFailed(f"The host of webhook {target!r} is not found: {error}", target=target) from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
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


def is_public(text: str) -> bool:
    """Whether an address is one of the internet, and not of this machine, its network, or a tunnel into one."""
    address = ip_address(text)
    # Older Pythons call 6to4 addresses and multicast global; 4-in-6 forms, NAT64 among them, are in reserved ranges.
    tunnelled = isinstance(address, IPv6Address) and address.sixtofour is not None
    special = address.is_multicast or address.is_reserved or tunnelled
    return address.is_global and not special and not any(address in network for network in _NOT_PUBLIC)
