"""
Hints between hosts and clients of one store, by NOTIFY; polling is the truth, so each of them may be lost.

A notice takes a lock of the whole server at its commit. So it is never part of a batch, there is one at most every few
milliseconds however many there is to tell of, and none at all unless somebody else must know: mail for a process that
another session holds, or something to claim. That processes have ended or changed is said only while somebody waits for
it, which that one says by a notice of its own: every client, and a host that looks at processes of others.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import Any

from durable.errors import StorageError
from durable_storage.postgres.channel import AnswerLost, Channel
from durable_storage.postgres.connecting import Connection

_SPACING = 0.01  # seconds between two notices of one storage object
_SPREAD = 0.002  # what all may take is not asked for by all at once
_RARELY = 0.1  # seconds between two looks of a client because of what need not be about what it waits for
_INTEREST = 30.0  # seconds for which one question for endings counts
_LOOKING = 2.0  # seconds for which a host that has looked at processes of others wants to hear of them
_LONGEST = 500  # sessions named in one notice; beyond that it is for everybody
_ANYONE, _ENDINGS, _WAITING = "0", "e", "w"  # beside the numbers of sessions


class Notices:
    """
    What one storage object tells others and hears from them.

    Args:
        channel: The connection to send and listen on.
        schema: Stores of different schemas do not hear each other.
    """

    def __init__(self, channel: Channel, schema: str) -> None:
        self._channel = channel
        self._name = f"durable_{schema}"
        self._sessions: set[str] = set()
        self._heard = asyncio.Event()
        self._is_for_us = False
        self._unsaid: set[str] = set()
        self._said_at = 0.0
        self._looked_at = 0.0
        self._asked_at = -_INTEREST
        self._endings_until = 0.0
        self._looking_until = 0.0
        self._saying: asyncio.Task[None] | None = None

    async def listen(self, connection: Connection) -> None:
        """Listen on a new connection; what was said meanwhile was not heard, so somebody should look."""
        await connection.add_listener(self._name, self._hear)
        self._is_for_us = True
        self._heard.set()

    def answer_to(self, session: int) -> None:
        """From now on notices for *session* are for us."""
        self._sessions.add(str(session))

    def forget(self, session: int) -> None:
        """Notices for *session* are for nobody any more."""
        self._sessions.discard(str(session))

    def looked(self) -> None:
        """Somebody here waits for processes, and looks again and again."""
        self._looking_until = asyncio.get_running_loop().time() + _LOOKING

    def endings_are_awaited(self) -> bool:
        """Whether somebody has asked to be told of them lately."""
        return asyncio.get_running_loop().time() < self._endings_until

    def tell_sessions(self, sessions: list[int]) -> None:
        """Tell the owners of processes that have mail; 0 stands for whoever claims it."""
        self._say({str(session) for session in sessions})

    def tell_endings(self) -> None:
        """Tell those who wait that processes have ended or changed."""
        self._say({_ENDINGS})

    async def announce(self) -> None:
        """Tell every host that there may be something to claim; sent at return, for who is about to leave."""
        with suppress(StorageError, AnswerLost):
            await self._channel.once(partial(self._send, _ANYONE))

    async def wait(self, timeout: float) -> None:
        """Return when something was heard since the last call, or after *timeout* seconds."""
        now = asyncio.get_running_loop().time()
        if self._wants_endings() and now - self._asked_at > _INTEREST / 3:
            self._asked_at = now
            self._say({_WAITING})
        try:
            async with asyncio.timeout(timeout):
                await self._heard.wait()
                if not self._is_for_us:
                    rest = 0.0 if self._sessions else self._looked_at + _RARELY - asyncio.get_running_loop().time()
                    await asyncio.sleep(max(rest, random.uniform(0, _SPREAD)))
        except TimeoutError:
            pass
        self._heard.clear()
        self._is_for_us = False
        self._looked_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Say nothing any more."""
        if self._saying is not None:
            self._saying.cancel()
            await asyncio.wait([self._saying])

    def _say(self, words: set[str]) -> None:
        if not words:
            return
        self._unsaid |= words
        if self._saying is None or self._saying.done():
            self._saying = asyncio.create_task(self._keep_saying(), name="durable: notices")

    async def _keep_saying(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsaid:
            await asyncio.sleep(max(0.0, self._said_at + _SPACING - loop.time()))
            words, self._unsaid = self._unsaid, set()
            self._said_at = loop.time()
            text = " ".join(sorted(words)) if len(words) <= _LONGEST else _ANYONE
            try:
                await self._channel.once(partial(self._send, text))
            except (StorageError, AnswerLost):
                return  # a hint less: whoever it was for looks by himself before long

    async def _send(self, text: str, connection: Connection) -> None:
        # It is gone with a crash of the server whatever the disk says, so it does not wait for the disk.
        saying = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)"
        await connection.execute(saying, self._name, text)

    def _wants_endings(self) -> bool:
        """A client waits for nothing but endings and changes of processes that others hold; a host may, too."""
        return not self._sessions or asyncio.get_running_loop().time() < self._looking_until

    def _hear(self, connection: Any, process: int, _name: str, text: Any) -> None:
        words = set(str(text).split())
        if _WAITING in words:
            self._endings_until = asyncio.get_running_loop().time() + _INTEREST
        told_by_another = process != connection.get_server_pid()
        if words & self._sessions or (_ENDINGS in words and told_by_another and self._wants_endings()):
            self._is_for_us = True
            self._heard.set()
        elif _ANYONE in words:
            self._heard.set()
