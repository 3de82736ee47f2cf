"""A listener to Server-Sent Events that costs next to nothing, so that a test can have hundreds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple


class Told(NamedTuple):
    """One event of a stream."""

    id: str
    status: dict[str, Any]


class Listener:
    """An open stream."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> Told | None:
        """The next event, or None where the stream ends."""
        id = ""
        while line := await self._reader.readline():
            if line.startswith(b"id: "):
                id = line[4:].strip().decode()
            elif line.startswith(b"data: "):
                return Told(id, json.loads(line[6:]))
            elif line == b"0\r\n":  # the last chunk; the connection may stay
                break
        return None

    async def until(self, done: float) -> Told:
        """The first event whose progress has come to *done*."""
        while (told := await self.next()) is not None:
            if told.status["progress"] and told.status["progress"]["done"] >= done:
                return told
        raise AssertionError("the stream ended before")


@asynccontextmanager
async def listening(address: str, id: str, *, seen: str | None = None) -> AsyncIterator[Listener]:
    """A stream of process *id* from the server at *address*; its head has been read."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        last = f"Last-Event-ID: {seen}\r\n" if seen else ""
        writer.write(f"GET /processes/{id}/watch HTTP/1.1\r\nHost: {address}\r\n{last}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")), head
        yield Listener(reader)
    finally:
        writer.close()
