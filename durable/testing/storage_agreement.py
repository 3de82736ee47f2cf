"""
A hypothesis state machine that does the same to a provider and to ``memory://`` and compares every answer.

`storage_contract.agreement` runs it; how two stores are asked and compared is in `storage_twins`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from durable.storage import (
    Batch,
    Creation,
    End,
    JournalStorage,
    Mail,
    MailKind,
    Notice,
    Park,
    ProcessRow,
    Restart,
    Stall,
    Status,
    open_storage,
)
from durable.testing.storage_parts import QUEUE, Clock, Host, creation, last, started, step
from durable.testing.storage_twins import IDS, KEYS, Twin, Twins, given, same, send, together, unnumbered


class Agreement(Twins):
    """What may happen to a store: each rule does it to both."""

    @initialize()
    def begin(self) -> None:
        """Open one object on each side, with a first session."""
        self.runner = asyncio.Runner()
        self.place = TemporaryDirectory(prefix="durable-agreement-")
        self.clock = Clock()
        self.model_url = f"memory://{uuid4()}"
        self.opened: list[JournalStorage] = []
        self.twins: list[Twin] = []
        self.time = 0
        self.model = self.open(open_storage(self.model_url))
        self.tested = self.open(self.make(Path(self.place.name), self.clock))
        self.begin_session()
        self.create_some()

    # --- sessions

    @rule()
    def begin_session(self) -> None:
        """One more session, each on storage objects of their own."""
        if sum(twin.alive for twin in self.twins) == 3:
            return
        tested, holder = (
            self.open(self.make(Path(self.place.name), self.clock)),
            self.open(open_storage(self.model_url)),
        )
        sessions = [self.runner.run(storage.begin_session("host", 10**6)) for storage in (tested, holder)]
        twin = Twin(len(self.twins) + 1, Host(tested, sessions[0]), Host(self.model, sessions[1]), holder)
        self.twins.append(twin)

    @rule(data=st.data(), clean=st.booleans())
    def lose_session(self, data: st.DataObject, clean: bool) -> None:
        """A session ends, or loses its lease and is buried by another object."""
        twin = self.draw_twin(data)
        twin.alive = False
        if clean:
            self.both(self.tested.end_session(twin.tested.session), self.model.end_session(twin.model.session))
            return
        if self.runner.run(twin.tested.storage.renew(twin.tested.session, 1.0)):
            self.pass_time(self.clock, 1.5)
        self.runner.run(twin.holder.close())
        self.agree(self.tested.bury(), self.model.bury(), same)

    @rule(clean=st.booleans())
    def reopen(self, clean: bool) -> None:
        """
        The observing object of the provider is closed, or abandoned, and another one takes its place.

        It has no session, so that nobody dies of it; what it sees next must be what was there before.
        """
        if clean:
            self.opened.remove(self.tested)
            self.runner.run(self.tested.close())
        self.tested = self.open(self.make(Path(self.place.name), self.clock))

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Only the living are renewed."""
        twin = self.draw_twin(data)
        tested = twin.tested.storage.renew(twin.tested.session, 10**6)
        self.agree(tested, self.model.renew(twin.model.session, 10**6), same)

    def draw_twin(self, data: st.DataObject) -> Twin:
        """A session, more often a living one."""
        living = [twin for twin in self.twins if twin.alive]
        return data.draw(st.sampled_from(living * 3 + self.twins), label="session")

    # --- writing

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """A batch of a few parts, mostly right, sometimes wrong in one of them."""
        twin = self.draw_twin(data)
        tested, model = self.draw_parts(data, twin)
        self.agree(twin.tested.commit(**tested), twin.model.commit(**model), self.plain_result)

    @rule()
    def create_some(self) -> None:
        """Two processes for the last session that lives: what the other rules work on."""
        living = [twin for twin in self.twins if twin.alive]
        if living:
            taken = {row.id for row in self.runner.run(self.model.rows())}
            free = [id for id in IDS if id not in taken][:2]
            new = [creation(IDS.index(id) + 1, id=id, definition="one") for id in free]
            self.agree(
                living[-1].tested.commit(creations=new), living[-1].model.commit(creations=new), self.plain_result
            )

    @rule(data=st.data(), times=st.integers(1, 3))
    def let_go(self, data: st.DataObject, times: int) -> None:
        """Processes of living sessions get mail, or none, and their owners let go of them, knowing of it or not."""
        for _ in range(times):
            self.let_go_of_one(data)

    def let_go_of_one(self, data: st.DataObject) -> None:
        """Mail, and then the release that it may hold, for one process."""
        rows = self.runner.run(self.model.rows())
        owners = {twin.model.session: twin for twin in self.twins if twin.alive}
        owned = [row for row in rows if row.owner in owners]
        if not owned:
            return
        row = data.draw(st.sampled_from(owned), label="process")
        twin = owners[row.owner or 0]
        kinds = data.draw(st.lists(st.sampled_from(MailKind), max_size=2), label="mails")
        batch = Batch(None, mails=[Mail(row.id, kind, "name", None, b"", 7) for kind in kinds])
        self.agree(send(self.tested, batch), send(self.model, batch), self.plain_result)
        if data.draw(st.booleans(), label="collected"):
            self.collect_both(twin)
        parts: dict[str, Any] = {"parks": [], "stalls": [], "ends": [], "restarts": [], "notices": []}
        seq = len(self.runner.run(self.model.journal(row.key))) + 1
        self.draw_release(data, parts, row._replace(mail=row.mail + len(kinds)), seq)
        self.agree(twin.tested.commit(**parts), twin.model.commit(**parts), self.plain_result)

    @rule(data=st.data())
    def send_mails(self, data: st.DataObject) -> None:
        """A client's batch."""
        creations = data.draw(st.lists(self.creations(owned=st.just(False)), max_size=2))
        batch = Batch(None, creations=creations, mails=data.draw(st.lists(self.mails(), max_size=4)))
        self.agree(send(self.tested, batch), send(self.model, batch), self.plain_result)

    def creations(self, owned: st.SearchStrategy[bool]) -> st.SearchStrategy[Creation]:
        """Creations, with few ids and keys so that they collide."""
        return st.builds(
            creation,
            st.sampled_from(KEYS),
            owned=owned,
            id=st.sampled_from(IDS),
            wake_at=st.none() | st.integers(0, 20),
            definition=st.sampled_from(["one", "two"]),
            queue=st.sampled_from([QUEUE, "other"]),
            record=st.builds(started, st.integers(0, 20)),
        ).map(_older)

    def mails(self) -> st.SearchStrategy[Mail]:
        """Mails of every kind, to ids that may exist."""
        kinds, times = st.sampled_from(MailKind), st.integers(0, 20)
        return st.builds(Mail, st.sampled_from(IDS), kinds, st.just("name"), st.none(), st.binary(max_size=3), times)

    def draw_parts(self, data: st.DataObject, twin: Twin) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parts of a batch of *twin* for the provider and for the model; they differ in inbox numbers only."""
        rows = [row for row in self.runner.run(self.model.rows()) if row.owner == twin.model.session]
        some = data.draw(st.lists(st.sampled_from(rows), unique=True, max_size=3)) if rows else []
        parts: dict[str, Any] = {
            "creations": data.draw(st.lists(self.creations(owned=st.booleans()), max_size=2)),
            "children": data.draw(st.lists(self.creations(owned=st.booleans()), max_size=1) | st.just([])),
            "mails": data.draw(st.lists(self.mails(), max_size=2)),
            "records": [],
            "progress": {},
            "parks": [],
            "stalls": [],
            "ends": [],
            "restarts": [],
            "notices": [],
        }
        taken: tuple[list[int], list[int]] = ([], [])
        for row in some:
            seq = len(self.runner.run(self.model.journal(row.key))) + 1
            wrong = data.draw(st.sampled_from([0] * 20 + [1, -1]), label="off by")
            appended = data.draw(st.integers(0, 3), label="records")
            parts["records"] += [(row.key, step(seq + wrong + extra)) for extra in range(appended)]
            if data.draw(st.booleans(), label="take"):
                for side, storage in enumerate((self.tested, self.model)):
                    taken[side].extend(item.number for item in self.runner.run(storage.inbox(row.key)))
            if data.draw(st.booleans(), label="progress"):
                parts["progress"][row.key] = bytes([seq])
            self.draw_release(data, parts, row, seq + wrong + appended)
        return {**parts, "taken": taken[0]}, {**parts, "taken": taken[1]}

    def draw_release(self, data: st.DataObject, parts: dict[str, Any], row: ProcessRow, seq: int) -> None:
        """Let go of a process, or not, knowing its mail or not."""
        mail = row.mail - data.draw(st.sampled_from([0, 0, 0, 1]), label="mail not seen")
        how = data.draw(st.sampled_from(["keep", "park", "stall", "end", "restart"]), label="release")
        if how == "park":
            parts["parks"].append(Park(row.key, data.draw(st.none() | st.integers(0, 20)), mail))
        elif how == "stall":
            parts["stalls"].append(Stall(row.key, "a bug", mail))
        elif how == "end":
            status = data.draw(st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED]))
            parts["ends"].append(End(row.key, status, None, last(seq), mail))
            parts["notices"] += [Notice(row.key, mail) for mail in data.draw(st.lists(self.mails(), max_size=2))]
        elif how == "restart":
            records = [started(), *map(step, range(2, data.draw(st.integers(2, 4), label="records")))]
            parts["restarts"].append(Restart(row.key, data.draw(st.sampled_from(["one", "two"])), QUEUE, records))

    # --- claiming and waking

    @rule(data=st.data(), queues=st.sampled_from([[QUEUE], [QUEUE, "other"]]), later=st.integers(-3, 5))
    def claim(self, data: st.DataObject, queues: list[str], later: int) -> None:
        """What is due or orphaned: all of it, or as much as makes it clear what is meant by the earliest."""
        twin = self.draw_twin(data)
        self.time = max(self.time + later, 0)
        limit = self.draw_limit(data, queues)
        tested = twin.tested.claim(self.time, limit, queues)
        self.agree(tested, twin.model.claim(self.time, limit, queues), self.plain_claims)

    def draw_limit(self, data: st.DataObject, queues: list[str]) -> int:
        """A limit that cuts between two different times: among equals and orphans a provider may choose."""
        rows = self.runner.run(self.model.rows())
        waiting = [row for row in rows if row.queue in queues and row.status is Status.RUNNING]
        living = {twin.model.session for twin in self.twins if twin.alive}
        if any(row.owner is not None and row.owner not in living for row in waiting):
            return 1000
        wakes = sorted(row.wake_at for row in waiting if row.owner is None and row.wake_at is not None)
        cuts = [n for n in range(1, len(wakes)) if wakes[n - 1] < wakes[n]]
        return data.draw(st.sampled_from([1000, *cuts]), label="limit")

    @rule(data=st.data())
    def collect(self, data: st.DataObject) -> None:
        """What mail has flagged."""
        self.collect_both(self.draw_twin(data))

    def collect_both(self, twin: Twin) -> None:
        """Collect for one session."""
        tested = twin.tested.storage.collect(twin.tested.session)
        self.agree(tested, self.model.collect(twin.model.session), lambda items, _: unnumbered(items))

    @rule(queues=st.sampled_from([[QUEUE], ["other"]]))
    def resume_stalled(self, queues: list[str]) -> None:
        """Stalled processes of one queue."""
        tested, model = (storage.resume_stalled(queues, self.time) for storage in (self.tested, self.model))
        self.agree(tested, model, same)

    @rule(data=st.data())
    def two_at_once(self, data: st.DataObject) -> None:
        """
        Two sessions commit at the same instant; what is left is what one order of them leaves.

        Each writes to its own processes only, so that there is one right answer whichever comes first.
        """
        living = [twin for twin in self.twins if twin.alive]
        if len(living) < 2:
            return
        pair = data.draw(st.permutations(living), label="sessions")[:2]
        parts = [self.draw_parts(data, twin) for twin in pair]
        for tested, model in parts:
            for part in (tested, model):
                # These would meet those of the other, and the answers would depend on the order.
                part.update(creations=[], children=[], mails=[], notices=[])
        commits = [twin.tested.commit(**tested) for twin, (tested, _) in zip(pair, parts, strict=True)]
        outcomes = self.runner.run(together(commits))
        for twin, (_, model), outcome in zip(pair, parts, outcomes, strict=True):
            self.agree(given(outcome), twin.model.commit(**model), self.plain_result)

    # --- keeping house

    @rule(limit=st.integers(1, 5))
    def ended(self, limit: int) -> None:
        """What ended before each time at which something ended; in which order at one time is free."""

        def times(rows: Sequence[ProcessRow], _: int) -> list[int | None]:
            return [row.ended_at for row in rows]

        for before in {row.ended_at for row in self.runner.run(self.model.ended(10**6, 1000))} | {10**6}:
            assert before is not None
            self.agree(self.tested.ended(before, limit), self.model.ended(before, limit), times)
            some = self.tested.ended(before, 1000), self.model.ended(before, 1000)
            self.agree(*some, lambda rows, side: {self.plain_row(row, side) for row in rows})

    @rule(keys=st.sets(st.sampled_from(KEYS), max_size=6), all_that_ended=st.booleans())
    def purge(self, keys: set[int], all_that_ended: bool) -> None:
        """Some of what has ended goes for good; what lives stays."""
        if all_that_ended:
            keys = {row.key for row in self.runner.run(self.model.ended(10**6, 1000))}
        self.agree(self.tested.purge(keys), self.model.purge(keys), same)

    @rule(data=st.data())
    def listing(self, data: st.DataObject) -> None:
        """A page of a listing, and the count for it."""
        status = data.draw(st.none() | st.sets(st.sampled_from(Status)), label="status")
        definition = data.draw(st.none() | st.sampled_from(["one", "two", "three"]), label="definition")
        limit, before = data.draw(st.integers(1, 5)), data.draw(st.none() | st.integers(1, 13))
        pages = [
            storage.rows(status=status, definition=definition, limit=limit, before=before)
            for storage in (self.tested, self.model)
        ]
        self.agree(pages[0], pages[1], lambda rows, side: [self.plain_row(row, side) for row in rows])
        counts = [storage.count(status=status, definition=definition) for storage in (self.tested, self.model)]
        self.agree(counts[0], counts[1], same)

    # --- what must always be equal

    @invariant()
    def same_rows(self) -> None:
        """All rows are the same, however they are asked for, and so is what waits."""
        rows = [self.runner.run(storage.rows()) for storage in (self.tested, self.model)]
        shown = [[self.plain_row(row, side) for row in of_side] for side, of_side in enumerate(rows)]
        assert shown[0] == shown[1], f"the provider has {shown[0]!r}, the model {shown[1]!r}"
        found = {row.key: row for row in self.runner.run(self.tested.rows_by_id(IDS))}
        assert [found[row.key] for row in rows[0]] == list(rows[0]), f"by id the provider has {found!r}"
        for queue in (QUEUE, "other"):
            self.agree(self.tested.next_wake([queue]), self.model.next_wake([queue]), same)

    def teardown(self) -> None:
        """Compare all journals and inboxes, those of purged processes too, then close everything."""
        try:
            self.ended(limit=2)
            for twin in self.twins:
                batches = self.tested.last_batch(twin.tested.session), self.model.last_batch(twin.model.session)
                self.agree(*batches, same)
            for key in KEYS:
                self.agree(self.tested.journal(key), self.model.journal(key), lambda found, _: list(found))
                inboxes = self.tested.inbox(key), self.model.inbox(key)
                self.agree(*inboxes, lambda items, _: unnumbered(items))
        finally:
            for storage in self.opened:
                self.runner.run(storage.close())
            self.runner.close()
            self.place.cleanup()


def _older(new: Creation) -> Creation:
    """Every other process comes from another store, where it began before its journal. Nothing is drawn for that."""
    return new._replace(created_at=new.record.time - 5) if new.record.time % 2 else new
