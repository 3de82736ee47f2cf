"""The world outside of the processes of crash scenarios: what it has seen and the time it is outlive every kill."""

from __future__ import annotations

import os
import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, TypeVar, cast

from durable import current_step
from durable.testing import ManualClock

S = TypeVar("S")


class Outside:
    """
    Effects as lines of a file at *path*, appended with one write each, so that a kill loses or tears none.

    What it receives twice under one idempotency key it knows, as a good service does: `seen` is the set of effects.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def receive(self, what: str) -> str:
        """Have an effect, under the key of the step that runs; call it inside an action."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, f"{current_step().key} {what}\n".encode())
        finally:
            os.close(descriptor)
        return what

    async def receive_async(self, what: str) -> str:
        """As `receive`, for an async action."""
        return self.receive(what)

    def seen(self) -> list[str]:
        """Every effect once per key, sorted."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return sorted(line.partition(" ")[2] for line in set(lines))

    def has_seen(self, what: str) -> bool:
        """Whether this effect has happened: what a person asks the other side after a doubt."""
        return what in self.seen()


def lasting(service: S, path: Path) -> S:
    """*service* of an example, which lives in memory, as one that forgets nothing when its caller is killed."""
    return cast("S", _Lasting(service, path))


class _Lasting:
    """
    Keeps the attributes of *service* in a file at *path*, written with every call of an ``async`` method.

    The methods of the examples wait for nothing, and our kills come on the event loop too: no call is torn by them.
    """

    def __init__(self, service: object, path: Path) -> None:
        self._service = service
        self._path = path
        if path.exists():
            vars(service).update(pickle.loads(path.read_bytes()))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._service, name)
        return partial(self._call, found) if iscoroutinefunction(found) else found

    async def _call(self, method: Callable[..., Awaitable[object]], *arguments: object) -> object:
        try:
            return await method(*arguments)
        finally:
            self._path.write_bytes(pickle.dumps(vars(self._service)))


class LastingClock(ManualClock):
    """A test clock with its time in a file at *path*: time does not go back because somebody was killed."""

    def __init__(self, path: Path, *, autojump: bool = False) -> None:
        start = datetime.fromisoformat(path.read_text()) if path.exists() else datetime(2026, 1, 1, tzinfo=UTC)
        super().__init__(start, autojump=autojump)
        self._path = path
        self._kept = start

    def now(self) -> int:
        """As in `ManualClock`; a life after this one starts here."""
        if self.time != self._kept:
            self._kept = self.time
            self._path.write_text(self.time.isoformat())
        return super().now()
