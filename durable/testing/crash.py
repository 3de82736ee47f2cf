"""
Crash tests for your own processes: a scenario is killed with SIGKILL at every write in turn, run again, and checked.

A scenario is an async function at the top level of a module. It opens hosts on the given URL, starts processes under
fixed ids, raises events, waits for results, and returns what has to come out, whatever happens in between. It must be
idempotent: after a kill it is simply run again, as your service would be::

    from durable.testing.crash import Stage, kill_at_every_write

    async def transfer(stage: Stage) -> object:
        async with ProcessHost(stage.url, [transfer_money]) as host:
            handle = await host.start(transfer_money("A", "B", 100), id="transfer-1")
            return await handle.result()

    def test_a_transfer_survives_any_kill(tmp_path):
        kill_at_every_write(transfer, tmp_path).check()

What is checked stands in `durable.testing.crash_checks`. Actions that were started a second time are no violation: that
is "at least once". The report counts them, and says which kill came between the effect and its record.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from durable.testing.crash_calls import CallPoint, live_with
from durable.testing.crash_checks import Evidence, Repeat, Violation, repeats, violations
from durable.testing.crash_life import Order, Scenario, Stage, Wrapper, name_of
from durable.testing.crash_points import KillPoint, Moment
from durable.testing.crash_report import CrashReport, Story
from durable.testing.crash_server import CrashServer
from durable.testing.crash_trace import read_trace

__all__ = [
    "CallPoint",
    "CrashReport",
    "CrashTest",
    "KillPoint",
    "Moment",
    "Repeat",
    "Stage",
    "Story",
    "Violation",
    "kill_at_every_write",
]

EVERY_MOMENT = tuple(Moment)


class CrashTest:
    """
    A scenario with its fork server; use as a context manager. `kill_at_every_write` is the short form.

    Args:
        scenario: An async function of a `Stage`, at the top level of a module.
        directory: Where stories play, each in a folder of its own; that of a story with violations is kept.
        url: Of the store of one story; ``{directory}`` is its folder.
        wrapper: Put around the store in every story, inside of what kills: a function of a `JournalStorage`, at the top
            level of a module.
        seconds: How long one life may take before the scenario counts as failed. Below the lease of the hosts, it
            proves that a restart does not wait for a lease.
        server: A `CrashServer` that is running already: many scenarios may share one, and its imports.
    """

    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        *,
        url: str = "sqlite:///{directory}/store.db",
        wrapper: Wrapper | None = None,
        seconds: float = 20.0,
        server: CrashServer | None = None,
    ) -> None:
        self.report = CrashReport(name_of(scenario))
        self._scenario = name_of(scenario)
        self._wrapper = "" if wrapper is None else name_of(wrapper)
        self._directory = directory
        self._url = url
        self._seconds = seconds
        self._modules = [name.partition(":")[0] for name in (self._scenario, self._wrapper) if name]
        self._server = CrashServer() if server is None else server
        self._owns_server = server is None
        self._unbroken: Mapping[str, Any] | None = None

    def __enter__(self) -> Self:
        if self._owns_server:
            self._server.__enter__()
        self._server.prepare(self._modules)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owns_server:
            self._server.__exit__(kind, error, traceback)

    def unbroken(self) -> Mapping[str, Any]:
        """What a run without a kill comes to: "outcome", "error", "processes". Raises `AssertionError` if it is bad."""
        if self._unbroken is None:
            place = self._place("unbroken")
            order = replace(
                self._order(place, 0), wrapper=""
            )  # what is right does not depend on what is around the store
            self._server.live(order)
            report = order.read_report()
            evidence = Evidence(list(read_trace(order.trace)), report, report)
            if broken := violations(evidence):
                raise AssertionError("Without any kill: " + "\n".join(map(str, broken)))
            if not any(evidence.entries("record")):
                raise AssertionError("The scenario wrote nothing: does it open its hosts on `stage.url`?")
            self._unbroken = report
            self._server.prepare(report["modules"])  # what was imported late would cost every life half a second
            shutil.rmtree(place)
        return self._unbroken

    def tell(self, *kills: KillPoint | CallPoint) -> Story:
        """Run one story: a life for each of *kills*, as long as they break it, then one to the end."""
        unbroken = self.unbroken()
        place = self._place("-".join(str(point).replace(" ", "-") for point in kills) or "no-kill")
        happened: list[KillPoint | CallPoint] = []
        for point in kills:
            order = self._order(place, len(happened), point)
            if not self._break(order, point):
                break
            happened.append(point)
        else:
            order = self._order(place, len(happened))
            self._server.live(order)
        evidence = Evidence(list(read_trace(order.trace)), order.read_report(), unbroken)
        survived = len(happened) < len(kills)
        story = Story(tuple(happened), survived, tuple(violations(evidence)), tuple(repeats(evidence)))
        self.report.stories.append(story)
        if not story.violations:
            shutil.rmtree(place)
        return story

    def kill_at_every_write(self, moments: Sequence[Moment] = EVERY_MOMENT, *, kills: int = 1) -> CrashReport:
        """
        Tell the story of every write and moment in turn, until a life has fewer writes.

        Args:
            moments: Which moments around each write.
            kills: How many lives in a row are killed: with 2, the run after each kill is killed at each of its writes.
        """
        for moment in moments:
            self._explore((), moment, kills)
        return self.report

    def break_at_every_call(self, call: str, error: str = "", *, step: int = 1) -> CrashReport:
        """
        Break the scenario at every system call *call* in turn (`CallPoint`), until a life makes fewer such calls.

        Args:
            call, error: As for `CallPoint`. With an *error*, the scenario may go on, or fail and be run again.
            step: 1 for every call, 2 for every second one, …
        """
        for number in count(1, step):
            if not self.tell(CallPoint(call, number, error)).kills:
                break
        return self.report

    def _break(self, order: Order, point: KillPoint | CallPoint) -> bool:
        """Run a life that breaks at *point*; whether it was reached, so that another life has to follow."""
        if isinstance(point, KillPoint):
            return self._server.live(order)
        # Also after an error that the scenario has survived: what reads the store for the report may have met it too.
        return live_with(self._server, order, point)

    def _explore(self, before: tuple[KillPoint, ...], moment: Moment, kills: int) -> None:
        for write in count(1):
            points = (*before, KillPoint(write, moment))
            if self.tell(*points).survived:
                return
            if len(points) < kills:
                self._explore(points, moment, kills)

    def _place(self, name: str) -> Path:
        place = self._directory / name
        place.mkdir(parents=True)
        return place

    def _order(self, place: Path, life: int, point: KillPoint | CallPoint | None = None) -> Order:
        write, moment = (point.write, point.moment.value) if isinstance(point, KillPoint) else (0, "")
        return Order(
            scenario=self._scenario,
            url=self._url.format(directory=place),
            directory=str(place),
            life=life,
            seconds=self._seconds,
            write=write,
            moment=moment,
            wrapper=self._wrapper,
            stopped=isinstance(point, CallPoint),
        )


def kill_at_every_write(
    scenario: Scenario,
    directory: Path,
    moments: Sequence[Moment] = EVERY_MOMENT,
    *,
    kills: int = 1,
    **options: Any,
) -> CrashReport:
    """
    Kill *scenario* at every write in turn, run it again each time, and check what came of it.

    Args:
        directory: An empty folder for stores and files (pytest's ``tmp_path``).
        moments, kills: As for `CrashTest.kill_at_every_write`.
        options: Further arguments of `CrashTest`.

    Raises:
        AssertionError: The scenario fails without any kill.
        ValueError: The scenario cannot be imported by another OS process.
    """
    with CrashTest(scenario, directory, **options) as test:
        return test.kill_at_every_write(moments, kills=kills)
