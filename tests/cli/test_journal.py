"""docs/journal.md shows what `durable history` prints: its lines are made here by real processes, of every kind."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from durable import AnyDefinition, Process, ProcessHost, Retry, Status, process
from durable.journal import Kind
from tests.cli.conftest import Cli, live

TEXT = (Path(__file__).parents[2] / "docs" / "journal.md").read_text()
# What is different in each run: times, and the version of Python in the first record.
VARYING = [
    (r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", "MOMENT"),
    (r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d\d", "TIME"),
    (r"'3\.\d+'", "PYTHON"),
]

tries: list[str] = []


def reserve() -> str:
    """Fails the first time."""
    tries.append("reserved")
    if len(tries) == 1:
        raise TimeoutError("the warehouse is silent")
    return "shelf 7"


def charge() -> None:
    raise ValueError("no such card")


@process(timeout=timedelta(days=7))
async def order(proc: Process, item: str) -> None:
    """Leaves nearly every kind of record."""
    await proc.get(lambda: 42, "number")
    await proc.do(reserve, "reserved", retry=Retry(2, delay=timedelta(0)))
    try:
        await proc.do(charge, "charged")
    except ValueError:
        await proc.do(lambda: "on its way", "letter sent", at_most_once=True)
    await proc.event("paid", timeout=timedelta(days=2))
    await proc.delay(timedelta(milliseconds=1), "a moment")
    await asyncio.sleep(0.001)
    await proc.call(pack(item), "packed")
    await proc.event("returned")


@process
async def pack(proc: Process, item: str) -> str:
    """Ends at once."""
    return f"{item} in a box"


@process
async def lose(proc: Process) -> None:
    """Fails at once."""
    raise LookupError("no shelf")


@process
async def wait(proc: Process) -> None:
    """Waits for what never comes."""
    await proc.event("never")


DEFINITIONS: list[AnyDefinition] = [order, pack, lose, wait]


def without_times(lines: list[str]) -> list[list[str]]:
    """The words of each line, what varies replaced."""
    text = "\n".join(lines)
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return [line.split() for line in text.splitlines()]


async def recorded(host: ProcessHost, id: str, kind: str) -> None:
    """Return once the journal has a record of this kind."""
    while kind not in [entry.kind for entry in await host.get(id).history()]:
        await asyncio.sleep(0.005)  # a record is told to nobody: look until it is there


@pytest.fixture
def lives(cli: Cli) -> Cli:
    """A store in which an order was cancelled, a box packed, something lost, and one terminated."""

    async def act(host: ProcessHost) -> None:
        await recorded(host, "order-1", "TIMER")
        await host.raise_event("order-1", "paid", "by card", key="click-1")
        await recorded(host, "order-1", "RETURNED")
        await host.cancel("order-1", "changed her mind")
        await host.terminate("wait-1", "beyond help")
        for id in ("order-1", "lose-1", "wait-1"):
            async for status in host.get(id).watch():
                if status.status is not Status.RUNNING:
                    break

    tries.clear()
    started = {"order-1": order("tea"), "lose-1": lose(), "wait-1": wait()}
    live(cli.url, started, act, DEFINITIONS, park_after=timedelta(days=1))
    return cli


def test_the_lines_are_those_of_real_processes(lives: Cli) -> None:
    """Each example line is what the command prints for such a process, apart from times."""
    (block,) = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    shown = [line for line in block.splitlines() if line.strip() and not line.startswith("$")]
    printed = [line for id in ("order-1", "order-1/packed", "lose-1", "wait-1") for line in history(lives, id)]
    assert without_times(shown) == without_times(printed)


def history(cli: Cli, id: str) -> list[str]:
    """What the command prints for one process."""
    return cli("history", id).output.splitlines()


def test_every_kind_is_explained_and_shown() -> None:
    """Each kind of record has its line in the table, with its number, and at least one example."""
    table = re.findall(r"^\| (\d+) \| `(\w+)` \|", TEXT, re.MULTILINE)
    assert [(int(number), name) for number, name in table] == [(int(kind), kind.name) for kind in Kind]
    examples = re.findall(r"^\d+ +20\S+ \S+ +(\w+)", TEXT, re.MULTILINE)
    assert set(examples) == {kind.name for kind in Kind}
