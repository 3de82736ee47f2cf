"""A line to a PostgreSQL server that can be cut at the worst moment: the server has answered, and nobody hears it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class Line:
    """
    Passes connections on to *port*; an async context manager.

    Attributes:
        loses_answers: From now on whatever the server says is lost, and the connection with it.
        is_down: New connections are closed at once.
        lost: How many answers were lost.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[asyncio.StreamWriter] = set()
        self.loses_answers = False
        self.is_down = False
        self.lost = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        self._server.close()

    def cut(self) -> None:
        """Reset every connection there is."""
        for writer in self._open:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if not self.is_down:
                to_server = await asyncio.open_connection("127.0.0.1", self._target)
                ends = {writer, to_server[1]}
                self._open |= ends
                await asyncio.gather(self._pass_on(reader, to_server[1]), self._answer(to_server[0], writer))
                self._open -= ends
        writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.loses_answers:
                    self.lost += 1
                    break
                writer.write(data)
        writer.transport.abort()
