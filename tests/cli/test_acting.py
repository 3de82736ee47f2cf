"""`raise`, `cancel`, `terminate`, `resume`: beside a running host of another OS process, and without one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durable import ProcessCancelled, ProcessClient, ProcessTerminated
from durable.cli.failures import ExitCode
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, stalled

ROOT = Path(__file__).parents[2]
HOST = """
import asyncio, sys
from datetime import timedelta
from durable import ProcessHost
from tests.cli import shop

async def main():
    definitions = [shop.listen, shop.work, shop.order]
    async with ProcessHost(sys.argv[1], definitions, park_after=timedelta(0), grace=timedelta(0)) as host:
        await host.start(shop.listen(), id="listen-1")
        await host.start(shop.work(), id="work-1")
        await host.start(shop.order(shop.Order(7, "tea")), id="order-1")
        print("ready", flush=True)
        await host.serve()

asyncio.run(main())
"""


@pytest.fixture
def host(url: str) -> Iterator[str]:
    """A host in another OS process, which has a process that listens, one that works, and one of its own classes."""
    path = {"PYTHONPATH": ":".join(sys.path)}
    words = [sys.executable, "-W", "ignore", "-c", HOST, url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield url
        process.terminate()
        assert process.wait(30) == 0


def result(url: str, id: str) -> object:
    """How a process ends, wherever it runs."""

    async def wait() -> object:
        async with ProcessClient(url) as client:
            return await client.get(id).result()

    return asyncio.run(wait())


def test_an_event_reaches_a_process_of_a_running_host(cli: Cli, host: str) -> None:
    """`raise` hands a process what it waits for; the payload is JSON."""
    answer = cli("raise", "listen-1", "paid", '{"by": ["card", 1.5, null]}')
    assert (answer.code, answer.output) == (0, "event 'paid' was raised for process 'listen-1'\n")
    assert result(host, "listen-1") == "{'by': ['card', 1.5, None]}"


def test_a_payload_may_be_what_json_has_not(cli: Cli, host: str) -> None:
    """A payload in the form of `JsonCodec` becomes the exact value."""
    assert cli("raise", "listen-1", "paid", '{"$tuple": [1, {"$timedelta": "1 0 0"}]}').code == 0
    assert result(host, "listen-1") == "(1, datetime.timedelta(days=1))"


def test_a_payload_may_be_of_a_class_of_the_application(cli: Cli, host: str) -> None:
    """With --app its classes are loaded, and an object of one can be written down."""
    order = '{"$object": ["tests.cli.shop:Order", {"number": 1, "what": "tea"}]}'
    assert cli("raise", "listen-1", "paid", order, "--app", "tests.cli.shop").code == 0
    assert result(host, "listen-1") == "Order(number=1, what='tea')"


def test_an_event_with_a_key_is_raised_once(cli: Cli, host: str) -> None:
    """--key de-duplicates: the journal takes the event once."""
    for _ in range(2):
        schemas.Done(**cli.json("raise", "order-1", "unheard", "1", "--key", "click-1"))
    assert cli("raise", "order-1", "paid", '"cash"').code == 0
    assert result(host, "order-1") == "cash"
    events = [event.name for event in schemas.Show(**cli.json("show", "order-1")).events]
    assert events == ["unheard", "paid"]


def test_cancel_stops_a_running_action(cli: Cli, host: str) -> None:
    """`cancel` reaches a process whose action runs at that moment in another OS process."""
    assert schemas.Done(**cli.json("cancel", "work-1", "--reason", "not wanted")).done == "cancel requested"
    with pytest.raises(ProcessCancelled, match="not wanted"):
        result(host, "work-1")
    assert schemas.Show(**cli.json("show", "work-1")).waiting.sentence.endswith("UTC: not wanted")


def test_terminate_ends_without_compensation(cli: Cli, host: str) -> None:
    """`terminate` ends a process; its reason stands in the journal."""
    assert schemas.Done(**cli.json("terminate", "listen-1", "--reason", "beyond help")).done == "terminate requested"
    with pytest.raises(ProcessTerminated, match="beyond help"):
        result(host, "listen-1")


def test_resume_does_nothing_where_nothing_is_stalled(cli: Cli, shop_store: str) -> None:
    """A process that runs has nothing to try again: it is told so, and no mail is left for it."""
    answer = cli("resume", "order-1")
    assert (answer.code, answer.output) == (0, "process 'order-1' is not stalled, so there is nothing to do\n")
    assert schemas.Done(**cli.json("resume", "order-1")).done == "nothing"
    assert schemas.Show(**cli.json("show", "order-1")).inbox == []
    assert cli("resume", "add-1").code == ExitCode.PROCESS  # it has ended


def test_a_payload_that_is_no_json_has_its_fix(cli: Cli, shop_store: str) -> None:
    """Text without its quotes is wrong usage, and the answer shows it with them, ready for the shell."""
    answer = cli("raise", "order-1", "paid", "it's paid", COLUMNS="200")
    assert answer.code == ExitCode.USAGE
    assert """text is written '"it'"'"'s paid"'""" in answer.error
    assert schemas.Show(**cli.json("show", "order-1")).inbox == []


def test_usage_has_capitals() -> None:
    """What is to be replaced stands in capitals, as in the document."""
    for command in ("raise", "export", "copy", "archive", "check"):
        usage = Cli("memory://usage")(command, "--help", COLUMNS="200").output.partition("Usage:")[2].splitlines()[0]
        arguments = usage.partition("[OPTIONS]")[2]
        assert arguments.strip()
        assert arguments == arguments.upper()


def test_resume_lets_a_stalled_process_try_again(cli: Cli, url: str) -> None:
    """A process that stalled for want of its definition is due again, and goes on with the host that has it."""

    async def start() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.add(1), id="add-1")

    asyncio.run(start())
    live(url, {}, stalled("add-1"), [shop.order])
    assert schemas.Show(**cli.json("show", "add-1")).summary.status == "stalled"
    assert schemas.Done(**cli.json("resume", "add-1")).done == "resume requested"
    assert schemas.Show(**cli.json("show", "add-1")).summary.place == "claimable"
    live(url, {}, lambda host: host.get("add-1").result(), [shop.add])
    assert schemas.Show(**cli.json("show", "add-1")).result == 2
