"""
One trace for each process, whatever hosts it ran on and however often these were restarted.

The ids of the trace and of its root span are made from what stands in the journal: key, id, and the time of the first
record. So every host knows them without having been told: spans of actions are children of a root that may be written
months later, by another host. The root is written when the process ends, from its start to its end. An attempt that a
crash cut off leaves no span; the one that runs again does.

A process is not a child of the request or the process that started it, since it may live long after that: the two are
linked. A process that begins a next life begins a new trace, linked with the one before, or an endless one would never
be seen. Who comes first (the starter, the life before) has the link in a span that is over right then, so it stays,
whatever crashes later. The link back is written at the end of who comes later, and its journal does not say where it
leads: only the host that has seen both writes it.
"""

from __future__ import annotations

from contextvars import ContextVar
from hashlib import sha256

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from durable.journal import Kind, Record
from durable.observer import Observed, Outcome
from durable.step import Step


def trace_of(key: int, id: str, started_at: int) -> tuple[int, int]:
    """
    Trace id and root span id of the process with this key and id; must never change.

    Args:
        started_at: Time of the first record of its journal, in microseconds since 1970 UTC.
    """
    digest = sha256(f"durable process {key} {started_at} {id}".encode()).digest()
    # Zero is no id for OpenTelemetry; nobody will ever see it come out of SHA-256.
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


class Traces:
    """
    Makes the spans of processes and actions.

    Args:
        tracer: Of the SDK, and nobody else's: it gets an id generator of ours around its own, because nothing else in
            OpenTelemetry can give a root span an id that was known before.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._starters: dict[int, Link] = {}
        if not isinstance(tracer.id_generator, _Ids):
            tracer.id_generator = _Ids(tracer.id_generator)

    def started(self, process: Observed, started_at: int, *, here: bool) -> None:
        """Link the span that is current, if there is one, with the process it has started."""
        starter = trace.get_current_span()
        if starter.get_span_context().is_valid:
            starter.add_link(self._root(process, started_at), {"durable.process.id": process.id})
            if here:
                self._starters[process.key] = Link(starter.get_span_context())

    def child_started(self, process: Observed, started_at: int, record: Record, child: Observed, *, here: bool) -> None:
        """A span for the checkpoint at which *child* was started, linked with the trace of that."""
        span = self._tracer.start_span(
            short_name(record.name),
            trace.set_span_in_context(NonRecordingSpan(self._root(process, started_at))),
            SpanKind.PRODUCER,
            attributes={
                "durable.process.id": process.id,
                "durable.process.definition": process.definition,
                "durable.checkpoint": record.name,
                "durable.child.id": child.id,
                "durable.child.definition": child.definition,
            },
            links=[Link(self._root(child, record.time))],
            start_time=record.time * 1000,
        )
        span.end(record.time * 1000)
        if here:
            self._starters[child.key] = Link(span.get_span_context())

    def left(self, process: Observed) -> None:
        """The process is not in memory any more; what is not known elsewhere is forgotten."""
        self._starters.pop(process.key, None)

    def ended(self, process: Observed, started_at: int, record: Record) -> None:
        """Write the root span of a process that has ended with *record*, or begins its next life with it."""
        starter = self._starters.pop(process.key, None)
        token = _ids.set(trace_of(process.key, process.id, started_at))
        try:
            span = self._tracer.start_span(
                process.definition,
                Context(),
                attributes={
                    "durable.process.id": process.id,
                    "durable.process.definition": process.definition,
                    "durable.process.outcome": outcome_of(record),
                },
                links=[starter] if starter is not None else (),
                start_time=started_at * 1000,
            )
        finally:
            _ids.reset(token)
        if record.kind is Kind.ERRED:
            span.set_status(Status(StatusCode.ERROR))
        if record.kind is Kind.STARTED:
            span.add_link(self._root(process, record.time))
            self._starters[process.key] = Link(span.get_span_context())
        span.end(record.time * 1000)

    def action_started(self, process: Observed, started_at: int, step: Step) -> Span:
        """A span for an attempt, which becomes the current one of the context this is called in."""
        span = self._tracer.start_span(
            short_name(step.checkpoint),
            trace.set_span_in_context(NonRecordingSpan(self._root(process, started_at))),
            attributes={
                "durable.process.id": process.id,
                "durable.process.definition": process.definition,
                "durable.checkpoint": step.checkpoint,
                "durable.attempt": step.attempt,
            },
        )
        contexts.attach(trace.set_span_in_context(span))  # never detached: the context is the action's own
        return span

    def action_ended(self, span: Span, outcome: Outcome, error: BaseException | None) -> None:
        """The attempt of *span* has ended."""
        span.set_attribute("durable.action.outcome", outcome.value)
        if error is not None and outcome is Outcome.FAILED:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        span.end()

    def _root(self, process: Observed, started_at: int) -> SpanContext:
        """The root span of *process* as its children see it, sampled as it will be."""
        trace_id, span_id = trace_of(process.key, process.id, started_at)
        decision = self._tracer.sampler.should_sample(None, trace_id, process.definition).decision
        flags = TraceFlags(TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT)
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


_ids: ContextVar[tuple[int, int] | None] = ContextVar("ids of the next span", default=None)


class _Ids(IdGenerator):
    """Gives the ids that were asked for, or those of another generator."""

    def __init__(self, others: IdGenerator) -> None:
        self._others = others

    def generate_trace_id(self) -> int:
        ids = _ids.get()
        return self._others.generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        ids = _ids.get()
        return self._others.generate_span_id() if ids is None else ids[1]


_OUTCOMES = {
    Kind.STARTED: "restarted",
    Kind.COMPLETED: "completed",
    Kind.ERRED: "failed",
    Kind.CANCELLED: "cancelled",
    Kind.TERMINATED: "terminated",
}


def outcome_of(record: Record) -> str:
    """How a process has ended, in one word, by its last record or the first of its next life."""
    return _OUTCOMES[record.kind]


def short_name(checkpoint: str) -> str:
    """A checkpoint's name without its scopes, which are often made of data: names of spans should be few."""
    return checkpoint.rpartition("/")[2] or checkpoint
