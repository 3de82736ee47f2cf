"""Traces: one for each process, over every restart, exported by whatever SDK the program has."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider, Span, SpanKind, StatusCode, format_span_id, format_trace_id

from durable.journal import Kind
from durable.observer import Outcome
from durable.telemetry import Telemetry, trace_of
from tests.telemetry.driving import START, STARTED, Process, journal, record, run_action


class Machine:
    """One OS process: an SDK of its own, and a host's telemetry on it."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry(tracer_provider=self.provider)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def test_a_restart_goes_on_in_the_same_trace() -> None:
    """Three machines, the first two of which die: all spans are in one trace, under one root from start to end."""
    process = Process()
    first, second, third = Machine(), Machine(), Machine()
    first.telemetry.process_started(process, STARTED, here=True)
    run_action(first.telemetry, process, "registered")
    second.telemetry.process_resumed(process, journal(2))
    run_action(second.telemetry, process, "item-7/packed")
    third.telemetry.process_resumed(process, journal(3))
    third.telemetry.process_ended(process, record(4, Kind.COMPLETED, 90))
    root = third.spans["ship"]
    assert ids(root) == trace_of(7, "order-7", START)
    assert root.parent is None
    assert (root.start_time, root.end_time) == (START * 1000, (START + 90_000_000) * 1000)
    assert dict(facts(root)) == {
        "durable.process.id": "order-7",
        "durable.process.definition": "ship",
        "durable.process.outcome": "completed",
    }
    for step in (first.spans["registered"], second.spans["packed"]):
        assert ids(step)[0] == ids(root)[0]
        assert step.parent is not None
        assert step.parent.span_id == ids(root)[1]
        assert ids(step)[1] != ids(root)[1]
    assert facts(second.spans["packed"])["durable.checkpoint"] == "item-7/packed"


OTHERS = [(8, "order-7", START), (7, "order-8", START), (7, "order-7", START + 1)]


def test_ids_never_change() -> None:
    """The ids of a process are the same in every version: old and new hosts write into one trace."""
    trace_id, span_id = trace_of(7, "order-7", START)
    assert format_trace_id(trace_id) == "b1461148c935b5ca53ce513732707dd4"
    assert format_span_id(span_id) == "4cb2d50e41751366"
    assert len({trace_id, *(trace_of(*other)[0] for other in OTHERS)}) == 4


@pytest.mark.parametrize(
    ("kind", "outcome", "status"),
    [
        (Kind.COMPLETED, "completed", StatusCode.UNSET),
        (Kind.ERRED, "failed", StatusCode.ERROR),
        (Kind.CANCELLED, "cancelled", StatusCode.UNSET),
        (Kind.TERMINATED, "terminated", StatusCode.UNSET),
    ],
)
def test_the_root_says_how_it_ended(kind: Kind, outcome: str, status: StatusCode) -> None:
    """Each way to end has its word; only a failure is an error."""
    machine = Machine()
    machine.telemetry.process_started(Process(), STARTED, here=True)
    machine.telemetry.process_ended(Process(), record(2, kind, 1))
    root = machine.spans["ship"]
    assert facts(root)["durable.process.outcome"] == outcome
    assert root.status.status_code is status


def test_every_attempt_is_a_span() -> None:
    """A retried action has one span for each attempt, with its number, its error and how it ended."""
    machine, process = Machine(), Process()
    machine.telemetry.process_started(process, STARTED, here=True)
    run_action(machine.telemetry, process, "charged", error=ConnectionError("refused"))
    run_action(machine.telemetry, process, "charged", attempt=2, outcome=Outcome.LET_GO, error=TimeoutError())
    run_action(machine.telemetry, process, "charged", attempt=3)
    failed, let_go, done = machine.exporter.get_finished_spans()
    assert [facts(span)["durable.attempt"] for span in (failed, let_go, done)] == [1, 2, 3]
    assert [facts(span)["durable.action.outcome"] for span in (failed, let_go, done)] == ["failed", "let go", "done"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "ConnectionError: refused"
    assert [event.name for event in failed.events] == ["exception"]
    assert let_go.status.status_code is done.status.status_code is StatusCode.UNSET
    assert let_go.events == done.events == ()


def test_what_an_action_does_is_below_its_span() -> None:
    """Spans made inside the action, also in a thread that has its context, are children of its attempt."""
    machine, process = Machine(), Process()
    machine.telemetry.process_resumed(process, journal(2))

    def call() -> None:
        machine.provider.get_tracer("http").start_span("GET /").end()

    def call_in_thread() -> None:
        asyncio.run(asyncio.to_thread(call))

    for name, action in {"direct": call, "in a thread": call_in_thread}.items():
        machine.exporter.clear()
        run_action(machine.telemetry, process, name, action=action)
        inner, outer = machine.spans["GET /"], machine.spans[name]
        assert inner.parent is not None
        assert (inner.parent.trace_id, inner.parent.span_id) == ids(outer)
    assert not trace.get_current_span().get_span_context().is_valid


def test_actions_side_by_side_do_not_mix() -> None:
    """Two attempts that run at the same time, of two processes, each have their own span as the current one."""
    machine = Machine()
    one, other = Process(), Process(8, "order-8")
    for process in (one, other):
        machine.telemetry.process_started(process, STARTED, here=True)
    seen: list[Span] = []

    def outer() -> None:
        run_action(machine.telemetry, other, "inner", action=lambda: seen.append(trace.get_current_span()))
        seen.append(trace.get_current_span())

    run_action(machine.telemetry, one, "outer", action=outer)
    assert [span.get_span_context().trace_id for span in seen] == [
        trace_of(8, "order-8", START)[0],
        trace_of(7, "order-7", START)[0],
    ]


def test_starter_and_process_are_linked() -> None:
    """The request that starts a process and the process have each a link to the other, and traces of their own."""
    machine, process = Machine(), Process()
    tracer = machine.provider.get_tracer("web")
    with tracer.start_as_current_span("POST /orders") as request:
        machine.telemetry.process_started(process, STARTED, here=True)
    machine.telemetry.process_ended(process, record(2, Kind.COMPLETED, 1))
    root, web = machine.spans["ship"], machine.spans["POST /orders"]
    assert [(link.context.trace_id, link.context.span_id) for link in web.links] == [ids(root)]
    assert [link.context.span_id for link in root.links] == [request.get_span_context().span_id]
    assert ids(root)[0] != ids(web)[0]


def test_a_start_for_other_hosts_is_linked_too() -> None:
    """A client, or a host that is full, links its request with the process that will run elsewhere."""
    client, host, process = Machine(), Machine(), Process()
    with client.provider.get_tracer("web").start_as_current_span("POST /orders"):
        client.telemetry.process_started(process, STARTED, here=False)
    host.telemetry.process_resumed(process, [STARTED])
    host.telemetry.process_ended(process, record(2, Kind.COMPLETED, 1))
    (link,) = client.spans["POST /orders"].links
    assert (link.context.trace_id, link.context.span_id) == ids(host.spans["ship"])


def test_parent_and_child_are_linked() -> None:
    """The checkpoint that starts a child is a span of its parent, linked with the trace of the child, and back."""
    machine, parent, child = Machine(), Process(), Process(8, "order-7/label", "label")
    told = record(2, Kind.CHILD, 5)._replace(name="parcel-1/label")
    machine.telemetry.process_started(parent, STARTED, here=True)
    machine.telemetry.process_started(child, told._replace(seq=1, kind=Kind.STARTED), here=True)
    machine.telemetry.child_started(parent, told, child)
    machine.telemetry.process_ended(child, record(2, Kind.COMPLETED, 6))
    machine.telemetry.process_ended(parent, record(4, Kind.COMPLETED, 7))
    started, below, above = machine.exporter.get_finished_spans()
    assert (started.name, started.kind, started.parent and started.parent.span_id) == (
        "label",
        SpanKind.PRODUCER,
        ids(above)[1],
    )
    assert dict(facts(started)) == {
        "durable.process.id": "order-7",
        "durable.process.definition": "ship",
        "durable.checkpoint": "parcel-1/label",
        "durable.child.id": "order-7/label",
        "durable.child.definition": "label",
    }
    assert [(link.context.trace_id, link.context.span_id) for link in started.links] == [ids(below)]
    assert ids(below) == trace_of(8, "order-7/label", told.time)
    assert [(link.context.trace_id, link.context.span_id) for link in below.links] == [ids(started)]


def test_a_child_that_runs_elsewhere_is_linked_too() -> None:
    """The link to a child is written where it was started, and nothing is remembered of one that is not here."""
    first, second, child = Machine(), Machine(), Process(8, "order-7/label", "label")
    told = record(2, Kind.CHILD, 5)
    first.telemetry.process_started(Process(), STARTED, here=True)
    first.telemetry.process_started(child, told, here=False)
    first.telemetry.child_started(Process(), told, child)
    second.telemetry.process_resumed(child, [told])
    second.telemetry.process_ended(child, record(2, Kind.COMPLETED, 6))
    (started,) = first.exporter.get_finished_spans()
    assert [(link.context.trace_id, link.context.span_id) for link in started.links] == [ids(second.spans["label"])]
    assert second.spans["label"].links == ()


def test_each_life_is_a_trace() -> None:
    """A process that restarts itself ends one trace and begins another, and each is linked with the other."""
    machine, process = Machine(), Process()
    again = record(1, Kind.STARTED, 60)
    machine.telemetry.process_started(process, STARTED, here=True)
    machine.telemetry.process_restarted(process, again)
    run_action(machine.telemetry, process, "looked")
    machine.telemetry.process_ended(process, record(3, Kind.COMPLETED, 70))
    first, step, second = machine.exporter.get_finished_spans()
    assert (ids(first), ids(second)) == (trace_of(7, "order-7", START), trace_of(7, "order-7", again.time))
    assert facts(first)["durable.process.outcome"] == "restarted"
    assert ids(step)[0] == ids(second)[0]
    assert [link.context.span_id for link in first.links] == [ids(second)[1]]
    assert [link.context.span_id for link in second.links] == [ids(first)[1]]


@pytest.mark.parametrize("number", range(20))
def test_a_trace_is_sampled_as_a_whole(number: int) -> None:
    """With a ratio every host decides alike, before the root exists: all spans of a process are exported or none."""
    process = Process(number, f"order-{number}")
    sampler = ParentBased(TraceIdRatioBased(0.5))
    first, second = Machine(sampler=sampler), Machine(sampler=sampler)
    first.telemetry.process_started(process, STARTED, here=True)
    run_action(first.telemetry, process, "registered")
    second.telemetry.process_resumed(process, journal(2))
    second.telemetry.process_ended(process, record(3, Kind.COMPLETED, 1))
    assert len(first.spans) == len(second.spans)
    assert bool(first.spans) == (trace_of(number, process.id, START)[0] & (2**64 - 1) < 2**63)


def test_without_sampling_nothing_is_exported() -> None:
    """A sampler that says no is obeyed, and nothing fails for it."""
    machine, process = Machine(sampler=ALWAYS_OFF), Process()
    machine.telemetry.process_started(process, STARTED, here=True)
    run_action(machine.telemetry, process, "registered", error=ValueError())
    machine.telemetry.process_ended(process, record(3, Kind.ERRED, 1))
    assert machine.spans == {}


def test_other_spans_keep_their_ids() -> None:
    """Only our own tracer is told which ids to give; and two hosts of one program share it."""
    machine = Machine()
    again = Telemetry(tracer_provider=machine.provider)
    for telemetry, process in ((again, Process()), (machine.telemetry, Process(8, "order-8"))):
        telemetry.process_started(process, STARTED, here=True)
        telemetry.process_ended(process, record(2, Kind.COMPLETED, 1))
    machine.provider.get_tracer("web").start_span("mine").end()
    first, second, mine = machine.exporter.get_finished_spans()
    assert (ids(first), ids(second)) == (trace_of(7, "order-7", START), trace_of(8, "order-8", START))
    assert ids(mine)[0] not in (ids(first)[0], ids(second)[0])


def test_two_threads_do_not_get_the_ids_of_each_other() -> None:
    """Hosts in threads of their own may share one provider."""
    machine = Machine()

    def end(first: int) -> None:
        telemetry = Telemetry(tracer_provider=machine.provider)
        for key in range(first, first + 200):
            telemetry.process_started(Process(key, "order"), STARTED, here=True)
            telemetry.process_ended(Process(key, "order"), record(2, Kind.COMPLETED, 1))

    threads = [threading.Thread(target=end, args=(first,)) for first in (0, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {(ids(span)) for span in machine.exporter.get_finished_spans()}
    assert found == {trace_of(key, "order", START) for key in range(400)}


def test_without_an_sdk_nothing_is_traced(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that is not the SDK's makes no spans, says so, and every call is still answered."""
    with caplog.at_level(logging.INFO, "durable.telemetry"):
        telemetry = Telemetry(tracer_provider=NoOpTracerProvider())
    assert "not traced" in caplog.text
    telemetry.process_started(Process(), STARTED, here=True)
    run_action(telemetry, Process(), "registered")
    telemetry.process_ended(Process(), record(2, Kind.COMPLETED))
