"""`Telemetry`: the observer that makes traces and metrics of what a host tells it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import Tracer
from opentelemetry.trace import Span, TracerProvider

from durable.journal import Record
from durable.observer import Observed, Observer, Outcome
from durable.step import Step
from durable.storage import Batch
from durable.telemetry.metrics import Metrics
from durable.telemetry.traces import Traces, outcome_of

logger = logging.getLogger("durable.telemetry")

_SCOPE = "durable"


class _Stay(NamedTuple):
    definition: str
    started_at: int


class _Attempt(NamedTuple):
    definition: str
    begun: float
    span: Span | None


class Telemetry(Observer):
    """
    Traces and metrics of OpenTelemetry: ``ProcessHost(url, definitions, observer=Telemetry())``.

    Args:
        tracer_provider: Of the SDK of OpenTelemetry; the global one if not given. Any other makes no spans, which is
            logged: only the SDK lets a span have an id that is the same on every host.
        meter_provider: The global one if not given.
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        tracer = (tracer_provider or trace.get_tracer_provider()).get_tracer(_SCOPE)
        self._traces = Traces(tracer) if isinstance(tracer, Tracer) else None
        if self._traces is None:
            logger.info("No tracer provider of the OpenTelemetry SDK is set: processes are measured and not traced")
        self._metrics = Metrics((meter_provider or metrics.get_meter_provider()).get_meter(_SCOPE))
        self._stays: dict[int, _Stay] = {}  # what is in memory here, by process key
        self._attempts: dict[Step, _Attempt] = {}

    # --- processes ---

    def process_started(self, process: Observed, record: Record, *, here: bool) -> None:
        self._metrics.process_started(process.definition)
        if here:
            self._enter(process.key, process.definition, record.time)
        if self._traces is not None:
            self._traces.started(process, record.time, here=here)

    def child_started(self, process: Observed, record: Record, child: Observed) -> None:
        stay = self._stays.get(process.key)
        if self._traces is not None and stay is not None:
            self._traces.child_started(process, stay.started_at, record, child, here=child.key in self._stays)

    def process_resumed(self, process: Observed, records: Sequence[Record]) -> None:
        self._metrics.process_resumed(process.definition)
        self._enter(process.key, process.definition, records[0].time)

    def process_restarted(self, process: Observed, record: Record) -> None:
        self._end(process, record)
        self._enter(process.key, record.name, record.time)

    def process_parked(self, process: Observed, wake_at: int | None) -> None:
        self._metrics.process_parked(process.definition)
        self._leave(process)

    def process_stalled(self, process: Observed, reason: str) -> None:
        self._metrics.process_stalled(process.definition)
        self._leave(process)

    def process_ended(self, process: Observed, record: Record) -> None:
        self._end(process, record)
        self._leave(process)

    def process_released(self, process: Observed) -> None:
        self._leave(process)

    def timer_fired(self, process: Observed, lag: float) -> None:
        self._metrics.timer_fired(process.definition, lag)

    def _end(self, process: Observed, record: Record) -> None:
        stay = self._stays.get(process.key)
        started_at = record.time if stay is None else stay.started_at
        seconds = (record.time - started_at) / 1_000_000
        self._metrics.process_ended(process.definition, outcome_of(record), seconds)
        if self._traces is not None:
            self._traces.ended(process, started_at, record)

    def _enter(self, key: int, definition: str, started_at: int) -> None:
        before = self._stays.pop(key, None)
        self._stays[key] = _Stay(definition, started_at)
        self._metrics.residents(definition, 1)
        if before is not None:
            self._metrics.residents(before.definition, -1)

    def _leave(self, process: Observed) -> None:
        stay = self._stays.pop(process.key, None)
        if stay is not None:
            self._metrics.residents(stay.definition, -1)
        if self._traces is not None:
            self._traces.left(process)

    # --- actions ---

    def action_started(self, process: Observed, step: Step) -> None:
        self._metrics.action_started(process.definition)
        stay = self._stays.get(process.key)
        span = None
        if self._traces is not None and stay is not None:
            span = self._traces.action_started(process, stay.started_at, step)
        self._attempts[step] = _Attempt(process.definition, monotonic(), span)

    def action_ended(self, step: Step, outcome: Outcome, error: BaseException | None) -> None:
        attempt = self._attempts.pop(step, None)
        if attempt is None:
            return  # it began before anybody observed
        self._metrics.action_ended(attempt.definition, outcome, monotonic() - attempt.begun)
        if self._traces is not None and attempt.span is not None:
            self._traces.action_ended(attempt.span, outcome, error)

    # --- the store ---

    def batch_committed(self, batch: Batch, seconds: float) -> None:
        self._metrics.batch_committed(batch, seconds)

    def batch_failed(self, batch: Batch, seconds: float, error: BaseException) -> None:
        self._metrics.batch_failed(error)

    def session_lost(self, session: int) -> None:
        self._metrics.session_lost()
