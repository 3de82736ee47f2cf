"""Metrics: what is counted and measured, with which attributes, and that the page about them tells the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.trace import NoOpTracerProvider

from durable.errors import StorageFull
from durable.journal import Kind
from durable.observer import Outcome
from durable.step import Step
from durable.storage import Batch, Creation, End, Restart, Status
from durable.telemetry import Telemetry
from tests.telemetry.driving import STARTED, Process, journal, record, run_action

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"


class Meters:
    """A telemetry, and what it has measured so far."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[self.reader])
        self.telemetry = Telemetry(tracer_provider=NoOpTracerProvider(), meter_provider=provider)

    def points(self) -> dict[tuple[str, ...], Any]:
        """Sums, and (count, sum) of histograms, by name and attributes without the definition."""
        data = self.reader.get_metrics_data()
        assert data is not None
        found: dict[tuple[str, ...], Any] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            for point in metric.data.data_points:
                attributes = dict(point.attributes or {})
                attributes.pop("durable.process.definition", None)
                where = (metric.name, *map(str, attributes.values()))
                found[where] = point.value if isinstance(point, NumberDataPoint) else (point.count, point.sum)
        return found


@pytest.fixture
def meters() -> Meters:
    return Meters()


def test_lives_of_processes(meters: Meters) -> None:
    """Starts, claims, parkings, stalls and ends are counted; what is in memory goes up and down with them."""
    hears = meters.telemetry
    for key in range(5):
        hears.process_started(Process(key), STARTED, here=True)
    hears.process_started(Process(5), STARTED, here=False)
    assert meters.points()["durable.process.residents",] == 5
    hears.process_parked(Process(0), None)
    hears.process_stalled(Process(1), "a bug")
    hears.process_released(Process(2))
    hears.process_ended(Process(3), record(2, Kind.COMPLETED, 2))
    hears.process_resumed(Process(0), journal(3))
    hears.process_ended(Process(0), record(4, Kind.ERRED, 8))
    points = meters.points()
    assert points["durable.process.residents",] == 1
    assert points["durable.process.started",] == 6
    assert points["durable.process.resumed",] == 1
    assert points["durable.process.parked",] == 1
    assert points["durable.process.stalled",] == 1
    assert points["durable.process.ended", "completed"] == 1
    assert points["durable.process.ended", "failed"] == 1
    assert points["durable.process.duration", "failed"] == (1, 8.0)


def test_an_endless_process(meters: Meters) -> None:
    """A restart is the end of one life and the begin of another, in memory all the time."""
    hears = meters.telemetry
    hears.process_started(Process(), STARTED, here=True)
    hears.process_restarted(Process(), record(1, Kind.STARTED, 60))
    hears.process_ended(Process(), record(4, Kind.CANCELLED, 70))
    points = meters.points()
    assert points["durable.process.started",] == 1
    assert points["durable.process.residents",] == 0
    assert points["durable.process.ended", "restarted"] == 1
    assert points["durable.process.duration", "restarted"] == (1, 60.0)
    assert points["durable.process.duration", "cancelled"] == (1, 10.0)


def test_actions(meters: Meters) -> None:
    """Attempts are counted by how they end; one that was not begun is none, and what runs comes back to zero."""
    hears, process = meters.telemetry, Process()
    running: list[int] = []
    run_action(hears, process, "a", action=lambda: running.append(meters.points()["durable.action.running",]))
    run_action(hears, process, "b", error=ValueError())
    run_action(hears, process, "b", attempt=2)
    run_action(hears, process, "c", outcome=Outcome.LET_GO)
    run_action(hears, process, "d", outcome=Outcome.NOT_BEGUN)
    points = meters.points()
    assert running == [1]
    assert points["durable.action.running",] == 0
    assert [points["durable.action.attempts", outcome] for outcome in ("done", "failed", "let go")] == [2, 1, 1]
    assert ("durable.action.attempts", "not begun") not in points
    assert points["durable.action.duration", "done"][0] == 2


def test_batches_timers_and_sessions(meters: Meters) -> None:
    """Records and seconds of each commit, failures by their kind, lag of timers, sessions lost."""
    hears, process = meters.telemetry, Process()
    creation = Creation(7, "order-7", "ship", "default", True, None, STARTED)
    end = End(7, Status.COMPLETED, None, record(3, Kind.COMPLETED), 0)
    batch = Batch(
        1,
        1,
        creations=[creation],
        children=[creation._replace(key=8)],
        records=[(7, record(2, Kind.DONE))],
        restarts=[Restart(9, "ship", "default", [STARTED, record(2, Kind.EVENT)])],
        ends=[end],
    )
    hears.batch_committed(batch, 0.25)
    hears.batch_committed(Batch(1, 2), 0.5)
    hears.batch_failed(batch, 0.1, StorageFull("full"))
    hears.timer_fired(process, 1.5)
    hears.timer_fired(process, -0.001)
    hears.session_lost(1)
    points = meters.points()
    assert points["durable.batch.records",] == (2, 6)
    assert points["durable.batch.duration",] == (2, 0.75)
    assert points["durable.batch.failures", "StorageFull"] == 1
    assert points["durable.timer.lag",] == (2, 1.5)
    assert points["durable.session.lost",] == 1


def test_an_action_that_began_unobserved_is_not_counted(meters: Meters) -> None:
    """An end without a start changes nothing."""
    meters.telemetry.action_ended(Step("order-7", "a", 1, lambda *_: None), Outcome.DONE, None)
    meters.telemetry.process_parked(Process(), None)
    assert set(meters.points()) == {("durable.process.parked",)}


def test_the_page_tells_of_every_metric(meters: Meters) -> None:
    """`docs/telemetry.md` has each instrument with its unit, and none that does not exist."""
    test_lives_of_processes(meters)
    test_actions(meters)
    test_batches_timers_and_sessions(meters)
    data = meters.reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    assert all(metric.description for metric in metrics)
    told = re.findall(r"^\| `(durable\.[a-z.]+)` \| [a-z ]+ \| (\S+) \|", PAGE.read_text(), re.MULTILINE)
    assert dict(told) == {metric.name: metric.unit for metric in metrics}
