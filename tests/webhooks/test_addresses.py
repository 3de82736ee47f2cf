"""Where messages go: to exactly the address that was checked, and into no private network unless it is wanted."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from durable import InvalidDefinition, ProcessHost, Retry
from durable.webhooks import Webhook, WebhookFailed, WebhookRefused, Webhooks, new_secret
from durable.webhooks.addresses import is_public
from durable.webhooks.delivery import post
from tests.webhooks.receiver import SOON, Names, Receiver

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


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that begin with "silent" are looked up for as long as the test lasts; which of them are."""
    names: list[str] = []
    is_over = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: Any, *given: Any, **options: Any) -> Any:
        if not str(host).startswith("silent"):
            return real(host, *given, **options)
        names.append(host)
        assert is_over.wait(SOON)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield names
    is_over.set()


async def test_names_that_nobody_answers_for_hold_up_no_others(receiver: Receiver, silence: list[str]) -> None:
    """Beside many look-ups that do not end, more than asyncio has threads, a message to another name is delivered."""
    silent = [f"http://silent-{number}.example" for number in range(40)]
    attempts = [asyncio.create_task(post("shop", Webhook(url, new_secret()), "id", b"{}")) for url in silent]
    await asyncio.sleep(0)  # they begin
    webhook = Webhook(receiver.url("localhost"), new_secret(), allow_private=True)
    assert await asyncio.wait_for(post("shop", webhook, "id", b"{}"), SOON / 2) == 204
    assert len(silence) == len(silent)
    for attempt in attempts:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)


async def test_a_look_up_has_a_time_limit_and_one_thread(silence: list[str]) -> None:
    """The timeout of an attempt covers the look-up; attempts on one name wait for one look-up, and not for ever."""
    webhook = Webhook("http://silent.example", new_secret(), timeout=timedelta(seconds=0.1))
    for _ in range(3):
        with pytest.raises(WebhookFailed, match=r"not found within 0\.1 s"):
            await asyncio.wait_for(post("shop", webhook, "id", b"{}"), SOON / 2)
    assert silence == ["silent.example"]


async def test_a_machine_without_threads_is_a_passing_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the attempt fails as one that is made again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(WebhookFailed, match="new thread"):
        await post("shop", Webhook("http://any.example", new_secret()), "id", b"{}")


def test_a_look_up_does_not_hold_the_exit() -> None:
    """A program whose look-up does not end leaves at once."""
    program = """
import asyncio, socket, threading
from datetime import timedelta
from durable.webhooks import Webhook, WebhookFailed, new_secret
from durable.webhooks.delivery import post
socket.getaddrinfo = lambda *given, **options: threading.Event().wait()
try:
    asyncio.run(post("shop", Webhook("http://a.example", new_secret(), timeout=timedelta(seconds=0.1)), "id", b"{}"))
except WebhookFailed:
    print("given up", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SOON, check=True)
    assert ended.stdout == "given up\n"


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


@pytest.mark.parametrize(("option", "fix"), [("timeout", "timedelta"), ("retry", "Retry")])
def test_numbers_are_no_options(option: str, fix: str) -> None:
    """A bare number, of whatever unit it may be, is refused where it is written, with what to write instead."""
    wrong: dict[str, Any] = {option: 5}
    with pytest.raises(InvalidDefinition, match=rf"{option}=5\n.*{fix}\("):
        Webhook("https://shop.example", new_secret(), **wrong)


async def test_a_bare_url_is_no_target() -> None:
    """A URL instead of a `Webhook` is refused: at once in a mapping, and a function that gives one fails deliveries."""
    url: Any = "https://shop.example/a-token"
    with pytest.raises(InvalidDefinition, match="Webhook 'shop' is str and no `Webhook`") as caught:
        Webhooks({"shop": url})
    assert "a-token" not in str(caught.value)
    webhooks = Webhooks(lambda name: url)
    async with ProcessHost("memory://bare-url", [webhooks.deliver]) as host:
        with pytest.raises(InvalidDefinition, match="no `Webhook`"):
            await (await host.start(webhooks.deliver("shop", "order.shipped"))).result()
