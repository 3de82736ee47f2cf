"""The protocol between a host and whoever watches it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from textwrap import dedent

import pytest

from durable.journal import Kind
from durable.observer import Observer, Outcome, guarded
from durable.step import Step
from durable.storage import Batch
from durable.telemetry import Telemetry
from tests.telemetry.driving import STARTED, Process, journal, record


def tell_everything(observer: Observer) -> None:
    """Call every method once, as a host would."""
    process, step = Process(), Step("order-7", "charged", 1, lambda *_: None)
    observer.process_started(process, STARTED, here=True)
    observer.child_started(process, record(2, Kind.CHILD), Process(8, "order-7/label", "label"))
    observer.process_resumed(process, journal(2))
    observer.process_restarted(process, STARTED)
    observer.process_parked(process, None)
    observer.process_stalled(process, "a bug")
    observer.process_released(process)
    observer.process_ended(process, record(2, Kind.COMPLETED))
    observer.timer_fired(process, 0.1)
    observer.action_started(process, step)
    observer.action_ended(step, Outcome.DONE, None)
    observer.batch_committed(Batch(1), 0.1)
    observer.batch_failed(Batch(1), 0.1, ValueError())
    observer.session_lost(1)


METHODS = [name for name in vars(Observer) if not name.startswith("_")]


def test_an_observer_that_writes_nothing_hears_everything() -> None:
    """Each method may be left out: what is inherited does nothing."""
    tell_everything(Observer())


def test_telemetry_hears_everything() -> None:
    """Telemetry has a method of its own for each thing a host tells."""
    assert [name for name in METHODS if name not in vars(Telemetry)] == []


def test_without_the_extra_the_fix_is_told() -> None:
    """Without OpenTelemetry the import says what to install, and nothing else of the library minds."""
    code = """
        import sys
        sys.modules["opentelemetry"] = None
        import durable.host, durable.observer
        try:
            import durable.telemetry
        except ImportError as error:
            print(error)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", dedent(code)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert "pip install '.[otel]'" in done.stdout


def test_a_guarded_observer_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises is logged, with a traceback the first time only, and the host goes on."""

    class Broken(Observer):
        def process_stalled(self, process: object, reason: str) -> None:
            raise ZeroDivisionError(reason)

        def session_lost(self, session: int) -> None:
            raise KeyError(session)

    guard = guarded(Broken())
    with caplog.at_level(logging.WARNING, "durable.host"):
        tell_everything(guard)
        tell_everything(guard)
    told = [(entry.levelname, entry.exc_info is not None) for entry in caplog.records]
    assert told == [("ERROR", True), ("ERROR", True), ("WARNING", False), ("WARNING", False)]
    assert "The observer failed in process_stalled" in caplog.text


def test_a_guarded_observer_hears_everything_as_it_is() -> None:
    """The guard passes on every method with all that was given."""
    heard: list[str] = []

    class Listener(Observer):
        def __getattribute__(self, name: str) -> object:
            if name in METHODS:
                return lambda *args, **kwargs: heard.append(name)
            return super().__getattribute__(name)

    tell_everything(guarded(Listener()))
    assert sorted(heard) == sorted(METHODS)


def test_a_cancellation_inside_an_observer_is_a_failure_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """`CancelledError`, as from a future that somebody else has cancelled, does not get out into the host."""

    class Cancelled(Observer):
        def session_lost(self, session: int) -> None:
            raise asyncio.CancelledError

    guarded(Cancelled()).session_lost(1)
    assert "The observer failed in session_lost" in caplog.text


def test_an_interrupt_is_not_held_up() -> None:
    """Ctrl-C inside an observer is no failure of it."""

    class Interrupted(Observer):
        def session_lost(self, session: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(Interrupted()).session_lost(1)
