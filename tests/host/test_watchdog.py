"""A process that blocks the event loop of its host is named while it does, with the line where it stands."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from durable import Process, ProcessHost, process
from durable._host.watchdog import Watchdog
from tests.host.staging import SOON, until_it_waits


class Rescue(logging.Handler):
    """Frees who stands in the way as soon as there is a warning about it, and keeps that."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warned = threading.Event()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "stand_in_the_way" in record.getMessage():  # on a busy machine any step may be slow
            self.records.append(record)
            self.warned.set()


@pytest.fixture
def rescue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rescue]:
    """What hears the watchdog, which loses its patience soon."""
    monkeypatch.setattr("durable._host.engine.holding.Watchdog", partial(Watchdog, patience=0.01))
    handler = Rescue()
    logger = logging.getLogger("durable.host")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def stand_in_the_way(rescue: Rescue) -> bool:
    return rescue.warned.wait(SOON.total_seconds())


def check(rescue: Rescue) -> None:
    [record] = rescue.records
    assert record.levelno == logging.WARNING
    assert "Process 'slow' blocks the event loop" in record.getMessage()
    assert "rescue.warned.wait(" in record.getMessage()
    assert record.process_id == "slow"  # type: ignore[attr-defined]


async def test_a_process_that_blocks_is_named_with_its_stack(url: str, rescue: Rescue) -> None:
    """The warning comes while the process blocks, once, and shows the line to change."""

    @process
    async def slow(proc: Process) -> bool:
        await proc.get(1, "begin")
        return stand_in_the_way(rescue)

    async with ProcessHost(url, [slow]) as host:
        assert await (await host.start(slow(), id="slow")).result(SOON)
    check(rescue)


async def test_a_process_that_blocks_while_it_is_replayed_is_named(url: str, rescue: Rescue) -> None:
    """As in its own life, so when its journal is replayed into another host."""
    lives = 0

    @process
    async def slow(proc: Process) -> None:
        nonlocal lives
        lives += 1
        if lives == 2:
            assert stand_in_the_way(rescue)
        await proc.event("go")

    async with ProcessHost(url, [slow]) as host:
        await host.start(slow(), id="slow")
        await until_it_waits(host, "slow", "event")
    async with ProcessHost(url, [slow]) as host:
        await host.raise_event("slow", "go")
        await host.get("slow").result(SOON)
    check(rescue)
