"""Deliveries: each message arrives, signed, under one id, however often it takes, and failures are final or pass."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from durable import Process, ProcessHost, Retry, process
from durable.housekeeping import Retention, keep_house
from durable.testing.clock import ManualClock
from durable.webhooks import Webhook, WebhookFailed, WebhookRefused, Webhooks, new_secret, verify
from durable.webhooks.delivery import post
from durable.webhooks.webhooks import _Patient
from tests.webhooks.receiver import Answer, Names, Receiver

SECRET = new_secret()
QUICK = Retry(5, delay=timedelta(milliseconds=1), longest=timedelta(milliseconds=5))


def webhooks_to(receiver: Receiver, **options: Any) -> Webhooks:
    settings: dict[str, Any] = {"retry": QUICK, "allow_private": True} | options
    return Webhooks({"shop": Webhook(receiver.url(), SECRET, **settings)})


async def delivered(url: str, webhooks: Webhooks, target: str = "shop") -> int:
    async with ProcessHost(url, [webhooks.deliver]) as host:
        handle = await host.start(webhooks.deliver(target, "order.shipped", {"parcel": 17}, "order-1"), id="news")
        return await handle.result()


async def test_a_message_is_delivered_once(url: str, receiver: Receiver) -> None:
    """The receiver gets one request, signed with the secret, and it says what has happened to whom and when."""
    before = datetime.now(UTC)
    assert await delivered(url, webhooks_to(receiver)) == 204
    assert await delivered(url, webhooks_to(receiver)) == 204  # the same process: it has ended
    (received,) = receiver.received
    message = verify(SECRET, received.headers, received.body)
    assert message.pop("id") == received.headers["webhook-id"]
    assert before <= datetime.fromisoformat(message.pop("timestamp")) <= datetime.now(UTC)
    assert message == {"type": "order.shipped", "process": "order-1", "data": {"parcel": 17}}
    assert received.headers["content-type"] == "application/json"


async def test_a_target_may_be_a_url_that_a_caller_gave(url: str, receiver: Receiver) -> None:
    """A function instead of a mapping makes a target of any name."""
    webhooks = Webhooks(lambda target: Webhook(target, SECRET, allow_private=True))
    assert await delivered(url, webhooks, receiver.url()) == 204
    (received,) = receiver.received
    assert verify(SECRET, received.headers, received.body)["type"] == "order.shipped"


@pytest.mark.parametrize("answer", [Answer(503), Answer(500), Answer(429), Answer(408), Answer(None)])
async def test_what_may_pass_is_tried_again(url: str, answer: Answer) -> None:
    """While the receiver is busy or hangs up, attempts follow, each signed anew, with one id and one body."""
    with Receiver(answer, answer) as receiver:
        assert await delivered(url, webhooks_to(receiver)) == 204
    assert len(receiver.received) == 3
    assert len({(received.headers["webhook-id"], received.body) for received in receiver.received}) == 1
    for received in receiver.received:
        verify(SECRET, received.headers, received.body)


async def test_a_refused_connection_is_tried_again(
    url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing listens where the name leads, attempts follow; each looks the name up again."""
    names = Names(monkeypatch, shop_example=[["127.0.0.2"], ["127.0.0.3"], ["127.0.0.1"]])
    webhook = Webhook(receiver.url("shop.example"), SECRET, retry=QUICK, allow_private=True)
    assert await delivered(url, Webhooks({"shop": webhook})) == 204
    assert len(names.lookups) == 3


async def test_a_silent_receiver_is_left(url: str) -> None:
    """An attempt that takes longer than the timeout is given up, and the next one made."""
    with Receiver(Answer(after=threading.Event())) as receiver:
        assert await delivered(url, webhooks_to(receiver, timeout=timedelta(seconds=0.3))) == 204
        receiver.answers.clear()
        assert len(receiver.received) == 2


async def test_the_rest_of_an_answer_is_not_read(url: str) -> None:
    """A receiver that answers and goes on sending for ever is left after its headers, and the delivery has ended."""
    with Receiver(Answer(200, endless=True), Answer(503, endless=True)) as receiver:
        assert await delivered(url, webhooks_to(receiver)) == 200
        with pytest.raises(WebhookFailed, match="503"):
            await post("shop", Webhook(receiver.url(), SECRET, allow_private=True), "id", b"{}")


async def test_nonsense_is_journaled_in_short(url: str) -> None:
    """What a receiver says instead of HTTP is a failure that may pass, and of which little is kept."""
    nonsense = Answer(raw=b"nonsense " * 10_000 + b"\r\n\r\n")
    with Receiver(nonsense) as receiver:
        assert await delivered(url, webhooks_to(receiver)) == 204
        receiver.answers.append(nonsense)
        with pytest.raises(WebhookFailed) as caught:
            await post("shop", Webhook(receiver.url(), SECRET, allow_private=True), "id", b"{}")
    assert len(str(caught.value)) < 400


async def test_an_id_that_comes_again_is_another_message(tmp_path: Path, receiver: Receiver) -> None:
    """After a purge the id of a process may be used again: a receiver that keeps ids takes its message, too."""
    store = f"sqlite:///{tmp_path / 'processes.db'}"
    for _ in range(2):
        assert await delivered(store, webhooks_to(receiver)) == 204
        await keep_house(store, Retention(timedelta(0), None))
    first, second = receiver.received
    assert first.headers["webhook-id"] != second.headers["webhook-id"]


async def test_attempts_come_to_an_end(url: str) -> None:
    """After the last attempt the delivery fails and says why."""
    with Receiver(*[Answer(503)] * 9) as receiver:
        with pytest.raises(WebhookFailed, match="'shop' answered 503 Service Unavailable"):
            await delivered(url, webhooks_to(receiver))
        assert len(receiver.received) == QUICK.attempts


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_a_refusal_is_final(url: str, status: int) -> None:
    """An answer that says the message itself is not wanted fails the delivery at once."""
    with Receiver(Answer(status)) as receiver:
        with pytest.raises(WebhookRefused, match=f"'shop' answered {status}") as caught:
            await delivered(url, webhooks_to(receiver))
        assert caught.value.status == status
        assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(url: str, status: int, receiver: Receiver) -> None:
    """A redirect, which could lead into a private network, is a refusal, and nothing is sent where it leads."""
    with (
        Receiver(Answer(status, (("location", receiver.url()),))) as redirecting,
        pytest.raises(WebhookRefused, match="redirects are not followed"),
    ):
        await delivered(url, webhooks_to(redirecting))
    assert receiver.connections == 0


async def test_private_addresses_fail_at_once(url: str, receiver: Receiver) -> None:
    """A delivery to a private address ends without an attempt to connect."""
    with pytest.raises(WebhookRefused, match="not a public address"):
        await delivered(url, webhooks_to(receiver, allow_private=False))
    assert receiver.connections == 0


async def test_an_unknown_target_is_waited_for(url: str, receiver: Receiver) -> None:
    """A delivery to a target that no host knows yet is made once one does: nothing is lost by a late deploy."""
    clock = ManualClock()
    unknown, known = Webhooks({}), webhooks_to(receiver)
    async with ProcessHost(url, [unknown.deliver], clock=clock) as host:
        await host.start(unknown.deliver("shop", "order.shipped"), id="news")
        await clock.advance(timedelta(hours=1))
        attempts = [entry for entry in await host.get("news").history() if entry.kind == "ATTEMPT"]
        assert len(attempts) > 3
    async with ProcessHost(url, [known.deliver], clock=clock) as host:
        await clock.advance(timedelta(hours=12))
        assert await host.get("news").result() == 204


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("99999999999999999999", 20),
        (timedelta(days=-1), 1),
        (timedelta(days=1), 20),
        ("soon", 1),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", 1),
        ("-5", 1),
    ],
)
async def test_a_receiver_may_ask_for_time(header: str | timedelta, seconds: float) -> None:
    """`Retry-After`, in seconds or as a date, makes a pause longer, up to the longest pause, and never shorter."""
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    with Receiver(Answer(429, (("retry-after", header),))) as receiver:
        webhook = Webhook(receiver.url(), SECRET, allow_private=True)
        with pytest.raises(WebhookFailed) as caught:
            await post("shop", webhook, "id", b"{}")
    patient = _Patient.like(Retry(2, longest=timedelta(seconds=20), jitter=0))
    assert patient.next_delay(1, caught.value, 0) == timedelta(seconds=seconds)
    assert patient.next_delay(2, caught.value, 0) is None


async def test_another_host_goes_on(tmp_path: Path) -> None:
    """A host killed between request and answer leaves a delivery that another one makes again, under the same id."""
    store = f"sqlite:///{tmp_path / 'processes.db'}"
    forever = threading.Event()
    with Receiver(Answer(after=forever)) as receiver:
        command = [sys.executable, "-m", "tests.webhooks.killed", store, receiver.url(), SECRET]
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(command, env=os.environ | paths) as sender:
            first = await receiver.next()
            sender.kill()
        webhooks = webhooks_to(receiver)
        async with ProcessHost(store, [webhooks.deliver]) as host:
            assert await host.get("news").result() == 204
        forever.set()
        second = await receiver.next()
    assert sender.returncode == -9
    assert len(receiver.received) == 2
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    verify(SECRET, second.headers, second.body)


async def test_no_secret_is_in_the_store(tmp_path: Path) -> None:
    """Neither the secret in any form nor the URL gets into a file, whatever the deliveries come to."""
    for number, answer in enumerate([Answer(), Answer(503), Answer(400), Answer(None)]):
        with Receiver(*[answer] * 2) as receiver:
            webhooks = webhooks_to(receiver, retry=Retry(2, delay=timedelta(0)))
            try:
                await delivered(f"sqlite:///{tmp_path / f'{number}.db'}", webhooks)
            except (WebhookFailed, WebhookRefused):
                assert answer.status != 204
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"order.shipped" in written
    encoded = SECRET.removeprefix("whsec_")
    for secret in (encoded.encode(), base64.b64decode(encoded), b"not-for-journals", b"/hooks"):
        assert secret not in written


@process
async def ship(proc: Process, webhooks_of: str) -> int:
    """Tells twice, and waits for the second one."""
    webhooks = KNOWN[webhooks_of]
    await webhooks.notify(
        proc, "shop", "order.packed", {datetime(2026, 11, 21, tzinfo=UTC): (1, b"\xff", float("nan"))}
    )
    second = await webhooks.notify(proc.scope("later"), "shop", "order.shipped")
    return await second.result()


KNOWN: dict[str, Webhooks] = {}


async def test_a_process_tells(url: str, receiver: Receiver) -> None:
    """`notify` sends what a process says, in its name, any value as JSON; the process may wait for it or not."""
    webhooks = KNOWN[url] = webhooks_to(receiver)
    async with ProcessHost(url, [ship, webhooks.deliver]) as host:
        assert await (await host.start(ship(url), id="order-1")).result() == 204
        await host.get("order-1/webhook order.packed to shop").result()
    messages = [verify(SECRET, received.headers, received.body) for received in receiver.received]
    assert len({message["id"] for message in messages}) == 2
    assert {message["process"] for message in messages} == {"order-1"}
    told = {message["type"]: message["data"] for message in messages}
    assert told == {"order.packed": {"2026-11-21T00:00:00Z": [1, "_w==", "NaN"]}, "order.shipped": None}
