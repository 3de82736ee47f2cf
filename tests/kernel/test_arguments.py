"""What checkpoints accept as names, lengths and options; what they refuse costs the process nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import pytest

from durable.definition import process
from durable.errors import InvalidAction, InvalidDefinition, InvalidName
from durable.event import Event
from durable.journal import Kind
from durable.process import Process
from durable.retry import Retry
from tests.kernel.driver import Driver, program_of

GOOD_NAMES = ["a", "x" * 200, "Grüße, 世界 🎉", "a/b", " ", "line\nbreak", "|5|1"]
BAD_NAMES = ["", "x" * 201, "a\0b", "\ud800", 7, None]

REFUSED: list[tuple[Callable[[Process], Coroutine[Any, Any, Any]], type[Exception]]] = [
    *((lambda proc, name=name: proc.get(1, name), InvalidName) for name in BAD_NAMES),
    (lambda proc: proc.scope("x" * 150).get(1, "y" * 50), InvalidName),
    (lambda proc: proc.event("\ud800"), InvalidName),
    (lambda proc: proc.event("x", name=""), InvalidName),
    (lambda proc: proc.do(7, "name"), InvalidAction),  # type: ignore[call-overload]
    (lambda proc: proc.do(lambda: 1, "name", retry=Retry(), at_most_once=True), InvalidDefinition),
    (lambda proc: proc.do(lambda: 1, "name", timeout=timedelta(0)), InvalidDefinition),
    (lambda proc: proc.delay(datetime(2030, 1, 1), "name"), InvalidDefinition),
    (lambda proc: proc.delay(60, "name"), InvalidDefinition),  # type: ignore[arg-type]
    (lambda proc: proc.event("x", timeout=60), InvalidDefinition),  # type: ignore[call-overload]
]


@pytest.mark.parametrize("position", range(len(REFUSED)))
def test_what_cannot_be_kept_is_refused_at_its_line(position: int) -> None:
    """A bad name, length, action or option raises where it is written; nothing of it is asked for or recorded."""
    ask, expected = REFUSED[position]

    async def code(proc: Process, trace: list[Any]) -> None:
        with pytest.raises(expected):
            await ask(proc)
        await proc.get(1, "name")

    driver = Driver(program_of(code))
    driver.go()
    assert [record.kind for record in driver.journal] == [Kind.STARTED, Kind.VALUE]
    driver.check_replays()


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_any_other_text_is_a_name(name: str) -> None:
    """Long, foreign and odd names work for every kind of checkpoint, and replay."""

    async def code(proc: Process, trace: list[Any]) -> None:
        if len(name) < 190:
            trace.append(await proc.scope("get").get(1, name))
            trace.append(await proc.scope("delay").delay(timedelta(seconds=5), name))
        trace.append(await proc.event(Event(name, int)))

    driver = Driver(program_of(code), disturb=False)
    driver.raise_event(name, 7)
    driver.go()
    assert driver.run.trace[-1] == 7
    driver.check_replays()


def test_renames_that_chain_are_refused() -> None:
    """A rename to a name that is itself renamed has no one meaning, and is refused with the definition."""

    async def function(proc: Process) -> None: ...

    with pytest.raises(InvalidDefinition, match="'b'"):
        process(renames={"a": "b", "b": "c"})(function)
