"""Where messages go: to exactly the address that was checked, and into no private network unless it is wanted."""

from __future__ import annotations

import ssl
from datetime import timedelta

import pytest

from durable import InvalidDefinition, Retry
from durable.webhooks import Webhook, WebhookFailed, WebhookRefused, new_secret
from durable.webhooks.addresses import is_public
from durable.webhooks.delivery import post
from tests.webhooks.receiver import Names, Receiver

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "ff0e::1", "::ffff:127.0.0.1", "::127.0.0.1",
    "2002:7f00:1::", "64:ff9b::7f00:1", "2001:0:7f00:1::", "fe80::1%eth0",
    "fec0::1", "::ffff:10.0.0.1", "192.0.0.8", "192.88.99.1", "198.18.0.1", "2001:db8::1", "3fff::1", "::ffff:0:7f00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    """Loopback, private, link-local, multicast, reserved addresses, and IPv4 addresses hidden in IPv6, are private."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses(address: str) -> None:
    """Addresses of the internet are public."""
    assert is_public(address)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1"], ["8.8.8.8", "127.0.0.1"]])
async def test_private_targets_are_refused(
    addresses: list[str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public name that leads to a private address, among others too, is refused before anything is connected."""
    Names(monkeypatch, shop_example=[addresses])
    with pytest.raises(WebhookRefused) as caught:
        await post("shop", Webhook(receiver.url("shop.example"), new_secret()), "id", b"{}")
    assert caught.value.address == addresses[-1]
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost"])
async def test_other_ways_to_write_this_machine(host: str, receiver: Receiver) -> None:
    """An address written as a number or a name of this machine is what the system makes of it: private."""
    with pytest.raises(WebhookRefused):
        await post("shop", Webhook(receiver.url(host), new_secret()), "id", b"{}")
    assert receiver.connections == 0


async def test_the_name_is_looked_up_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another address the next time gains nothing: the checked one is connected, with its name."""
    names = Names(monkeypatch, shop_example=[["127.0.0.1"], ["10.0.0.1"]])
    webhook = Webhook(receiver.url("shop.example"), new_secret(), allow_private=True)
    assert await post("shop", webhook, "id", b"{}") == 204
    assert names.lookups == ["shop.example"]
    assert receiver.received[0].headers["host"] == f"shop.example:{receiver.server_port}"
    assert receiver.received[0].path == "/hooks?token=not-for-journals"


async def test_the_next_address_is_tried(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first address of a name refuses the connection, the second one gets the message."""
    Names(monkeypatch, shop_example=[["127.0.0.2", "127.0.0.1"]])
    webhook = Webhook(receiver.url("shop.example"), new_secret(), allow_private=True)
    assert await post("shop", webhook, "id", b"{}") == 204


async def test_no_proxy_is_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment, which would look the name up again, is not used."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await post("shop", Webhook(receiver.url(), new_secret(), allow_private=True), "id", b"{}") == 204


async def test_certificates_are_those_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS the certificate is checked against the name in the URL, though an address is connected."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    servers, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("shop.example").configure_cert(servers)
    authority.configure_trust(ours)
    Names(monkeypatch, shop_example=[["127.0.0.1"]], bank_example=[["127.0.0.1"]])
    with Receiver(tls=servers) as receiver:

        async def send(host: str, tls: ssl.SSLContext | None) -> int:
            url = receiver.url(host, "https")
            return await post("shop", Webhook(url, new_secret(), allow_private=True, tls=tls), "id", b"{}")

        assert await send("shop.example", ours) == 204
        with pytest.raises(WebhookFailed, match=r"bank\.example"):
            await send("bank.example", ours)
        with pytest.raises(WebhookFailed, match="certificate verify failed"):
            await send("shop.example", None)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url", ["ftp://shop.example", "shop.example", "https://", "https://ann:pw@shop.example", "http://shop:port", ""]
)
def test_bad_urls_are_refused_and_not_shown(url: str) -> None:
    """Only http and https, with a host and without credentials."""
    with pytest.raises(InvalidDefinition) as caught:
        Webhook(url, new_secret())
    assert "ann" not in str(caught.value)


def test_a_picture_of_a_webhook_has_no_secrets() -> None:
    """Neither the secret nor the URL, which may hold a token, is in what logs show of a target."""
    secret = new_secret()
    webhook = Webhook("https://shop.example/a-token", secret, retry=Retry(3), timeout=timedelta(seconds=3))
    assert secret not in repr(webhook)
    assert "a-token" not in repr(webhook)
