"""A real host tells an observer everything that happens: one trace over restarts, and metrics that add up."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from durable import Event, Process, ProcessClient, ProcessHost, ProcessTerminated, Retry, current_step, process
from durable.errors import SessionLost, StorageError
from durable.journal import Kind
from durable.observer import Observer, Outcome
from durable.storage import Batch, BatchResult, open_storage
from durable.telemetry import Telemetry
from durable.testing.storage_proxy import StorageProxy
from tests.telemetry.hearing import Hearing

Paid = Event("paid", str)
MOMENT = timedelta(milliseconds=1)


def current_trace() -> str:
    return format_trace_id(trace.get_current_span().get_span_context().trace_id)


def charge() -> str:
    if current_step().attempt == 1:
        raise ConnectionError("refused")
    return current_trace()


@process
async def order(proc: Process) -> tuple[str, str]:
    charged = await proc.do(charge, "charged", retry=Retry(3, delay=MOMENT))
    await proc.event(Paid)
    await proc.delay(MOMENT, "a moment")
    return charged, await proc.do(send, "sent")


async def send() -> str:
    return current_trace()


@process
async def wait(proc: Process) -> str:
    return await proc.event(Paid)


@process
async def family(proc: Process) -> str:
    child = await proc.start(wait(), id="child")
    return await child.result()


@process
async def first_life(proc: Process) -> None:
    await proc.do(send, "sent")
    await proc.restart(next_life())


@process
async def next_life(proc: Process) -> str:
    return await proc.do(send, "sent")


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4()}"


class Machine:
    """One OS process: an SDK of its own, a telemetry on it, and who hears the same."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        meters = MeterProvider(metric_readers=[self.reader])
        self.hearing = Hearing(Telemetry(tracer_provider=self.provider, meter_provider=meters))

    def points(self) -> dict[tuple[str, ...], Any]:
        """Sums, and counts of histograms, by name and attributes."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found: dict[tuple[str, ...], Any] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                where = (metric.name, *map(str, (point.attributes or {}).values()))
                found[where] = point.value if isinstance(point, NumberDataPoint) else point.count
        return found


async def test_one_trace_over_two_hosts(tmp_path: Path) -> None:
    """Begun and parked on one host and ended on another: one trace, linked with who started it, and sums that fit."""
    store = f"sqlite:///{tmp_path}/processes.db"
    first, second = Machine(), Machine()
    async with ProcessHost(store, [order], observer=first.hearing, park_after=MOMENT) as host:
        with first.provider.get_tracer("web").start_as_current_span("PUT /orders/1"):
            await host.start(order(), id="1")
        await first.hearing.has_heard("process_parked", "1")
    async with ProcessHost(store, [order], observer=second.hearing) as host:
        await host.raise_event("1", Paid, "ann")
        seen = await host.get("1").result()
    before, after = first.exporter.get_finished_spans(), second.exporter.get_finished_spans()
    request = next(span for span in before if span.name == "PUT /orders/1")
    attempts = [span for span in before if span.name == "charged"]
    sent, root = after
    assert [span.name for span in after] == ["sent", "order"]
    assert [span.attributes and span.attributes["durable.action.outcome"] for span in attempts] == ["failed", "done"]
    assert root.context is not None
    assert set(seen) == {format_trace_id(root.context.trace_id)}
    assert [span.parent and span.parent.span_id for span in (*attempts, sent)] == [root.context.span_id] * 3
    assert [link.context.trace_id for link in request.links] == [root.context.trace_id]
    here, there = first.points(), second.points()
    assert here["durable.process.started", "order"] == here["durable.process.parked", "order"] == 1
    assert there["durable.process.resumed", "order"] == there["durable.process.ended", "order", "completed"] == 1
    assert here["durable.process.residents", "order"] == there["durable.process.residents", "order"] == 0
    assert here["durable.action.running", "order"] == there["durable.action.running", "order"] == 0
    assert there["durable.timer.lag", "order"] == 1
    assert here["durable.batch.records",] > 0


async def test_children_are_told_when_they_are_durable(url: str) -> None:
    """A child starts outside of every context, parent and child end once, and nobody is left in memory."""
    machine = Machine()
    async with ProcessHost(url, [family, wait], observer=machine.hearing) as host:
        with machine.provider.get_tracer("web").start_as_current_span("PUT /families/1"):
            handle = await host.start(family(), id="parent")
        await machine.hearing.has_heard("process_started", "child")
        await host.raise_event("child", Paid, "ann")
        assert await handle.result() == "ann"
    hearing = machine.hearing
    assert [hearing.story(id) for id in ("parent", "child")] == [["process_started", "process_ended"]] * 2
    assert [call.here for call in hearing.of("process_started")] == [True, True]
    assert [(call.facts[0].id, call.facts[1].name, call.facts[2].id) for call in hearing.of("child_started")] == [
        ("parent", "wait", "child")
    ]
    request = next(span for span in machine.exporter.get_finished_spans() if span.name.startswith("PUT"))
    assert [link.attributes and link.attributes["durable.process.id"] for link in request.links] == ["parent"]


async def test_a_next_life_of_another_definition(url: str) -> None:
    """A restart is told with the life that is over, and what is in memory is counted for the next from there on."""
    machine = Machine()
    async with ProcessHost(url, [first_life, next_life], observer=machine.hearing) as host:
        await (await host.start(first_life(), id="1")).result()
    (told,) = machine.hearing.of("process_restarted")
    assert (told.facts[0].definition, told.facts[1].kind, told.facts[1].name) == (
        "first_life",
        Kind.STARTED,
        "next_life",
    )
    assert machine.hearing.story("1") == ["process_started", "process_restarted", "process_ended"]
    points = machine.points()
    assert points["durable.process.residents", "first_life"] == points["durable.process.residents", "next_life"] == 0
    assert points["durable.process.ended", "first_life", "restarted"] == 1
    assert points["durable.process.ended", "next_life", "completed"] == 1


async def test_a_next_life_that_is_not_served_here(url: str) -> None:
    """A host that cannot run the next life of a process has released it."""
    hearing = Hearing()
    async with ProcessHost(url, [first_life], observer=hearing) as host:
        await host.start(first_life(), id="1")
        await hearing.has_heard("process_released", "1")
    assert hearing.story("1")[:3] == ["process_started", "process_restarted", "process_released"]
    assert hearing.of("process_resumed") == []


async def test_a_process_that_is_unknown_here(url: str) -> None:
    """A host without the definition tells that a process is stalled; one that is to be terminated comes and ends."""
    hearing, watcher = Hearing(), Hearing()
    async with ProcessClient(url, observer=watcher) as client:
        for id in ("lost", "unwanted"):
            await client.start(wait(), id=id)
        await client.terminate("unwanted", "a mistake")
        async with ProcessHost(url, [order], queues=["default"], observer=hearing):
            await hearing.has_heard("process_stalled", "lost")
            with pytest.raises(ProcessTerminated):
                await client.get("unwanted").result()
    assert [call.here for call in watcher.of("process_started")] == [False, False]
    assert "wait" in hearing.of("process_stalled", "lost")[0].facts[1]
    assert hearing.story("unwanted") == ["process_resumed", "process_ended"]
    assert hearing.of("process_ended")[0].facts[1].kind is Kind.TERMINATED


async def test_leaving_a_host_tells_each_process_once(url: str) -> None:
    """Whatever waits, runs, or is just being written when a host leaves: each process in memory leaves it once."""
    hearing = Hearing()
    begun, goes_on = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        goes_on.wait(30)

    @process
    async def busy(proc: Process) -> None:
        await proc.do(block, "blocked")

    @process
    async def quick(proc: Process) -> str:
        return await proc.do(send, "sent")

    async with ProcessHost(url, [busy, quick, wait], observer=hearing, grace=MOMENT) as host:
        await host.start(wait(), id="waiting")
        await host.start(busy(), id="busy")
        await asyncio.to_thread(begun.wait, 30)
        await asyncio.gather(*(host.start(quick(), id=f"quick-{number}") for number in range(50)))
    goes_on.set()
    await hearing.has_heard("action_ended", count=len(hearing.of("action_started")))
    assert hearing.unbalanced() == {}
    assert hearing.story("waiting") == hearing.story("busy") == ["process_started", "process_released"]
    (ended,) = (call for call in hearing.of("action_ended") if call.facts[0].process_id == "busy")
    assert ended.facts[1] is Outcome.LET_GO


async def test_a_lost_session(url: str) -> None:
    """A session that is declared dead is told before what it held is released; the next one takes it up again."""
    hearing = Hearing()
    storage = open_storage(url)
    host = ProcessHost(storage, [wait], observer=hearing)
    async with host:
        handle = await host.start(wait(), id="1")
        session = host._session.id
        await storage.end_session(session)  # as another host would do after the lease
        with pytest.raises(SessionLost):
            await host.raise_event("1", Paid, "lost")
        await hearing.has_heard("process_resumed", "1")
        await host.raise_event("1", Paid, "ann")
        assert await handle.result() == "ann"
    assert [call.facts for call in hearing.of("session_lost")] == [(session,)]
    names = [call.name for call in hearing.calls]
    assert names.index("session_lost") < names.index("process_released") < names.index("process_resumed")
    assert hearing.unbalanced() == {}


async def test_batches(url: str) -> None:
    """A batch that is refused, and the same one when it is committed in the end, each with how long that took."""

    class Refusing(StorageProxy):
        refuses = False

        async def commit(self, batch: Batch) -> BatchResult:
            if self.refuses:
                self.refuses = False
                raise StorageError("The disk is gone")
            return await super().commit(batch)

    hearing, storage = Hearing(), Refusing(open_storage(url))
    async with ProcessHost(storage, [wait], observer=hearing) as host:
        handle = await host.start(wait(), id="1")
        storage.refuses = True
        with pytest.raises(StorageError):
            await host.start(wait(), id="2")
        await host.raise_event("1", Paid, "ann")
        assert await handle.result() == "ann"
    (failed,) = hearing.of("batch_failed")
    assert isinstance(failed.facts[2], StorageError)
    seconds = [call.facts[1] for call in (*hearing.of("batch_committed"), failed)]
    assert all(0 <= length < 30 for length in seconds)
    records = [record.kind for call in hearing.of("batch_committed") for _, record in call.facts[0].records]
    assert records == [Kind.EVENT, Kind.TAKEN]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_broken_observer(url: str, error: type[BaseException]) -> None:
    """An observer of which every method fails, or is cancelled, changes nothing of what a host does."""

    class Broken(Observer):
        def __getattribute__(self, name: str) -> Any:
            def fail(*facts: object, **more: object) -> None:
                raise error(name)

            return object.__getattribute__(self, name) if name.startswith("_") else fail

    async with ProcessHost(url, [order, family, wait, first_life, next_life], observer=Broken()) as host:
        handle, parent = await host.start(order(), id="1"), await host.start(family(), id="2")
        await host.raise_event("1", Paid, "ann")
        assert await handle.result() == (format_trace_id(0), format_trace_id(0))
        while (await host.get("2").status()).waits_for != ("child 'wait'",):
            await asyncio.sleep(0)
        await host.raise_event("child", Paid, "ann")
        assert await parent.result() == "ann"
        await host.start(first_life(), id="3")
        assert await host.get("3").result() == format_trace_id(0)
