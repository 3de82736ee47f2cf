"""Names a process that blocks the event loop, with its stack, while it does: a thread looks at what is stepped."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from types import TracebackType

logger = logging.getLogger("durable.host")


class Watchdog:
    """
    Watches the steps of process code on the thread it was made on.

    Args:
        patience: Seconds one step may take before it is named.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._thread = threading.get_ident()
        self._process: str | None = None
        self._since = 0.0
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="durable-watchdog", daemon=True).start()

    def stepping(self, process_id: str) -> Watchdog:
        """Use as a context manager around one step of *process_id*."""
        self._process = process_id
        return self

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._since = 0.0

    def close(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        named = 0.0
        while not self._stop.wait(self._patience / 2):
            since = self._since
            if not since or since == named or time.monotonic() - since < self._patience:
                continue
            named = since
            frame = sys._current_frames().get(self._thread)
            stack = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
            logger.warning(
                "Process %r blocks the event loop of its host; move what takes long into an action: "
                "`await proc.do(the_function, …)` runs it in a thread.\n%s",
                self._process,
                stack,
                extra={"process_id": self._process},
            )
