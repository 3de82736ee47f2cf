"""`serve`: the application by itself, on uvicorn. Only this machine reaches it unless you say otherwise."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from durable.client import ProcessClient
from durable.definition import AnyDefinition
from durable.process import Event
from durable.web.access import Authorize, Limits, is_loopback
from durable.web.application import app

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

    Args:
        connection, definitions, events, authorize, limits, origins, title: As for `app`.
        address: Where to listen. An address that other machines reach wants *authorize*; without, you are warned.
        port: 0 for a free one, which the log of uvicorn names.
        grace: How long requests may go on after the signal. Streams end at once.

    Raises:
        SystemExit: The address cannot be listened at; uvicorn has logged why.
    """
    application: ASGIApp = app(
        connection, definitions, events=events, authorize=authorize, limits=limits, origins=origins, title=title
    )
    if authorize is None and is_loopback(address):
        # A page can make a name of its own resolve to this machine, and be of the same origin then.
        application = TrustedHostMiddleware(application, ["127.0.0.1", "localhost", "[::1]"])
    elif authorize is None:
        logger.warning(
            "Processes are open to everybody who reaches %s port %d: no `authorize` was given", address, port
        )
    AppStatus.should_exit = False  # it is set by a server that is told to stop, and for ever: by one before this, too
    await uvicorn.Server(_config(application, address, port, grace)).serve()


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
