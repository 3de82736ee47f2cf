"""Traces over real crashes: a host is killed with `kill -9`, and what others write fits what it has written."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

from durable import ProcessHost
from durable.telemetry import Telemetry
from tests.telemetry.killed import Go, child, lives, parent


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/processes.db"


class Host:
    """A host here, with an SDK of its own."""

    def __init__(self, store: str, *definitions: Any) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.host = ProcessHost(store, definitions, observer=Telemetry(tracer_provider=provider))

    def span(self, name: str) -> ReadableSpan:
        return next(span for span in self.exporter.get_finished_spans() if span.name == name)

    def names(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


@asynccontextmanager
async def killed(store: str) -> AsyncIterator[subprocess.Popen[str]]:
    """The host of `tests.telemetry.killed`, killed at the end of the block."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.telemetry.killed", store]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as there:
        try:
            yield there
        finally:
            there.kill()


async def written(there: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next span of this name that the host in the other OS process writes."""
    lines = there.stdout
    assert lines is not None
    return await asyncio.to_thread(lambda: next(span for span in map(json.loads, lines) if span["name"] == name))


def hexadecimal(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return "0x" + format_trace_id(span.context.trace_id), "0x" + format_span_id(span.context.span_id)


async def test_a_child_over_a_crash(store: str) -> None:
    """The parent links to the trace of its child, though the host that ran the child was killed in the middle."""
    first, last = Host(store, parent), Host(store, parent, child)
    async with first.host as host:
        await host.start(parent(), id="order")
        async with killed(store) as there:
            before = await written(there, "acted")
    async with last.host as host:
        await host.raise_event("order/sub/child", Go, "on")
        assert await host.get("order").result() == "on"
    started = first.exporter.get_finished_spans()[0]
    above, below = last.span("parent"), last.span("child")
    assert (before["context"]["trace_id"], before["parent_id"]) == hexadecimal(below)
    assert started.parent is not None and above.context is not None and below.context is not None
    assert (started.name, started.parent.span_id) == ("child", above.context.span_id)
    assert [(link.context.trace_id, link.context.span_id) for link in started.links] == [
        (below.context.trace_id, below.context.span_id)
    ]
    # The last action runs again if the kill came before its record; the start of the child is told once.
    assert [name for name in last.names() if name != "acted"] == ["child", "parent"]


async def test_a_parent_over_a_crash(store: str) -> None:
    """A parent that is replayed does not write again that it has started a child."""
    first, last = Host(store, parent), Host(store, parent, child)
    async with first.host as host:
        await host.start(parent(), id="order")
        while not first.names():
            await host.get("order").status()
    async with last.host as host:
        await host.raise_event("order/sub/child", Go, "on")
        assert await host.get("order").result() == "on"
    assert first.names() == ["child"]
    assert sorted(last.names()) == ["acted", "child", "parent"]


async def test_a_next_life_over_a_crash(store: str) -> None:
    """The life that is over links to the next one, though the host was killed right after."""
    last = Host(store, lives)
    async with ProcessHost(store, [parent]) as client:
        await client.start(lives(1), id="poller")
        async with killed(store) as there:
            before = await written(there, "lives")
            acted = await written(there, "acted")
    async with last.host as host:
        await host.raise_event("poller", Go, "on")
        assert await host.get("poller").result() == "on"
    after = last.span("lives")
    assert [(link["context"]["trace_id"], link["context"]["span_id"]) for link in before["links"]] == [
        hexadecimal(after)
    ]
    assert (acted["context"]["trace_id"], acted["parent_id"]) == hexadecimal(after)
    assert before["context"]["trace_id"] != acted["context"]["trace_id"]
