"""
A provider and ``memory://`` side by side: how both are asked, and how their answers are compared.

`storage_agreement` says what is asked. The model is a real provider, found by its URL like any other, and simple enough
to be right by reading: one dictionary for each thing of the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from durable.errors import ProcessExists, SessionLost, StorageError
from durable.storage import Batch, BatchResult, Claim, InboxItem, JournalStorage, ProcessRow
from durable.testing.storage_parts import Clock, Host

_T = TypeVar("_T")

IDS = tuple("abcdefgh")
KEYS = range(1, 13)
REFUSALS = (SessionLost, ProcessExists, StorageError)
Refusal = SessionLost | ProcessExists | StorageError


@dataclass(slots=True)
class Twin:
    """A session of the provider and the session of the model that does the same."""

    name: int
    tested: Host
    model: Host
    holder: JournalStorage  # of the model's session: closing it is how that session dies
    alive: bool = True


class Twins(RuleBasedStateMachine):
    """
    Every rule does the same to a provider and to ``memory://`` and compares the answers, refusals included.

    What may differ is translated before: ids of sessions, numbers of inbox items, and which error says "refused".
    """

    runner: asyncio.Runner
    opened: list[JournalStorage]
    twins: list[Twin]

    def make(self, place: Path, clock: Clock) -> JournalStorage:
        """A storage object of the provider under test."""
        raise NotImplementedError  # the suite says it for each example

    def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let time pass for the leases of the provider."""
        raise NotImplementedError  # the suite says it for each example

    def open(self, storage: JournalStorage) -> JournalStorage:
        """Open *storage* until the end of this example."""
        self.runner.run(storage.open())
        self.opened.append(storage)
        return storage

    def both(self, tested: Awaitable[_T], model: Awaitable[_T]) -> tuple[_T, _T] | None:
        """Run both; None if both refused in the same way."""
        outcomes = [self.runner.run(outcome_of(one)) for one in (tested, model)]
        kinds = [next((kind for kind in REFUSALS if isinstance(one, kind)), None) for one in outcomes]
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
        return {c.row.key: (self.plain_row(c.row, side), list(c.records), unnumbered(c.inbox)) for c in claims}


async def send(storage: JournalStorage, batch: Batch) -> BatchResult:
    """Commit *batch* where a loop runs, as `JournalStorage.commit` may need it."""
    return await storage.commit(batch)


async def outcome_of(one: Awaitable[_T]) -> _T | Refusal:
    """What *one* gave or how it was refused."""
    try:
        return await one
    except REFUSALS as error:
        return error


async def together(calls: Sequence[Awaitable[_T]]) -> list[_T | Refusal]:
    """What each of *calls* gave, all made at once."""
    return list(await asyncio.gather(*map(outcome_of, calls)))


async def given(outcome: _T | Refusal) -> _T:
    """What was answered before, as if it were answered now."""
    if isinstance(outcome, REFUSALS):
        raise outcome
    return outcome


def same(answer: _T, _: int) -> _T:
    """An answer that needs no translation."""
    return answer


def unnumbered(items: Iterable[InboxItem]) -> list[tuple[Any, ...]]:
    """Inbox items without their numbers, which each store chooses for itself."""
    return [item[1:] for item in items]
