"""`serve`: the application by itself, on uvicorn. Only this machine reaches it unless you say otherwise."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from socket import socket
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from durable._host.options import check_length
from durable.client import ProcessClient
from durable.event import Event
from durable.invocation import AnyDefinition
from durable.web.access import Authorize, Limits, is_loopback
from durable.web.application import app
from durable.web.problems import on_http_exception

logger = logging.getLogger("durable.web")

_LONGEST_MESSAGE = 64 * 1024  # of a WebSocket client, which has nothing to say


async def serve(
    connection: ProcessClient,
    definitions: Iterable[AnyDefinition] | None = None,
    *,
    address: str = "127.0.0.1",
    port: int = 8000,
    grace: timedelta = timedelta(seconds=5),
    events: Iterable[Event[Any]] | None = None,
    authorize: Authorize | None = None,
    limits: Limits | None = None,
    origins: Collection[str] = (),
    title: str = "Processes",
) -> None:
    """
    Serve `app` until this program is told to stop (SIGTERM, SIGINT); then return, so that ``async with`` leaves.

    The signal is used up: while this runs, a handler of the program's own is not asked. Cancelled, it stops as by a
    signal, and raises when it has.

    Args:
        connection, definitions, events, authorize, limits, origins, title: As for `app`.
        address: Where to listen. An address that other machines reach wants *authorize*; without, you are warned.
        port: 0 for a free one, which the log of uvicorn names.
        grace: How long requests may go on after the signal. Streams end at once.

    Raises:
        InvalidDefinition: As `app`; or *grace* is not a timedelta of at least 0.
        SystemExit: The address cannot be listened at; uvicorn has logged why.
    """
    check_length(grace, "`grace` of `serve`")
    application: ASGIApp = app(
        connection, definitions, events=events, authorize=authorize, limits=limits, origins=origins, title=title
    )
    if authorize is None and is_loopback(address):
        # A page can make a name of its own resolve to this machine, and be of the same origin then.
        application = _OwnNames(application)
    elif authorize is None:
        logger.warning(
            "Processes are open to everybody who reaches %s port %d: no `authorize` was given", address, port
        )
    AppStatus.should_exit = False  # it is set by a server that is told to stop, and for ever: by one before this, too
    await _Server(_config(application, address, port, grace)).serve()


class _Server(uvicorn.Server):
    """uvicorn, whose `serve` returns where a signal has stopped it, and stops where it is cancelled."""

    _cancelled: asyncio.CancelledError | None = None

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """Serve until it is told to stop; cancelling tells it, too, and is raised when it has stopped."""
        await super().serve(sockets)
        if self._cancelled is not None:
            raise self._cancelled

    async def main_loop(self) -> None:
        """Wait until it is told to stop. uvicorn, cancelled here, would leave everything open and go on answering."""
        try:
            await super().main_loop()
        except asyncio.CancelledError as cancelled:
            self._cancelled = cancelled
            self.handle_exit(signal.SIGTERM, None)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End what is open; who is cancelled once more waits for none of it."""
        try:
            await super().shutdown(sockets)
        except asyncio.CancelledError:
            for task in self.server_state.tasks:
                task.cancel()
            raise

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take signals while it serves. uvicorn would raise them again now, which ends the program here and now."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


class _OwnNames:
    """Lets those in who ask for a name of this machine; who asks for another one is told so, as of any problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_socket = scope["type"] == "websocket"
        asked: HTTPConnection = WebSocket(scope, receive, send) if is_socket else Request(scope, receive, send)
        if _is_own(asked.headers.get("host", "")):
            await self._app(scope, receive, send)
            return
        refusal = await on_http_exception(asked, HTTPException(400, "This is served under names of this machine only"))
        if refusal is not None:
            await refusal(scope, receive, send)


def _is_own(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # no name at all
        return False


def _config(application: ASGIApp, address: str, port: int, grace: timedelta) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        address,
        port,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=_LONGEST_MESSAGE,
        server_header=False,
        log_config=None,  # logging is the program's business
        timeout_graceful_shutdown=max(1, round(grace.total_seconds())),
    )
