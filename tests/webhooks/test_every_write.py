"""A webhook, from the process that tells to the answer, killed with `kill -9` at every write in turn."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest

from durable import Process, ProcessHost, process
from durable.testing.crash import Stage, kill_at_every_write
from durable.webhooks import Webhook, Webhooks, new_secret
from tests.webhooks.receiver import Receiver

pytestmark = pytest.mark.slow

PORT = "DURABLE_TEST_WEBHOOK_PORT"


async def pack(proc: Process) -> int:
    """Does nothing; that it has ended is the news."""
    return 17


async def notified(stage: Stage) -> object:
    """The receiver knows by the path which story a message belongs to."""
    url = f"http://127.0.0.1:{os.environ[PORT]}/{stage.directory.name}"
    webhooks = Webhooks({"shop": Webhook(url, new_secret(), allow_private=True)})
    told = process(webhooks.notified("shop")(pack))
    async with ProcessHost(stage.url, [told, webhooks.deliver]) as host:
        result = await (await host.start(told(), id="order")).result()
        return result, await host.get("order/webhook/end").result()


def test_a_webhook_survives_any_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the host is killed, the message arrives; what comes twice has the same id and body."""
    with Receiver() as receiver:
        monkeypatch.setenv(PORT, str(receiver.server_port))
        report = kill_at_every_write(notified, tmp_path)
        report.check()
    stories = defaultdict(list)
    for received in receiver.received:
        stories[received.path].append((received.headers["webhook-id"], received.body))
    assert len(stories) == len(report.stories) + 1  # and one without any kill
    assert all(len(set(messages)) == 1 for messages in stories.values())
    assert any(len(messages) == 2 for messages in stories.values())  # killed between answer and record
