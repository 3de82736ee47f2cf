"""
`move`: every unfinished process from one store into another, so that none can ever run in both, and none is lost.

For each process, in this order, each step one durable write:

1. It is marked and claimed at the source, by a session of the move: from now on no host runs it (`marks` says how).
2. It is ended at the source, as "moved to" the destination. That holds only if no mail came; else look again.
3. It is created at the destination, complete in one batch: row, journal, inbox, progress, and when it wants to wake.
4. It is deleted at the source.

A crash after 1 leaves it at the source, to be claimed by the next host or the next move. A crash after 2 or 3 leaves an
ended process there, which the next move to the same destination finds, and goes on with: it creates it unless it is
there. So a process is runnable at the source, or nowhere while a move is in the middle of it, or at the destination.

Parents and children go last, and only if nothing has to stay: how a child ended is told in its own store, and nowhere
else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from durable import times
from durable.codec import Codec
from durable.errors import StorageError
from durable.journal import Record
from durable.storage import ENDED, Claim, JournalStorage, Park, ProcessRow, Stall, Status
from durable.transfer import marks
from durable.transfer.arrival import Side
from durable.transfer.snapshot import Snapshot

_TOGETHER = 50  # processes in one batch; their journals are in memory together
_UNFINISHED = (Status.RUNNING, Status.STALLED)
_TAKEN = "its id is taken at the destination"
_TORN = "it has a parent or children, and others stay: see to those, and copy again"


class Outcome(StrEnum):
    """What became of one process."""

    MOVED = "moved"
    COPIED = "copied"
    THERE = "there already"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One process, and what became of it; *why* it was left where it is."""

    id: str
    outcome: Outcome
    why: str | None = None


async def move(
    source: JournalStorage,
    target: JournalStorage,
    destination: str,
    codec: Codec,
    *,
    ended: bool = False,
    tell: Callable[[Transfer], object] = lambda transfer: None,
    now: Callable[[], int] = times.now,
) -> list[Transfer]:
    """
    Move every unfinished process from *source* to *target*, both open; what became of each.

    What a living host holds is left, so stop the hosts of the source first. After a crash call it again, with the same
    *destination*: what is on its way is found by it.

    Args:
        destination: How *target* is called, always the same; no password.
        codec: The codec of the source; what is noted where a process ends there is written with it.
        ended: Copy ended processes, too. They stay at the source.
        tell: Called with each process that is done.

    Durability: A process of which `tell` was called is at the target, on storage.
    Raises:
        StorageError: One of the stores fails, or both are the same one.
    """
    await source.bury()
    leaving = await Side.begin(source)
    try:
        arriving = await Side.begin(target)
        try:
            return await _Move(leaving, arriving, destination, codec, tell, now).run(ended)
        finally:
            with suppress(StorageError):  # it failed already, or its lease ends it
                await target.end_session(arriving.session)
    finally:
        with suppress(StorageError):
            await source.end_session(leaving.session)


class _Move:
    def __init__(
        self,
        source: Side,
        target: Side,
        destination: str,
        codec: Codec,
        tell: Callable[[Transfer], object],
        now: Callable[[], int],
    ) -> None:
        self._source = source
        self._target = target
        self._destination = destination
        self._codec = codec
        self._tell = tell
        self._now = now
        self._done: list[Transfer] = []
        self._queues: set[str] = set()
        self._marked: set[str] = set()
        self._refused: dict[str, str] = {}  # id -> why it cannot go
        self._kept: list[Claim] = []  # claimed, and refused: they go back at the end
        self._kin: list[ProcessRow] = []  # claimed: parents and children, which all go or all stay

    async def run(self, ended: bool) -> list[Transfer]:
        await self._finish_interrupted()
        while await self._mark_movable():
            await self._move_claimable()
        await self._move_kin()
        await self._put_back()
        await self._report_left()
        if ended:
            await self._copy_ended()
        return self._done

    # --- what a crash has left half-way ---

    async def _finish_interrupted(self) -> None:
        async for page in self._source.pages([Status.TERMINATED]):
            for row in page:
                if not marks.may_be_moved(row):
                    continue
                records = await self._source.storage.journal(row.key)
                if not marks.was_moved(row, records):
                    continue
                if row.reason != marks.moved_to(self._destination):
                    self._say(row.id, Outcome.LEFT, f"it is being {row.reason}: copy to there again")
                    continue
                await self._arrive([marks.snapshot_after_end(row, records, self._codec, self._now())])

    # --- from the source ---

    async def _mark_movable(self) -> bool:
        """Make everything claimable that may go; whether there may be something to claim."""
        marked, held = False, False
        async for page in self._source.pages(_UNFINISHED):
            await self._renew()
            batch = self._source.batch()
            for row in page:
                self._queues.add(row.queue)
                if row.owner is not None:
                    held = held or row.owner != self._source.session
                elif row.id not in self._marked and await self._may_go(row):
                    batch.mails.append(marks.mark(row, self._now()))
                    self._marked.add(row.id)
            if batch.mails:
                marked = True
                await self._source.storage.commit(batch)
        # Of what is held, orphans can be claimed, and what a living host holds cannot.
        return marked or (held and await self._source.storage.next_wake(self._queues) == 0)

    async def _may_go(self, row: ProcessRow) -> bool:
        if row.id in self._refused:
            return False
        there = await self._target.storage.row(row.id)
        if there is None:
            return True
        if there == row:
            raise StorageError(
                f"Process {row.id!r} is in both stores, in the very same state: they are one store, or one is a copy",
                fix="name two different stores, and let the destination be one without these processes",
            )
        self._refused[row.id] = _TAKEN
        return False

    async def _move_claimable(self) -> None:
        storage, session = self._source.storage, self._source.session
        while claims := await storage.claim(session, self._queues, _TOGETHER, self._now()):
            await self._renew()
            going = []
            for claim in claims:
                if claim.row.id not in self._marked and not await self._may_go(claim.row):
                    self._kept.append(claim)
                elif marks.has_kin(claim.records, self._codec):
                    self._kin.append(claim.row)
                else:
                    going.append(claim)
            await self._arrive(await self._leave(going))

    async def _move_kin(self) -> None:
        stays = await self._something_stays()
        for first in range(0, len(self._kin), _TOGETHER):
            await self._renew()
            rows = self._kin[first : first + _TOGETHER]
            claims = [await self._claimed(row.id, await self._source.storage.journal(row.key)) for row in rows]
            if stays:
                self._refused |= dict.fromkeys((row.id for row in rows), _TORN)
                self._kept += claims
            else:
                await self._arrive(await self._leave(claims))

    async def _something_stays(self) -> bool:
        if self._refused:
            return True
        async for page in self._source.pages(_UNFINISHED):
            if any(row.owner not in (None, self._source.session) for row in page):
                return True
        return False

    async def _leave(self, claims: list[Claim]) -> list[Snapshot]:
        """End *claims* at the source; they are what is returned, and run nowhere now."""
        left: list[Snapshot] = []
        while claims:
            batch = self._source.batch()
            batch.ends = [marks.end_at_source(claim, self._destination, self._codec, self._now()) for claim in claims]
            held = set((await self._source.storage.commit(batch)).held)
            left += [marks.snapshot_of(claim, self._now()) for claim in claims if claim.row.key not in held]
            claims = [await self._claimed(one.row.id, one.records) for one in claims if one.row.key in held]
        return left

    async def _claimed(self, id: str, records: Sequence[Record]) -> Claim:
        """A claim with the mail that came meanwhile. The row first: what comes after that is found out by the end."""
        row = await self._source.storage.row(id)
        assert row is not None  # it is ours, and has not ended
        return Claim(row, records, await self._source.storage.inbox(row.key))

    # --- at the destination ---

    async def _arrive(self, snapshots: Sequence[Snapshot]) -> None:
        """Create what has left the source, delete it there."""
        if not snapshots:
            return
        taken = await self._target.create(snapshots)
        arrived = []
        for snapshot in snapshots:
            there = taken.get(snapshot.id)
            if there is None or await self._target.has_arrived(snapshot.records, there):
                arrived.append(snapshot)
            else:
                self._say(snapshot.id, Outcome.LEFT, f"{_TAKEN}, since it is on its way: purge that one, copy again")
        await self._source.storage.purge([snapshot.key for snapshot in arrived])
        for snapshot in arrived:
            self._say(snapshot.id, Outcome.MOVED)

    async def _copy_ended(self) -> None:
        async for page in self._source.pages(tuple(ENDED)):
            await self._renew()
            for first in range(0, len(page), _TOGETHER):
                await self._copy([await self._ended(row) for row in page[first : first + _TOGETHER]])

    async def _ended(self, row: ProcessRow) -> Snapshot | None:
        """An ended process complete; None for one that is on its way, or was purged since its row was read."""
        records = await self._source.storage.journal(row.key)
        if not records or marks.was_moved(row, records):
            return None
        return Snapshot.of(row, records, ())

    async def _copy(self, found: Sequence[Snapshot | None]) -> None:
        snapshots = [snapshot for snapshot in found if snapshot is not None]
        taken = await self._target.create(snapshots)
        for snapshot in snapshots:
            there = taken.get(snapshot.id)
            if there is None:
                self._say(snapshot.id, Outcome.COPIED)
            elif await self._target.has_arrived(snapshot.records, there):
                self._say(snapshot.id, Outcome.THERE)
            else:
                self._say(snapshot.id, Outcome.LEFT, _TAKEN)

    # --- what stays ---

    async def _put_back(self) -> None:
        """Let go of what was claimed and cannot go, as it stood before."""
        claims = self._kept
        while claims:
            batch = self._source.batch()
            for claim in claims:
                key, mail = claim.row.key, claim.row.mail
                stood = marks.standing(claim.inbox, self._now())
                if stood.status is Status.STALLED:
                    batch.stalls.append(Stall(key, stood.reason or "", mail))
                else:
                    batch.parks.append(Park(key, stood.wake_at, mail))
            held = set((await self._source.storage.commit(batch)).held)
            claims = [await self._claimed(one.row.id, one.records) for one in claims if one.row.key in held]

    async def _report_left(self) -> None:
        async for page in self._source.pages(_UNFINISHED):
            for row in page:
                if row.owner is not None:
                    why = f"session {row.owner} of a host holds it: stop that host, and copy again"
                else:
                    why = self._refused.get(row.id, "it came while the others were moved: copy again")
                self._say(row.id, Outcome.LEFT, why)

    async def _renew(self) -> None:
        for side in (self._source, self._target):
            await side.renew()

    def _say(self, id: str, outcome: Outcome, why: str | None = None) -> None:
        transfer = Transfer(id, outcome, why)
        self._done.append(transfer)
        self._tell(transfer)
