"""An observer that keeps what it heard, can be waited for, and passes everything on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from durable.observer import Observer

IN = ("process_started", "process_resumed")
OUT = ("process_ended", "process_stalled", "process_parked", "process_released")


class Call(NamedTuple):
    """One thing a host told."""

    name: str
    facts: tuple[Any, ...]
    here: bool | None


class Hearing(Observer):
    """
    Hears everything.

    Args:
        then: Who hears it, too.
    """

    def __init__(self, then: Observer | None = None) -> None:
        self.calls: list[Call] = []
        self._then = then
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        for name in vars(Observer):
            if not name.startswith("_"):
                setattr(self, name, partial(self._hear, name))

    def _hear(self, name: str, *facts: Any, **more: Any) -> None:
        self.calls.append(Call(name, facts, more.get("here")))
        if self._then is not None:
            getattr(self._then, name)(*facts, **more)
        for has_come, future in self._waiting:
            if not future.done() and has_come():
                future.set_result(None)

    def of(self, name: str, id: str | None = None) -> list[Call]:
        """What came by this name, about this process if one is given."""
        return [call for call in self.calls if call.name == name and (id is None or call.facts[0].id == id)]

    def story(self, id: str) -> list[str]:
        """The names of what came about a process itself, in order."""
        return [call.name for call in self.calls if call.name.startswith("process_") and call.facts[0].id == id]

    async def has_heard(self, name: str, id: str | None = None, count: int = 1) -> None:
        """Return once it came so often."""
        async with asyncio.timeout(30):
            if len(self.of(name, id)) < count:
                future = asyncio.get_running_loop().create_future()
                self._waiting.append((lambda: len(self.of(name, id)) >= count, future))
                await future

    def unbalanced(self) -> dict[int, int]:
        """Processes that did not come into memory as often as they left it, and the difference."""
        balance: dict[int, int] = {}
        for call in self.calls:
            if call.name.startswith("process_"):
                change = (call.name in IN and call.here is not False) - (call.name in OUT)
                balance[call.facts[0].key] = balance.get(call.facts[0].key, 0) + change
        return {key: difference for key, difference in balance.items() if difference}
