"""
Another OS process that uses a store: `OtherProcess` starts and asks it, running this module is what it does.

It is spoken to over a socket, one line of JSON for a question and one for its answer, so that it can still answer when
every write to a file fails. Used by the contract suite for what threads cannot show: kills, disks, other processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from durable.errors import DurableError
from durable.storage import open_storage
from durable.testing.storage_parts import Host, creation, event, step

LEASE = 3600.0  # longer than any test
SHORTEST_WAIT = 60.0  # seconds until an answer that does not come is an error


class OtherProcess:
    """A storage object with a session in another OS process; killed at the end of ``with``."""

    def __init__(self, url: str) -> None:
        own, given = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        words = [sys.executable, "-W", "ignore", "-m", __name__, url, str(given.fileno())]
        with given:
            self.process = subprocess.Popen(words, pass_fds=[given.fileno()], env=environment)
        self.socket = own
        self.socket.settimeout(SHORTEST_WAIT)
        self._lines = own.makefile("r", encoding="utf-8")

    def __enter__(self) -> OtherProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def ask(self, question: str, **values: Any) -> Any:
        """Send a question, named as a method of `Answers`, and return its answer."""
        self.send(question, **values)
        return self.read()

    def send(self, question: str, **values: Any) -> None:
        """Send a question without waiting for its answer."""
        self.socket.sendall(json.dumps([question, values]).encode() + b"\n")

    def read(self) -> Any:
        """The next answer; None when the process has ended."""
        line = self._lines.readline()
        return json.loads(line) if line.endswith("\n") else None

    def read_rest(self) -> list[Any]:
        """All answers up to the end of the process."""
        return list(iter(self.read, None))

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone; answers that were sent before can still be read."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Close this end of the socket."""
        self._lines.close()
        self.socket.close()


class Answers:
    """What the other process can be asked for; each answers with something JSON can say."""

    def __init__(self, host: Host, say: Callable[[Any], None]) -> None:
        self.host = host
        self.say = say

    async def session(self) -> int:
        """The id of its session."""
        return self.host.session

    async def create(self, key: int) -> str:
        """A batch that creates process *key*, writes to process 1 and sends it mail: ``done``, or its error's name."""
        records = [(1, step(key))] if key > 1 else []
        parts = {"creations": [creation(key)], "records": records, "mails": [event(1)]}
        try:
            await self.host.commit(**parts)
        except DurableError as error:
            return type(error).__name__
        return "done"

    async def create_for_ever(self) -> None:
        """`create` one after the other, saying each key that is done; ends with its OS process only."""
        for key in range(1, 10**9):
            assert await self.create(key) == "done"
            self.say(key)

    async def last_batch(self) -> int:
        """What its store tells of the last batch of its session."""
        return await self.host.storage.last_batch(self.host.session)

    async def claim(self, limit: int) -> list[int]:
        """Keys of all it could claim, *limit* at a time."""
        keys: list[int] = []
        while claims := await self.host.claim(limit=limit):
            keys += [claim.row.key for claim in claims]
        return keys


async def _main(url: str, descriptor: int) -> None:
    connection = socket.socket(fileno=descriptor)

    def say(answer: Any) -> None:
        connection.sendall(json.dumps(answer).encode() + b"\n")

    storage = open_storage(url)
    await storage.open()
    answers = Answers(Host(storage, await storage.begin_session("another process", LEASE)), say)
    with connection, connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            question, values = json.loads(line)
            say(await getattr(answers, question)(**values))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
