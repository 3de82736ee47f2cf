"""The command line in this OS process, and stores for it to look into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from typer.testing import CliRunner

from durable import AnyDefinition, Invocation, ProcessHost
from durable.cli.program import app
from durable.storage import JournalStorage, Status, open_storage
from tests.cli import shop

T = TypeVar("T")


class Answer(NamedTuple):
    """What a command said and how it ended."""

    code: int
    output: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


class Cli:
    """Runs commands on one store: ``cli("show", "order-1")``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *words: str, **environment: str) -> Answer:
        result = CliRunner().invoke(app, list(words), env={"DURABLE_URL": self.url, **environment}, prog_name="durable")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def json(self, *words: str) -> Any:
        """The answer of a command that succeeds, in JSON."""
        answer = self(*words, "--json")
        assert answer.code == 0, answer
        return answer.json


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'processes.db'}"


@pytest.fixture
def cli(url: str) -> Cli:
    return Cli(url)


def with_store(url: str, ask: Callable[[JournalStorage], Awaitable[T]]) -> T:
    """What *ask* finds out of an open store."""

    async def run() -> T:
        storage = open_storage(url)
        await storage.open()
        try:
            return await ask(storage)
        finally:
            await storage.close()

    return asyncio.run(run())


def live(
    url: str,
    started: dict[str, Invocation[Any]],
    until: Callable[[ProcessHost], Awaitable[object]],
    definitions: Iterable[AnyDefinition] = shop.definitions,
    **options: Any,
) -> None:
    """A life of a host that starts processes by their ids, and goes when *until* returns."""

    async def run() -> None:
        options.setdefault("park_after", timedelta(0))
        async with ProcessHost(url, definitions, grace=timedelta(0), **options) as host:
            for id, invocation in started.items():
                await host.start(invocation, id=id)
            await until(host)

    asyncio.run(run())


def stalled(*ids: str) -> Callable[[ProcessHost], Awaitable[object]]:
    """Return once each of these is stalled."""

    async def wait(host: ProcessHost) -> None:
        for id in ids:
            async for status in host.get(id).watch():
                if status.status is Status.STALLED:
                    break

    return wait


def settled(*ids: str) -> Callable[[ProcessHost], Awaitable[object]]:
    """Return once each of these, started by this host, is parked or has ended."""

    async def wait(host: ProcessHost) -> None:
        for id in ids:
            while (status := await host.get(id).status()).status is Status.RUNNING and status.resident:
                await asyncio.sleep(0.005)  # parking is told to nobody: look until it is done

    return wait


def restarted(id: str) -> Callable[[ProcessHost], Awaitable[object]]:
    """Return once this patrol has begun its second life and waits in it."""

    async def wait(host: ProcessHost) -> None:
        await host.raise_event(id, "bell")
        while (await host.get(id).history())[0].value[2] != (1,):
            await asyncio.sleep(0.005)
        await settled(id)(host)

    return wait


@pytest.fixture
def shop_store(url: str) -> str:
    """A store with one process in each state that outlives its host."""
    started: dict[str, Invocation[Any]] = {
        "order-1": shop.order(shop.Order(7, "tea")),
        "charge-1": shop.charge(),
        "listen-1": shop.listen(),
        "rest-1": shop.rest(),
        "doze-1": shop.doze(),
        "hurry-1": shop.hurry(),
        "add-1": shop.add(2, right=3),
        "broken-1": shop.break_down(),
    }
    live(url, started, settled(*started))
    return url
