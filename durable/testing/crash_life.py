"""
One life of a crash test: what runs in the forked child, until it is killed or has reported what is in the store.

Two things of the library are replaced in this OS process, which exists for nothing else: what opens a store by its URL
(so that the scenario, and any program it calls, gets one that kills), and the start of an attempt (so that every action
is traced without asking its author for it).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import durable.client
from durable._host.actions.actions import Actions, Attempt
from durable.errors import StorageError
from durable.storage import JournalStorage, open_storage
from durable.testing.crash_points import Fuse, KillAt, KillPoint, Moment
from durable.testing.crash_trace import Trace, describe, digest

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Stage:
    """
    Where a scenario plays.

    Attributes:
        url: Of the store: give it to `ProcessHost`, `ProcessClient` or a program that makes them.
        directory: For files of its own; what a life leaves there is found by the next.
        life: 0 for the first run, 1 for the first one after a kill, and so on.
    """

    url: str
    directory: Path
    life: int


Scenario = Callable[[Stage], Awaitable[object]]
Wrapper = Callable[[JournalStorage], JournalStorage]


@dataclass(frozen=True, slots=True)
class Order:
    """What the fork server is told about one life; plain values, so that it goes through a pipe as JSON."""

    scenario: str
    url: str
    directory: str
    life: int
    seconds: float
    write: int = 0
    moment: str = ""
    wrapper: str = ""
    stopped: bool = False  # stop (SIGSTOP) before anything else, until told to go on

    @property
    def report(self) -> Path:
        return Path(self.directory, f"report-{self.life}.json")

    def read_report(self) -> dict[str, Any]:
        """What the life has reported at its end."""
        return dict(json.loads(self.report.read_text(encoding="utf-8")))

    @property
    def trace(self) -> Path:
        return Path(self.directory, "trace.jsonl")

    @property
    def log(self) -> Path:
        return Path(self.directory, f"log-{self.life}.txt")

    @property
    def point(self) -> KillPoint | None:
        return KillPoint(self.write, Moment(self.moment)) if self.write else None


def name_of(thing: object) -> str:
    """How another OS process finds a function or class: "module:qualified.name"."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or name is None or module == "__main__" or "<" in name:
        raise ValueError(f"{thing!r:.80} cannot be imported by another OS process: put it at the top level of a module")
    return f"{module}:{name}"


def find(name: str) -> Any:
    """The function or class `name_of` named."""
    module, _, qualified = name.partition(":")
    return attrgetter(qualified)(import_module(module))


def live(order: Order) -> None:
    """Run the scenario, then report. Ends this OS process."""
    status = 1
    try:
        _redirect(order.log)
        if order.stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        signal.alarm(int(order.seconds) + 10)  # if even the event loop hangs
        trace = Trace(order.trace, order.life)
        _instrument(order, trace)
        report = asyncio.run(_play(order))
        unfinished = order.report.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(report), encoding="utf-8")
        unfinished.rename(order.report)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)


def _instrument(order: Order, trace: Trace) -> None:
    fuse = Fuse(order.point, trace)
    wrapper: Wrapper | None = find(order.wrapper) if order.wrapper else None

    def open_killing(url: str) -> JournalStorage:
        storage = open_storage(url)
        return KillAt(storage if wrapper is None else wrapper(storage), fuse, trace)

    call = Actions._call

    def call_traced(self: Actions, attempt: Attempt) -> Any:
        step = attempt.step
        trace.write("action", process=step.process_id, checkpoint=step.checkpoint, attempt=step.attempt)
        return call(self, attempt)

    setattr(durable.client, "open_storage", open_killing)  # noqa: B010 (an assignment would be an error of types)
    setattr(Actions, "_call", call_traced)  # noqa: B010


async def _play(order: Order) -> dict[str, Any]:
    scenario: Scenario = find(order.scenario)
    known = set(sys.modules)
    stage = Stage(order.url, Path(order.directory), order.life)
    outcome, error = "", ""
    try:
        async with asyncio.timeout(order.seconds):
            outcome = repr(await scenario(stage))
    except Exception:
        error = traceback.format_exc()
    processes: list[dict[str, Any]] = []
    try:
        processes = await _read_store(order.url)
    except StorageError:
        error += traceback.format_exc()
    return {"outcome": outcome, "error": error, "processes": processes, "modules": sorted(set(sys.modules) - known)}


async def _read_store(url: str) -> list[dict[str, Any]]:
    """All there is in the store, read by an object of its own when every host of the scenario has left."""
    storage = open_storage(url)
    await storage.open()
    try:
        processes: list[dict[str, Any]] = []
        before: int | None = None
        while page := await storage.rows(limit=_PAGE, before=before):
            for row in page:
                records = [describe(record) for record in await storage.journal(row.key)]
                inbox = [{"name": item.name, "digest": digest(item.payload)} for item in await storage.inbox(row.key)]
                facts = {"key": row.key, "id": row.id, "definition": row.definition, "status": row.status.value}
                processes.append({**facts, "records": records, "inbox": inbox})
            before = page[-1].key
        return processes
    finally:
        await storage.close()
