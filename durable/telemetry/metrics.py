"""The metrics of a host: one table of instruments, and what is recorded with which attributes."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from durable.observer import Outcome
from durable.storage import Batch

_DEFINITION = "durable.process.definition"
_LENGTHS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
_LIVES = (0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class Metrics:
    """
    The instruments, made by *meter*, and a method for each thing that is measured.

    Attributes have few values, definitions and outcomes, never ids or checkpoints: each combination is kept for ever
    by whoever collects them.
    """

    def __init__(self, meter: Meter) -> None:
        counter, level, histogram = meter.create_counter, meter.create_up_down_counter, meter.create_histogram
        lengths, lives, counts = (
            {"explicit_bucket_boundaries_advisory": bounds} for bounds in (_LENGTHS, _LIVES, _COUNTS)
        )
        self._started = counter("durable.process.started", "{process}", "Processes started")
        self._resumed = counter("durable.process.resumed", "{process}", "Processes claimed")
        self._parked = counter("durable.process.parked", "{process}", "Processes that left memory to wait")
        self._stalled = counter("durable.process.stalled", "{process}", "Processes that could not go on")
        self._ended = counter("durable.process.ended", "{process}", "Processes ended, by outcome")
        self._residents = level("durable.process.residents", "{process}", "Processes in memory")
        self._life = histogram(
            "durable.process.duration", "s", "From start to end, restarts and waits included", **lives
        )
        self._lag = histogram("durable.timer.lag", "s", "How late timers fired", **lengths)
        self._running = level("durable.action.running", "{attempt}", "Attempts of actions that run")
        self._attempts = counter("durable.action.attempts", "{attempt}", "Attempts that ended, by outcome")
        self._length = histogram("durable.action.duration", "s", "How long attempts took, by outcome", **lengths)
        self._records = histogram("durable.batch.records", "{record}", "Records committed together", **counts)
        self._commit = histogram("durable.batch.duration", "s", "How long a commit took", **lengths)
        self._refused = counter("durable.batch.failures", "{batch}", "Batches that were refused or not answered")
        self._lost = counter("durable.session.lost", "{session}", "Sessions of this host that were declared dead")

    # processes

    def process_started(self, definition: str) -> None:
        self._started.add(1, {_DEFINITION: definition})

    def process_resumed(self, definition: str) -> None:
        self._resumed.add(1, {_DEFINITION: definition})

    def process_parked(self, definition: str) -> None:
        self._parked.add(1, {_DEFINITION: definition})

    def process_stalled(self, definition: str) -> None:
        self._stalled.add(1, {_DEFINITION: definition})

    def process_ended(self, definition: str, outcome: str, seconds: float) -> None:
        attributes = {_DEFINITION: definition, "durable.process.outcome": outcome}
        self._ended.add(1, attributes)
        self._life.record(seconds, attributes)

    def residents(self, definition: str, change: int) -> None:
        self._residents.add(change, {_DEFINITION: definition})

    def timer_fired(self, definition: str, lag: float) -> None:
        self._lag.record(max(0.0, lag), {_DEFINITION: definition})

    # actions

    def action_started(self, definition: str) -> None:
        self._running.add(1, {_DEFINITION: definition})

    def action_ended(self, definition: str, outcome: Outcome, seconds: float) -> None:
        self._running.add(-1, {_DEFINITION: definition})
        if outcome is not Outcome.NOT_BEGUN:
            attributes = {_DEFINITION: definition, "durable.action.outcome": outcome.value}
            self._attempts.add(1, attributes)
            self._length.record(seconds, attributes)

    # the store

    def batch_committed(self, batch: Batch, seconds: float) -> None:
        created = len(batch.creations) + len(batch.children) + sum(len(restart.records) for restart in batch.restarts)
        self._records.record(created + len(batch.records) + len(batch.ends))
        self._commit.record(seconds)

    def batch_failed(self, error: BaseException) -> None:
        self._refused.add(1, {"error.type": type(error).__name__})

    def session_lost(self) -> None:
        self._lost.add(1)
