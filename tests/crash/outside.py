"""The world outside of the processes of crash scenarios: a file that remembers every effect, through all kills."""

from __future__ import annotations

import os
from pathlib import Path

from durable import current_step


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
