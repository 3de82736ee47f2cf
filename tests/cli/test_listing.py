"""`ps`: filters, limits, JSON, what it costs, and watching."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durable import Status
from durable.insight import Insight
from durable.storage import JournalStorage
from durable.testing.storage_proxy import StorageProxy
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, settled, with_store

ROOT = Path(__file__).parents[2]


def test_it_lists_processes_newest_first(cli: Cli, shop_store: str) -> None:
    """Each process has a line with its id, definition and status; the newest comes first; the last line counts."""
    lines = cli("ps").output.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["broken-1", "add-1"]
    assert [line.split()[2] for line in lines[1:3]] == ["failed", "completed"]
    assert lines[-1] == "8 processes"


def test_it_says_where_a_process_is_from_its_row_alone(cli: Cli, shop_store: str) -> None:
    """A parked process shows when it wakes, a pending one which hosts may take it, an ended one when it ended."""
    rows = {line.split()[0]: line for line in cli("ps").output.splitlines()[1:-1]}
    assert "parked until 20" in rows["order-1"]
    assert "1/3 reserving" in rows["order-1"]
    assert "parked, until something comes for it" in rows["listen-1"]
    assert "at 20" in rows["add-1"]


def test_filters_and_limit(cli: Cli, shop_store: str) -> None:
    """Status (several), definition and limit narrow the listing; the total is what the filters leave."""
    ended = schemas.Ps.model_validate(cli.json("ps", "--status", "completed", "--status", "failed"))
    assert [process.id for process in ended.processes] == ["broken-1", "add-1"]
    assert [process.id for process in schemas.Ps(**cli.json("ps", "--name", "order")).processes] == ["order-1"]
    page = schemas.Ps(**cli.json("ps", "--limit", "2"))
    assert (len(page.processes), page.total) == (2, 8)


def test_json_keeps_its_schema(cli: Cli, shop_store: str) -> None:
    """Every process of every kind fits the documented schema."""
    places = {process.place for process in schemas.Ps(**cli.json("ps")).processes}
    assert places == {"parked", "ended"}


def test_an_empty_store_has_an_empty_listing(cli: Cli, url: str) -> None:
    """No process is not an error."""
    with_store(url, lambda storage: storage.count())
    assert cli("ps").output == "0 processes\n"
    assert cli.json("ps") == {"processes": [], "total": 0}


class Counting(StorageProxy):
    """Notes what the store is asked for."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("row", "rows", "count", "journal", "inbox"):
            self.asked.append(name)
        return super().__getattribute__(name)


def test_a_listing_costs_two_queries(url: str, shop_store: str) -> None:
    """However many processes are listed, the store is asked twice, and no journal is read."""

    async def look(storage: JournalStorage) -> tuple[int, list[str]]:
        counting = Counting(storage)
        page = await Insight(counting).processes(status=[Status.RUNNING, Status.COMPLETED])
        return len(page.processes), counting.asked

    assert with_store(url, look) == (7, ["rows", "count"])


def test_pages_follow_each_other(url: str, shop_store: str) -> None:
    """`before` goes on where the page before ended, for listings longer than a page."""

    async def look(storage: JournalStorage) -> list[str]:
        insight = Insight(storage)
        first = await insight.processes(limit=5)
        second = await insight.processes(limit=5, before=first.processes[-1].id)
        return [process.id for page in (first, second) for process in page.processes]

    assert len(set(with_store(url, look))) == 8


def test_what_could_steer_a_terminal_is_shown_escaped(cli: Cli, url: str) -> None:
    """Ids are data: no markup, no escape sequence and no line break of theirs has an effect."""
    live(url, {"[red]\x1b[31m\n": shop.add(1)}, settled("[red]\x1b[31m\n"))
    answer = cli("ps")
    assert "\x1b" not in answer.output
    assert answer.output.splitlines()[1].startswith("[red]\\x1b[31m\\n")


@pytest.mark.parametrize("as_json", [True, False])
def test_watching_shows_each_change(url: str, shop_store: str, as_json: bool) -> None:
    """Beside the command that watches, another OS process starts and raises; each change is seen; Ctrl-C ends it."""
    words = [sys.executable, "-W", "ignore", "-m", "durable.cli", "ps", "--url", url, "--watch", "--name", "add"]
    with subprocess.Popen(
        words + ["--json"] * as_json,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as watcher:
        assert watcher.stdout is not None

        def seen() -> int:
            while line := watcher.stdout.readline():  # type: ignore[union-attr]
                if as_json:
                    return int(schemas.Ps(**json.loads(line)).total)
                if line.startswith(("1 process", "2 process")):
                    return int(line.split()[0])
            return 0

        assert seen() == 1
        live(url, {"add-2": shop.add(1)}, lambda host: host.get("add-2").result())
        assert seen() == 2
        watcher.send_signal(2)
        assert watcher.wait(30) == 130


def test_watching_on_a_terminal(url: str, shop_store: str) -> None:
    """On a terminal the listing stays in place and follows each change; Ctrl-C gives the terminal back."""
    words = [sys.executable, "-W", "ignore", "-m", "durable.cli", "ps", "--url", url, "--watch", "--name", "add"]
    controller, terminal = os.openpty()
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "120", "LINES": "10"}
    with subprocess.Popen(words, stdout=terminal, stderr=terminal, cwd=ROOT, env=environment) as watcher:
        os.close(terminal)

        def until(text: bytes) -> bytes:
            seen = b""
            while text not in seen:
                seen += os.read(controller, 4096)
            return seen

        assert b"\x1b[?1049h" in until(b"1 process")  # the other screen of the terminal
        live(url, {"add-2": shop.add(1)}, lambda host: host.get("add-2").result())
        assert b"add-2" in until(b"2 processes")
        watcher.send_signal(2)
        until(b"\x1b[?1049l")
        assert watcher.wait(30) == 130
    os.close(controller)


def test_a_closed_pipe_is_no_error_to_talk_about(url: str, shop_store: str) -> None:
    """`durable ps | head` ends quietly when nobody reads on."""
    command = f"{sys.executable} -W ignore -m durable.cli history order-1 --url {url} | true"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    piped = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, env=path, check=False)
    assert piped.stderr == ""


def test_a_held_process_shows_its_session(cli: Cli, url: str) -> None:
    """A process shows the session that holds it, also when its host has stopped and no other one has taken it."""

    async def look(host: object) -> None:
        answer = await asyncio.to_thread(cli, "ps")
        assert re.search(r"held by session \d+$", answer.output, re.MULTILINE)

    live(url, {"work-1": shop.work()}, look)
    answer = cli("ps")
    assert re.search(r"held by session \d+$", answer.output, re.MULTILINE)
    assert "memory" not in answer.output
