"""Names a process that blocks the event loop, with its stack, while it does: a thread looks at what is stepped."""

from __future__ import annotations

import logging
import sys
import threading
import traceback

logger = logging.getLogger("durable.host")


class Watchdog:
    """
    Watches the steps of process code on the thread it was made on.

    Args:
        patience: Seconds between two looks; a step that lasts longer than two of them is named.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
        self._thread = threading.get_ident()
        self._process: str | None = None
        self._steps = 0
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="durable-watchdog", daemon=True).start()

    def begin(self, process_id: str) -> None:
        """A step of *process_id* begins; it is on the hot path, so it only leaves a note."""
        self._steps += 1
        self._process = process_id

    def end(self) -> None:
        """The step is over."""
        self._process = None

    def close(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        # A step that is seen at two looks in a row has lasted for the time between them at least.
        seen = named = 0
        while not self._stop.wait(self._patience):
            steps, process = self._steps, self._process
            if process is None or steps != seen or steps == named:
                seen = steps
                continue
            named = steps
            frame = sys._current_frames().get(self._thread)
            stack = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
            logger.warning(
                "Process %r blocks the event loop of its host; move what takes long into an action: "
                "`await proc.do(the_function, …)` runs it in a thread.\n%s",
                process,
                stack,
                extra={"process_id": process},
            )
