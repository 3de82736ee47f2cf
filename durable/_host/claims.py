"""
Looking for work: a loop that claims what nobody owns, collects mail, and buries the dead. Polling is the truth here;
hints only make it look sooner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from durable._host.clock import Clock
from durable._host.engine.engine import Engine
from durable._host.pending import Pending
from durable._host.residents.resident import Resident
from durable._host.timers import Timer
from durable._host.watching.changes import Changes
from durable.errors import NotOwned, SessionLost, StorageError
from durable.storage import Claim, JournalStorage, ProcessRow, Status

logger = logging.getLogger("durable.host")

_AT_ONCE = 500  # processes claimed in one go: replaying them must not keep the loop for long
# Seconds between two looks, unless somebody here asks for one. Our own commits hint at changes all the time, so looks
# that find nothing become rarer; after a quiet while the first hint counts at once again.
_SPACING_FROM, _SPACING_TO, _QUIET_WHILE = 0.005, 0.1, 1.0
_BURY_EVERY = 1.0
_LOOK_UP_EVERY = 0.5  # seconds between two questions what has become of those that wait for their turn


class Claims:
    """
    The loop that brings processes and mail to an engine.

    Args:
        poll: Longest seconds between two looks when nothing hints at a change.
        pending: Those that were started here and wait to be claimed.
    """

    def __init__(
        self,
        storage: JournalStorage,
        engine: Engine,
        session: int,
        queues: frozenset[str],
        clock: Clock,
        poll: float,
        changes: Changes,
        pending: Pending,
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._session = session
        self._queues = queues
        self._clock = clock
        self._poll = poll
        self._changes = changes
        self._pending = pending
        self._wanted = asyncio.Event()
        self._buried = 0.0
        self._looked_up = 0.0
        self._looked = 0.0
        self._seen = changes.count
        self._spacing = _SPACING_FROM
        self._next: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._looking = False
        self._looks = 0
        self._mailed: dict[str, int] = {}

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name="durable: claims")

    def want(self) -> None:
        """Look again at once: something here changed."""
        self._wanted.set()

    def mailed(self, id: str) -> None:
        """Mail of ours for process *id* is in its inbox; it is collected by a look that begins from now on."""
        self._mailed[id] = self._looks
        self.want()

    def has_mail(self, id: str) -> bool:
        """Whether mail of ours for process *id* may still be in its inbox, where nothing must overtake it."""
        return id in self._mailed

    def is_quiet(self) -> bool:
        return not self._looking and not self._wanted.is_set()

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        pause = 0.05
        while True:
            self._wanted.clear()
            self._looking = True
            try:
                again = await self._look()
                pause = 0.05
                self._mailed = {id: look for id, look in self._mailed.items() if look >= self._looks}
            except SessionLost:
                return  # the session itself tells the host
            except StorageError as error:
                logger.warning("Looking for work failed, trying again in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            finally:
                self._looking = False
            if not again:
                await self._wait()

    async def _look(self) -> bool:
        """One look; whether there is probably more."""
        self._looks += 1
        engine = self._engine
        now = monotonic()
        self._spacing = min(self._spacing * 2, _SPACING_TO) if now - self._looked < _QUIET_WHILE else _SPACING_FROM
        self._looked = now
        behind = list(engine.behind)
        items = await self._storage.collect(self._session)
        if items:
            self._spacing = _SPACING_FROM
            await self._call(lambda: engine.receive(items))
        if still := [resident for resident in behind if resident in engine.behind]:
            await self._part_from_lost(still)
        await self._look_up_pending()
        room = min(engine.room(), _AT_ONCE)
        if room <= 0:
            await self._call(lambda: engine.parking.sweep(_AT_ONCE))
            return engine.room() > 0  # what was found to be unparkable counts no more
        if await self._claim(room) >= room or await self._bury():
            return True
        await self._set_alarm()
        return False

    async def _part_from_lost(self, residents: Sequence[Resident]) -> None:
        """They had mail, and it was not collected: perhaps they are not ours any more, since it cannot be read."""
        rows = {row.key: row for row in await self._storage.rows_by_id([resident.id for resident in residents])}
        for resident in residents:
            row = rows.get(resident.key)
            if row is None or row.owner != self._session:
                error = NotOwned(f"Process {resident.id!r} has left this host")
                await self._call(partial(self._engine.discard, resident, error))

    async def _look_up_pending(self) -> None:
        """Those that other hosts have claimed wait no more; asked from time to time, while nobody else may wait."""
        if not self._pending.is_full() or monotonic() - self._looked_up < _LOOK_UP_EVERY:
            return
        self._looked_up = monotonic()
        ids = self._pending.next(_AT_ONCE)
        rows = {row.id: row for row in await self._storage.rows_by_id(ids)} if ids else {}
        for id in ids:
            if not _waits_for_its_turn(rows.get(id), self._clock.now()):
                self._pending.left(id)

    async def _bury(self) -> bool:
        """Bury the dead from time to time, behind what is urgent; whether they have left something to claim."""
        if monotonic() - self._buried < _BURY_EVERY:
            return False
        self._buried = monotonic()
        return await self._storage.bury() > 0

    async def _claim(self, room: int) -> int:
        engine = self._engine
        claims: Sequence[Claim] = ()
        engine.expected += room
        try:
            claims = await self._storage.claim(self._session, self._queues, room, self._clock.now())
        finally:
            engine.expected -= room - len(claims)  # what was claimed has its place until it is taken in
        if claims:
            self._spacing = _SPACING_FROM
            for claim in claims:
                self._pending.left(claim.row.id)
            await engine.adopt(claims)
        return len(claims)

    async def _call(self, function: Callable[[], object]) -> None:
        """Call *function* from a plain callback: it steps process code, which never happens inside a task."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def call() -> None:
            try:
                function()
            finally:
                if not done.done():
                    done.set_result(None)

        loop.call_soon(call)
        await done

    async def _set_alarm(self) -> None:
        due = await self._storage.next_wake(self._queues)
        if self._next is not None:
            self._next.cancel()
        self._next = None if due is None else self._engine.timers.add(due, self.want)

    async def _wait(self) -> None:
        waiting = asyncio.ensure_future(self._wanted.wait())
        changing = asyncio.ensure_future(self._change())
        try:
            await asyncio.wait((waiting, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            changing.cancel()
            await asyncio.wait((waiting, changing))

    async def _change(self) -> None:
        await asyncio.sleep(self._spacing)
        self._seen = await self._changes.after(self._seen, self._poll)


def _waits_for_its_turn(row: ProcessRow | None, now: int) -> bool:
    if row is None or row.status is not Status.RUNNING or row.owner is not None:
        return False
    return row.wake_at is not None and row.wake_at <= now
