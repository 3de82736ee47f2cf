"""The mail-flow example: a year in a moment, and an outage at its end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import ProcessHost
from durable.testing import ManualClock
from examples import mail_flow
from tests.examples.waiting import parked


@pytest.fixture(autouse=True)
def mail(monkeypatch: pytest.MonkeyPatch) -> mail_flow.Mail:
    """Each test has a mail service and a clock of its own."""
    mail = mail_flow.Mail()
    monkeypatch.setattr(mail_flow, "mail", mail)
    monkeypatch.setattr(mail_flow, "clock", ManualClock(autojump=True))
    return mail


async def test_the_command_sends_three_mails_in_a_year(mail: mail_flow.Mail) -> None:
    """What `python -m examples.mail_flow` runs sends each mail on its day."""
    await mail_flow.main()
    assert [day for day, _, _ in mail.sent] == ["2026-01-01", "2026-01-31", "2027-01-01"]


async def test_no_compliment_comes_weeks_late(mail: mail_flow.Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host runs when the year is over; the one that starts three weeks later skips the mail."""
    clock = ManualClock()
    monkeypatch.setattr(mail_flow, "clock", clock)
    store = "memory://mail-flow-late"
    async with ProcessHost(store, [mail_flow.mail_flow], clock=clock) as host:
        await host.start(mail_flow.mail_flow("ann@example.com"), id="ann")
        await clock.advance(timedelta(days=40))
    await clock.advance(timedelta(days=365 - 40 + 21))
    async with ProcessHost(store, [mail_flow.mail_flow], clock=clock) as host:
        await host.get("ann").result(timedelta(seconds=10))
    assert [day for day, _, _ in mail.sent] == ["2026-01-01", "2026-01-31"]


async def test_it_is_parked_for_the_year(mail: mail_flow.Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two mails it is in nobody's memory, and comes back when its time has come."""
    clock = ManualClock()
    monkeypatch.setattr(mail_flow, "clock", clock)
    async with ProcessHost("memory://", [mail_flow.mail_flow], clock=clock, park_after=timedelta(0)) as host:
        handle = await host.start(mail_flow.mail_flow("ann@example.com"))
        await parked(handle)
        await clock.advance(timedelta(days=30))
        await parked(handle)
        await clock.advance(timedelta(days=335))
        await handle.result(timedelta(seconds=10))
    assert len(mail.sent) == 3
