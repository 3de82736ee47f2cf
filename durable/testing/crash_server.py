"""
The fork server of a crash test: an OS process that has imported everything, opened nothing, and forks once per life.

A fork costs a few milliseconds where a fresh interpreter costs half a second of imports. It is only sound because the
server has no thread, no event loop and no store: nothing of that survives a fork.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from durable.testing.crash_life import Order, live


class CrashServer:
    """Runs lives, one at a time; use as a context manager."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None
        self.stopped = 0  # id of the OS process of the life that stopped itself last

    def __enter__(self) -> Self:
        program = "from durable.testing.crash_server import serve; serve()"
        self._server = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            assert self._server.stdout is not None
            self._server.stdin.close()
            self._server.stdout.close()
            self._server.wait()

    def prepare(self, modules: Sequence[str]) -> None:
        """
        Import *modules* where every further life finds them; what cannot be imported by its name is left out.

        Raises:
            LifeFailed: One of them started a thread, which would be lost in a fork.
        """
        answer = self._ask({"import": list(modules)})
        if answer["threads"] > 1:
            raise LifeFailed(f"One of these modules starts a thread when it is imported: {', '.join(modules)}")

    def live(self, order: Order) -> bool:
        """
        Run one life to its end, or until it stops itself; whether it was killed.

        Raises:
            LifeFailed: It ended in another way than by a kill or by itself.
        """
        return self._ended(order, self._ask({"live": asdict(order)}))

    def go_on(self, order: Order) -> bool:
        """Let a life that has stopped itself go on (SIGCONT), to its end; as `live`."""
        return self._ended(order, self._ask({"continue": True}))

    def _ended(self, order: Order, answer: dict[str, Any]) -> bool:
        if "stopped" in answer:
            self.stopped = answer["stopped"]
            return False
        killed: bool = answer["signal"] == signal.SIGKILL
        if not killed and answer["status"] != 0:
            log = order.log.read_text(encoding="utf-8", errors="replace") if order.log.exists() else ""
            raise LifeFailed(f"Life {order.life} in {order.directory} ended with {answer}:\n{log[-4000:]}")
        return killed

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        server = self._server
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(question) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        if not answer:
            raise LifeFailed(f"The fork server has ended with status {server.wait()}; its error is on stderr")
        return dict(json.loads(answer))


class LifeFailed(Exception):
    """A life ended in a way that no kill explains: by another signal, or it could not report."""


# --- in the server's own OS process ---


def serve() -> None:
    """Answer questions from standard input until it is closed."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what an imported module prints is no answer

    def reply(**answer: Any) -> None:
        replies.write(json.dumps(answer) + "\n")
        replies.flush()

    child = 0
    for line in sys.stdin:
        match json.loads(line):
            case {"import": modules}:
                _import(modules)
                reply(threads=threading.active_count())
                continue
            case {"live": order}:
                child = os.fork()
                if child == 0:
                    replies.close()
                    live(Order(**order))
            case {"continue": True}:
                os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            reply(stopped=child)
        elif os.WIFSIGNALED(status):
            reply(signal=os.WTERMSIG(status), status=None)
        else:
            reply(signal=None, status=os.WEXITSTATUS(status))


def _import(modules: Sequence[str]) -> None:
    gc.unfreeze()
    for module in modules:
        with suppress(ImportError):  # some modules are made by others and have no name to import them by
            import_module(module)
    gc.collect()
    gc.freeze()  # so that a collection in a child copies no pages
