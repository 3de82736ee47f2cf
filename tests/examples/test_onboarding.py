"""The onboarding example: by link, too late, and parked while it waits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import ProcessHost
from durable.testing import ManualClock
from examples import onboarding
from examples.onboarding import EmailVerified, onboard_user
from tests.examples.waiting import parked


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> onboarding.Users:
    """Each test has services of its own."""
    users = onboarding.Users()
    monkeypatch.setattr(onboarding, "users", users)
    monkeypatch.setattr(onboarding, "mail", onboarding.Mail())
    return users


async def test_the_command_brings_a_user_on_board(capsys: pytest.CaptureFixture[str]) -> None:
    """What `python -m examples.onboarding` runs ends with an active user."""
    await onboarding.main()
    assert capsys.readouterr().out.endswith("user-1 is on board\n")
    assert onboarding.users.states == {"user-1": "active"}


async def test_who_does_not_answer_is_removed(world: onboarding.Users) -> None:
    """Two days without the event end in the `except TimeoutError` of the process."""
    async with ProcessHost("memory://", [onboard_user], clock=ManualClock(autojump=True)) as host:
        handle = await host.start(onboard_user("ann@example.com"))
        assert await handle.result(timedelta(seconds=10)) is None
    assert world.states == {"user-1": "removed"}


async def test_it_is_parked_while_it_waits(world: onboarding.Users) -> None:
    """Waiting for the answer takes no memory, and the answer brings it back; nothing runs a second time."""
    async with ProcessHost("memory://", [onboard_user], park_after=timedelta(0)) as host:
        handle = await host.start(onboard_user("ann@example.com"))
        await parked(handle)
        await host.raise_event(handle.id, EmailVerified, "by link")
        assert await handle.result(timedelta(seconds=10)) == "user-1"
    assert world.states == {"user-1": "active"}
