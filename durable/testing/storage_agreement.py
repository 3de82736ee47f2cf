"""
A hypothesis state machine that does the same to a provider and to ``memory://`` and compares every answer.

`storage_contract.StorageContract.test_agreement` runs it. The model is a real provider, found by its URL like any
other, and simple enough to be right by reading: one dictionary for each thing of the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from durable.errors import SessionLost, StorageError
from durable.storage import (
    Batch,
    BatchResult,
    Claim,
    Creation,
    End,
    InboxItem,
    JournalStorage,
    Mail,
    MailKind,
    Park,
    ProcessRow,
    Stall,
    Status,
    open_storage,
)
from durable.testing.storage_parts import QUEUE, Clock, Host, creation, last, started, step

_T = TypeVar("_T")


@dataclass(slots=True)
class Twin:
    """A session of the provider and the session of the model that does the same."""

    name: int
    tested: Host
    model: Host
    holder: JournalStorage  # of the model's session: closing it is how that session dies
    alive: bool = True


class Agreement(RuleBasedStateMachine):
    """
    Every rule does the same to a provider and to ``memory://`` and compares the answers, refusals included.

    What may differ is translated before: ids of sessions, numbers of inbox items, and which error says "refused".
    """

    IDS = tuple("abcdefgh")
    KEYS = range(1, 13)

    def make(self, place: Path, clock: Clock) -> JournalStorage:
        """A storage object of the provider under test."""
        raise NotImplementedError

    def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let time pass for the leases of the provider."""
        raise NotImplementedError

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

    def open(self, storage: JournalStorage) -> JournalStorage:
        """Open *storage* until the end of this example."""
        self.runner.run(storage.open())
        self.opened.append(storage)
        return storage

    def both(self, tested: Awaitable[_T], model: Awaitable[_T]) -> tuple[_T, _T] | None:
        """Run both; None if both refused for the same reason."""
        outcomes = [self.runner.run(_outcome(one)) for one in (tested, model)]
        kinds = [SessionLost if isinstance(one, SessionLost) else isinstance(one, StorageError) for one in outcomes]
        assert kinds[0] == kinds[1], f"the provider answers {outcomes[0]!r}, the model {outcomes[1]!r}"
        if isinstance(outcomes[0], Exception) or isinstance(outcomes[1], Exception):
            return None
        return outcomes[0], outcomes[1]

    def agree(self, tested: Awaitable[Any], model: Awaitable[Any], plain: Callable[[Any, int], Any]) -> None:
        """Run both and compare the answers as *plain* (answer, side) shows them."""
        answers = self.both(tested, model)
        if answers is not None:
            shown = [plain(answer, side) for side, answer in enumerate(answers)]
            assert shown[0] == shown[1], f"the provider answers {shown[0]!r}, the model {shown[1]!r}"

    # --- how answers are compared

    def plain_row(self, row: ProcessRow, side: int) -> ProcessRow:
        """A row with the name of the twin instead of a session's id."""
        names = {(twin.tested, twin.model)[side].session: -twin.name for twin in self.twins}
        return row._replace(owner=None if row.owner is None else names[row.owner])

    def plain_result(self, result: BatchResult, side: int) -> Any:
        """What a batch answered."""
        taken = {id_: self.plain_row(row, side) for id_, row in result.taken_ids.items()}
        return taken, list(result.deliveries), set(result.held)

    def plain_claims(self, claims: Sequence[Claim], side: int) -> Any:
        """Claims by key."""
        return {c.row.key: (self.plain_row(c.row, side), list(c.records), _unnumbered(c.inbox)) for c in claims}

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
        self.agree(self.tested.bury(), self.model.bury(), _same)

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """Only the living are renewed."""
        twin = self.draw_twin(data)
        tested = twin.tested.storage.renew(twin.tested.session, 10**6)
        self.agree(tested, self.model.renew(twin.model.session, 10**6), _same)

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
        last = self.tested.last_batch(twin.tested.session), self.model.last_batch(twin.model.session)
        self.agree(*last, _same)

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """A client's batch."""
        creations = data.draw(st.lists(self.creations(owned=st.just(False)), max_size=2))
        batch = Batch(None, creations=creations, mails=data.draw(st.lists(self.mails(), max_size=4)))
        self.agree(_commit(self.tested, batch), _commit(self.model, batch), self.plain_result)

    def creations(self, owned: st.SearchStrategy[bool]) -> st.SearchStrategy[Creation]:
        """Creations, with few ids and keys so that they collide."""
        return st.builds(
            creation,
            st.sampled_from(self.KEYS),
            owned=owned,
            id=st.sampled_from(self.IDS),
            wake_at=st.none() | st.integers(0, 20),
            definition=st.sampled_from(["one", "two"]),
            queue=st.sampled_from([QUEUE, "other"]),
            record=st.builds(started, st.integers(0, 20)),
        )

    def mails(self) -> st.SearchStrategy[Mail]:
        """Mails of every kind, to ids that may exist."""
        kinds, times = st.sampled_from(MailKind), st.integers(0, 20)
        return st.builds(
            Mail, st.sampled_from(self.IDS), kinds, st.just("name"), st.none(), st.binary(max_size=3), times
        )

    def draw_parts(self, data: st.DataObject, twin: Twin) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parts of a batch of *twin* for the provider and for the model; they differ in inbox numbers only."""
        rows = [row for row in self.runner.run(self.model.rows()) if row.owner == twin.model.session]
        some = data.draw(st.lists(st.sampled_from(rows), unique=True, max_size=3)) if rows else []
        parts: dict[str, Any] = {
            "creations": data.draw(st.lists(self.creations(owned=st.booleans()), max_size=2)),
            "mails": data.draw(st.lists(self.mails(), max_size=2)),
            "records": [],
            "progress": {},
            "parks": [],
            "stalls": [],
            "ends": [],
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
        how = data.draw(st.sampled_from(["keep", "park", "stall", "end"]), label="release")
        if how == "park":
            parts["parks"].append(Park(row.key, data.draw(st.none() | st.integers(0, 20)), mail))
        elif how == "stall":
            parts["stalls"].append(Stall(row.key, "a bug", mail))
        elif how == "end":
            status = data.draw(st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED]))
            parts["ends"].append(End(row.key, status, None, last(seq), mail))

    # --- claiming and waking

    @rule(data=st.data(), queues=st.sampled_from([[QUEUE], [QUEUE, "other"]]), later=st.integers(0, 5))
    def claim(self, data: st.DataObject, queues: list[str], later: int) -> None:
        """Everything that is due or orphaned."""
        twin = self.draw_twin(data)
        self.time += later
        tested = twin.tested.claim(self.time, queues=queues)
        self.agree(tested, twin.model.claim(self.time, queues=queues), self.plain_claims)

    @rule(data=st.data())
    def collect(self, data: st.DataObject) -> None:
        """What mail has flagged."""
        twin = self.draw_twin(data)
        tested = twin.tested.storage.collect(twin.tested.session)
        self.agree(tested, self.model.collect(twin.model.session), lambda items, _: _unnumbered(items))

    @rule(queues=st.sampled_from([[QUEUE], ["other"]]))
    def resume_stalled(self, queues: list[str]) -> None:
        """Stalled processes of one queue."""
        tested, model = (storage.resume_stalled(queues, self.time) for storage in (self.tested, self.model))
        self.agree(tested, model, _same)

    # --- what must always be equal

    @invariant()
    def same_rows(self) -> None:
        """All rows are the same, and so is what waits."""
        rows = [self.runner.run(storage.rows()) for storage in (self.tested, self.model)]
        shown = [[self.plain_row(row, side) for row in of_side] for side, of_side in enumerate(rows)]
        assert shown[0] == shown[1], f"the provider has {shown[0]!r}, the model {shown[1]!r}"
        for queue in (QUEUE, "other"):
            self.agree(self.tested.next_wake([queue]), self.model.next_wake([queue]), _same)

    def teardown(self) -> None:
        """Compare all journals and inboxes, then close everything."""
        try:
            for row in self.runner.run(self.model.rows()):
                self.agree(self.tested.journal(row.key), self.model.journal(row.key), lambda found, _: list(found))
                inboxes = self.tested.inbox(row.key), self.model.inbox(row.key)
                self.agree(*inboxes, lambda items, _: _unnumbered(items))
        finally:
            for storage in self.opened:
                self.runner.run(storage.close())
            self.runner.close()
            self.place.cleanup()


async def _commit(storage: JournalStorage, batch: Batch) -> BatchResult:
    return await storage.commit(batch)  # called where a loop runs


async def _outcome(one: Awaitable[_T]) -> _T | SessionLost | StorageError:
    try:
        return await one
    except (SessionLost, StorageError) as error:
        return error


def _same(answer: _T, _: int) -> _T:
    return answer


def _unnumbered(items: Iterable[InboxItem]) -> list[tuple[Any, ...]]:
    return [item[1:] for item in items]
