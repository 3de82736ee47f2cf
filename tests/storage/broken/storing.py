"""Broken in what comes back: values, listings, and what outlives an object."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from durable.errors import StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Creation, End, ProcessRow, Stall, Status
from durable_storage.memory import MemoryStorage
from durable_storage.memory_state import State
from tests.storage.broken.base import Broken, caught_by

# --- values


def renaming(change: Callable[[str], str]) -> type[State]:
    """A state that keeps every id as *change* makes it, and finds it so."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            creations = [one._replace(id=change(one.id)) for one in batch.creations]
            mails = [one._replace(id=change(one.id)) for one in batch.mails]
            return super().commit(replace(batch, creations=creations, mails=mails))

    return Kept


@caught_by("test_odd_ids")
class IgnoresCase(Broken):
    """Ids that differ only in case are one."""

    Kept = renaming(str.casefold)


@caught_by("test_odd_ids")
class Normalizes(Broken):
    """Composed and decomposed characters are one, as on some filesystems."""

    Kept = renaming(lambda id: unicodedata.normalize("NFC", id))


@caught_by("test_odd_ids")
class CutsIds(Broken):
    """Ids are cut at 255 characters."""

    Kept = renaming(lambda id: id[:255])


@caught_by("test_odd_ids")
class StripsIds(Broken):
    """White space around an id is dropped, as in a line of text."""

    Kept = renaming(lambda id: id.strip() or id)


@caught_by("test_odd_names")
class QueuesIgnoreCase(Broken):
    """Definitions that differ only in case are one."""

    async def count(self, *, status: Collection[Status] | None = None, definition: str | None = None) -> int:
        rows = await self.rows(status=status, limit=10**6)
        return sum(definition is None or row.definition.casefold() == definition.casefold() for row in rows)


@caught_by("test_payloads")
class CutsPayloads(Broken):
    """Payloads are cut at 64 KB, as by a column that is too short."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            records = [(key, record._replace(payload=record.payload[: 2**16])) for key, record in batch.records]
            return super().commit(replace(batch, records=records))


@caught_by("test_payloads", "test_abandoned_object_loses_nothing")
class ChangesLineEnds(Broken):
    """Payloads go through a file in text mode, and a store that writes when it is closed."""

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        records = await super().journal(key, after)
        return [record._replace(payload=record.payload.replace(b"\r\n", b"\n")) for record in records][:4]


@caught_by("test_empty_is_not_none")
class EmptyIsNothing(Broken):
    """An empty text or payload comes back as None."""

    class Kept(State):
        def _change(self, key: int, **columns: Any) -> None:
            super()._change(key, **{name: None if value in ("", b"") else value for name, value in columns.items()})


@caught_by("test_numbers")
class FloatsForNumbers(Broken):
    """Times go through a float, as in JSON elsewhere."""

    class Kept(State):
        def _create(self, creation: Creation, session: int | None) -> None:
            super()._create(creation, session)
            self._change(creation.key, created_at=int(float(creation.record.time)))


@caught_by("test_time_of_creation", "test_agreement")
class ForgetsTheTimeOfCreation(Broken):
    """A process that comes from elsewhere is as old as its journal."""

    class Kept(State):
        def _create(self, creation: Creation, session: int | None) -> None:
            super()._create(creation._replace(created_at=None), session)


@caught_by("test_time_of_creation")
class NeverBefore1970(Broken):
    """A time of creation of 0 is taken for none."""

    class Kept(State):
        def _create(self, creation: Creation, session: int | None) -> None:
            super()._create(creation._replace(created_at=creation.created_at or None), session)


@caught_by("test_time_of_creation")
class RestartIsACreation(Broken):
    """A process is as old as its life."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            result = super().commit(batch)
            for restart in batch.restarts:
                self._change(restart.key, created_at=restart.records[0].time)
            return result


@caught_by("test_times_may_go_back")
class SortsRecords(Broken):
    """A journal is read in the order of its times."""

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        return sorted(await super().journal(key, after), key=lambda record: record.time)


@caught_by("test_times_out_of_range")
class ClipsTimes(Broken):
    """A time that is too far away is moved nearer, in silence."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            parks = [park._replace(wake_at=max(-(2**63), min(park.wake_at or 0, 2**63 - 1))) for park in batch.parks]
            return super().commit(replace(batch, parks=parks))


@caught_by("test_reasons_may_hold_anything")
class KeepsHalfCharacters(Broken):
    """A reason is kept as it is, and whoever shows it fails."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            held = super()._release(batch)
            releases: list[Stall | End] = [*batch.stalls, *batch.ends]
            for release in releases:
                self._change(release.key, reason=release.reason)
            return held


# --- sharing


@caught_by("test_listing")
class OldestFirst(Broken):
    """A listing begins with the oldest."""

    async def rows(self, **which: Any) -> Sequence[ProcessRow]:
        limit = which.pop("limit", 100)
        return sorted(await super().rows(limit=10**6, **which))[:limit]


@caught_by("test_rows_by_id")
class AnswersEachTime(Broken):
    """An id that is asked for twice is answered twice."""

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        return [row for id in ids if (row := await self.row(id)) is not None]


@caught_by("test_rows_by_id")
class AnswersInPlaces(Broken):
    """An id that does not exist is answered with None."""

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[Any]:
        return [await self.row(id) for id in sorted(set(ids))]


@caught_by("test_rows_of_many_ids")
class HasFewParameters(Broken):
    """A statement has 32766 parameters, and ids beyond that are left out."""

    async def rows_by_id(self, ids: Collection[str]) -> Sequence[ProcessRow]:
        return await super().rows_by_id(list(ids)[:32_766])


@caught_by("test_data_outlive_the_object", "test_purge_outlives_the_object", "test_new_life_goes_on")
class DiesWithItsObject(Broken):
    """What was acknowledged stands in buffers that nobody writes when the last object is closed."""

    async def close(self) -> None:
        await super().close()
        if not any(member._open for member in self._store.members):
            self._store.state = self.Kept()


@caught_by("test_closed_object_lets_go")
class WorksWhenClosed(Broken):
    """A closed object goes on writing."""

    async def close(self) -> None:
        self._open = True


@caught_by("test_new_life_goes_on", "test_takeover")
class BuriesOnlyItsOwn(Broken):
    """A burial looks only at sessions that this object has begun."""

    async def bury(self) -> int:
        others = [one for one in self._usable().sessions.values() if one.holder is not self and one.state == "alive"]
        leases = [one.lease_until for one in others]
        for one in others:
            one.lease_until, one.holder = float("inf"), one.holder or object()
        buried = await super().bury()
        for one, lease_until in zip(others, leases, strict=True):
            one.lease_until = lease_until
        return buried


@caught_by("test_abandoned_object_loses_nothing", "test_data_outlive_the_object")
class WritesWhenClosed(Broken):
    """A commit is seen by its own object only, until that one is closed."""

    async def commit(self, batch: Batch) -> BatchResult:
        result = await super().commit(batch)
        self._store.writer = self  # type: ignore[attr-defined]
        return result

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        writer = getattr(self._store, "writer", None)
        if writer is not None and writer is not self and writer._open:
            return []
        return await super().journal(key, after)


@caught_by("test_many_open_at_once")
class OpensOnlyOnce(Broken):
    """Who opens while another one is opening gets an error."""

    opening = False

    async def open(self) -> None:
        if getattr(self._store, "opening", False):
            raise StorageError("The store is being created")
        self._store.opening = True  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        self._store.opening = False  # type: ignore[attr-defined]
        await MemoryStorage.open(self)


@caught_by("test_waiting_for_a_change_ends")
class WaitsForEver(Broken):
    """Waiting ends with a change only."""

    async def wait_for_change(self, timeout: float) -> None:
        await super().wait_for_change(10**6)


@caught_by("test_mail_beside_a_notice_is_heard")
class TellsOfNoticesOnly(Broken):
    """Those who must hear of a notice take the place of those who must hear of the mails beside it."""

    async def commit(self, batch: Batch) -> BatchResult:
        if not batch.notices:
            return await super().commit(batch)
        with self._store.lock:
            return self._usable().commit(batch)  # and nobody is woken: the notice was for nobody


@caught_by("test_change_by_another_object_is_heard")
class HearsNothing(Broken):
    """Waiting ends with its timeout only, and the provider says it hears changes."""

    async def wait_for_change(self, timeout: float) -> None:
        await asyncio.sleep(timeout)
