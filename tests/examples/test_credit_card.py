"""The credit-card example: every order of timer and events, and parked in a `TaskGroup`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import ProcessHost
from durable.testing import ManualClock
from examples import credit_card
from examples.credit_card import CardDeleted, TransactionAppeared
from tests.examples.waiting import parked

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def mail(monkeypatch: pytest.MonkeyPatch) -> credit_card.Mail:
    """Each test has a mail service and a clock of its own."""
    mail = credit_card.Mail()
    monkeypatch.setattr(credit_card, "mail", mail)
    monkeypatch.setattr(credit_card, "clock", ManualClock())
    return mail


def topics(mail: credit_card.Mail) -> list[str]:
    return [text.removeprefix("1111-2222 ").partition(",")[0] for text in mail.sent]


async def test_the_command_lives_through_all_of_it(mail: credit_card.Mail) -> None:
    """What `python -m examples.credit_card` runs: unused for days, then used, then deleted."""
    await credit_card.main()
    assert topics(mail) == [
        "was assigned to you",
        "has not been used yet",
        "was used for the first time",
        "was deleted",
    ]


@pytest.mark.parametrize("park_after", [timedelta(0), timedelta(hours=1)], ids=["parked", "resident"])
async def test_a_card_used_in_time_brings_no_reminder(mail: credit_card.Mail, park_after: timedelta) -> None:
    """The branch that waits for the timer sees what the branch that waited for the event did, parked or not."""
    clock = credit_card.clock
    async with ProcessHost("memory://", [credit_card.credit_card], clock=clock, park_after=park_after) as host:
        handle = await host.start(credit_card.credit_card("acme", "1111-2222"))
        if not park_after:
            await parked(handle)
        await host.raise_event(handle.id, TransactionAppeared, "the bakery")
        await clock.advance(6 * DAY)
        if not park_after:
            await parked(handle)
        await host.raise_event(handle.id, CardDeleted, "by its owner")
        await handle.result(timedelta(seconds=10))
    assert topics(mail) == ["was assigned to you", "was used for the first time", "was deleted"]


async def test_a_deleted_card_ends_every_branch(mail: credit_card.Mail) -> None:
    """What waits for the timer and for the first use is cancelled with the card."""
    clock = credit_card.clock
    async with ProcessHost("memory://", [credit_card.credit_card], clock=clock) as host:
        handle = await host.start(credit_card.credit_card("acme", "1111-2222"))
        await host.raise_event(handle.id, CardDeleted, "by its owner")
        await handle.result(timedelta(seconds=10))
        await clock.advance(6 * DAY)
    assert topics(mail) == ["was assigned to you", "was deleted"]
