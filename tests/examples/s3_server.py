"""A real S3 server in an OS process of its own, and a proxy before it through which every call of a program goes."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SOON = 60.0


class Fate(Enum):
    """What becomes of a call."""

    GOES_THROUGH = "goes through"
    CUT_BEFORE = "cut before the server hears of it"
    CUT_AFTER = "cut after the server has done it"
    REFUSED = "refused with 403, which no client tries again by itself"


FAILURES = (Fate.CUT_BEFORE, Fate.CUT_AFTER, Fate.REFUSED)
Decide = Callable[[str, str], Fate]  # (method, path and query)


def let_through(method: str, path: str) -> Fate:
    return Fate.GOES_THROUGH


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: programs are killed while they are connected."""


class Proxy:
    """Forwards calls to *server*, as far as `decide` lets it."""

    def __init__(self, server: str) -> None:
        self.decide: Decide = let_through
        self._server = server
        self._listener = _Listener(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_address[1]}"

    @contextmanager
    def open(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._listener.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown()
            self._listener.server_close()
            thread.join()

    def carry_out(self, call: Call) -> None:
        """Read a call, and answer it, or not."""
        body = call.rfile.read(int(call.headers.get("content-length", 0)))
        fate = self.decide(call.command, call.path)
        call.close_connection = fate is not Fate.GOES_THROUGH
        if fate is Fate.CUT_BEFORE:
            return
        if fate is Fate.REFUSED:
            call.answer(403, [], b"<Error><Code>AccessDenied</Code></Error>")
            return
        upstream = http.client.HTTPConnection(self._server, timeout=SOON)
        try:
            upstream.request(call.command, call.path, body, dict(call.headers))
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if fate is Fate.GOES_THROUGH:
            call.answer(answer.status, answer.getheaders(), content)

    def _handler(self) -> type[Call]:
        return type("CallThroughProxy", (Call,), {"proxy": self})


class Call(BaseHTTPRequestHandler):
    """One call of a program."""

    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding") and (
                is_head or name.lower() != "content-length"
            ):
                self.send_header(name, value)
        if not is_head and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not is_head:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests say what is wrong."""

    def _carry_out(self) -> None:
        try:
            self.proxy.carry_out(self)
        except ConnectionError:  # the program was killed
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _carry_out


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server, as ``127.0.0.1:port``."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(
                found[1] for line in server.stderr if (found := re.search(r"http://(127\.0\.0\.1:\d+)", line))
            )
            threading.Thread(target=server.stderr.read, daemon=True).start()  # or a full pipe would stop the server
            yield address
        finally:
            server.kill()


class Calls:
    """Says what becomes of each call of a task, by its number; all of them go through unless something else is said."""

    def __init__(self, fates: dict[int, Fate] | None = None) -> None:
        self.made: list[str] = []
        self._fates = fates or {}
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Fate:
        with self._lock:
            self.made.append(f"{method} {path}")
            return self._fates.get(len(self.made) - 1, Fate.GOES_THROUGH)


class Hold:
    """Holds one call, before the server hears of it, until it is let go."""

    def __init__(self, is_meant: Callable[[int, str], bool]) -> None:
        self.is_held = threading.Event()
        self.let_go = threading.Event()
        self.count = 0
        self._is_meant = is_meant
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Fate:
        with self._lock:
            number, self.count = self.count, self.count + 1
            holds = not self.is_held.is_set() and self._is_meant(number, f"{method} {path}")
            if holds:
                self.is_held.set()
        if holds:
            assert self.let_go.wait(SOON)
        return Fate.GOES_THROUGH
