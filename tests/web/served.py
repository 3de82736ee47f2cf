"""A real server in the loop of a test, and the requests that tests make of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp

SOON = 20.0  # seconds that are never used up unless something is wrong


class Server(uvicorn.Server):
    """uvicorn, which tells when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @property
    def address(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"{host}:{port}"


@asynccontextmanager
async def serving(application: ASGIApp, *, grace: int = 5) -> AsyncIterator[Server]:
    """*application* on a free port of this machine; leaving stops it as a signal does."""
    config = uvicorn.Config(
        application,
        port=0,
        lifespan="off",
        ws="websockets-sansio",
        log_level=logging.WARNING,
        timeout_graceful_shutdown=grace,
    )
    AppStatus.should_exit = False  # a test that stopped its server by a signal has set it, for ever
    server = Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await asyncio.wait_for(server.is_up.wait(), SOON)
        yield server
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, SOON)


def client(address: str) -> httpx.AsyncClient:
    """A client over real HTTP."""
    return httpx.AsyncClient(base_url=f"http://{address}", timeout=SOON, limits=httpx.Limits(max_connections=None))


def direct(application: ASGIApp, **options: Any) -> httpx.AsyncClient:
    """A client over ASGI in memory."""
    transport = httpx.ASGITransport(application, raise_app_exceptions=False, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://shop.test", timeout=SOON)
