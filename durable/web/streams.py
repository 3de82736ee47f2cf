"""
Live progress: Server-Sent Events and WebSocket. Both send how the process stands, then each change, until it has ended.

The id of an event is the version of the state, so whoever comes back with the last one it saw is told only what is new,
by whatever host it reaches. Once the end was seen there is nothing more: 204, which tells a browser not to come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import cast

import anyio
from sse_starlette import EventSourceResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from durable.errors import DurableError
from durable.web.access import Access, AccessKind, Gate
from durable.web.patience import answering
from durable.web.pictures import Update
from durable.web.watching import Watching

logger = logging.getLogger("durable.web")

_PING = 15  # seconds between two comments that keep proxies from closing a quiet stream
_LEAVE_WITHIN = 1.0  # seconds a stream has to end in order when the server stops


class Streams:
    """
    The streams of one application.

    Args:
        limit: Most streams open at a time.
    """

    def __init__(self, watching: Watching, gate: Gate, limit: int) -> None:
        self._watching = watching
        self._gate = gate
        self._limit = limit
        self._open = 0

    async def events(self, request: Request) -> Response:
        """Server-Sent Events of one process."""
        id = request.path_params["id"]
        await self._gate.admit(request, Access(AccessKind.WATCH, id))
        seen = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
        stream = self._updates(id)
        async with answering():
            first = await anext(stream)  # before anything is sent, so that an error still has its status
        if first.ended and first.version == seen:
            await stream.aclose()
            return Response(status_code=204)
        leaving = _Leaving()
        return EventSourceResponse(
            _encoded(first, stream, seen, leaving),
            ping=_PING,
            sep="\n",
            shutdown_event=cast("anyio.Event", leaving),
            shutdown_grace_period=_LEAVE_WITHIN,
            background=BackgroundTask(_close, stream),  # where nothing was iterated: HEAD, or a client that has gone
        )

    async def websocket(self, socket: WebSocket) -> None:
        """The same over WebSocket; what the client sends is not read."""
        id = socket.path_params["id"]
        await self._gate.admit(socket, Access(AccessKind.WATCH, id))
        seen = socket.query_params.get("last_event_id")
        async with aclosing(self._updates(id)) as stream:
            async with answering():
                first = await anext(stream)
            await socket.accept()
            with suppress(WebSocketDisconnect):
                await _until_gone(socket, _send(socket, first, stream, seen))

    async def _updates(self, id: str) -> AsyncGenerator[Update, None]:
        with self._counted():
            async with aclosing(self._watching.updates(id)) as updates:
                async for update in updates:
                    yield update

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._open >= self._limit:
            raise HTTPException(503, "Too many streams are open", {"Retry-After": "5"})
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


Stream = AsyncGenerator[Update, None]


async def _close(stream: Stream) -> None:
    await stream.aclose()


async def _news(first: Update, stream: Stream, seen: str | None) -> Stream:
    """What a listener has not *seen*: the *first* state if it is another one, then the *stream*."""
    if first.version != seen:
        yield first
    async for update in stream:
        yield update


# --- Server-Sent Events -----------------------------------------------------------------------------------------


class _Leaving:
    """What is set when the server is told to stop: a stream then ends in order, instead of being cut while it waits."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: asyncio.Timeout | None = None

    def set(self) -> None:
        """End the wait for the next update; all that sse-starlette asks of an event."""
        self._is_set = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def before(self, news: Stream) -> Update | None:
        """The next update, or None if there is none or it is time to leave."""
        if self._is_set:
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await anext(news, None)
        except TimeoutError:
            return None
        finally:
            self._waiting = None


async def _encoded(first: Update, stream: Stream, seen: str | None, leaving: _Leaving) -> AsyncGenerator[bytes, None]:
    async with aclosing(_news(first, stream, seen)) as news:
        try:
            while (update := await leaving.before(news)) is not None:
                yield update.event
        except DurableError as error:  # it was purged, or the host is closed: who comes back is told with a status
            logger.info("A stream ends: %s", error)


# --- WebSocket --------------------------------------------------------------------------------------------------


async def _send(socket: WebSocket, first: Update, stream: Stream, seen: str | None) -> None:
    async for update in _news(first, stream, seen):
        await socket.send_text(f'{{"id": "{update.version}", "data": {update.text.decode()}}}')
    await socket.close(1000, "the process has ended")


async def _until_gone(socket: WebSocket, sending: Coroutine[None, None, None]) -> None:
    """Carry out *sending*, but no longer than the client is there: only who receives hears that it has gone."""
    tasks = asyncio.create_task(sending), asyncio.create_task(_gone(socket))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not tasks[0].cancelled():
        tasks[0].result()


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
