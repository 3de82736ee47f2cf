"""A receiver of webhooks: a real server on this machine that answers as it is told, and a resolver for its names."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest

SOON = 20.0  # seconds that are never used up unless something is wrong


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What to answer: a status, None to close the connection without a word, or *raw* bytes and no HTTP."""

    status: int | None = 204
    headers: tuple[tuple[str, str], ...] = ()
    after: threading.Event | None = None
    endless: bool = False
    raw: bytes = b""


class Receiver(ThreadingHTTPServer):
    """Keeps what it receives; its first answers are *answers*, in turn, and 204 after that."""

    daemon_threads = True

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.answers = list(answers)
        self.received: list[Received] = []
        self.connections = 0
        self._news: queue.Queue[Received] = queue.Queue()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.server_port}/hooks?token=not-for-journals"

    def get_request(self) -> tuple[socket.socket, Any]:
        request = super().get_request()
        self.connections += 1
        return request

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def keep(self, received: Received) -> Answer:
        self.received.append(received)
        self._news.put(received)
        return self.answers.pop(0) if self.answers else Answer()

    async def next(self) -> Received:
        """The next request, as soon as it is here."""
        return await asyncio.to_thread(self._news.get, timeout=SOON)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = self.server.keep(Received(self.path, dict(self.headers), body))
        if answer.after is not None:
            answer.after.wait(SOON)
        if answer.raw:
            self.wfile.write(answer.raw)
        elif answer.status is not None:
            self.send_response(answer.status)
            for header in answer.headers:
                self.send_header(*header)
            self.send_header("content-length", str(1 << 40) if answer.endless else "0")
            self.end_headers()
            while answer.endless:  # until the other side hangs up
                self.wfile.write(b"more " * 1000)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


class Names:
    """Stands in for the name server: what names mean, a list of addresses for each look-up in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: list[list[str]]) -> None:
        self.lookups: list[str] = []
        self._names = {name.replace("_", "."): answers for name, answers in names.items()}
        self._real: Callable[..., Any] = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *given: Any, **options: Any) -> Any:
        if host not in self._names:
            return self._real(host, port, *given, **options)
        self.lookups.append(host)
        answers = self._names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]
