"""
The examples as scenarios that are killed at every write: their own processes and services, as they are.

The services of the examples live in memory, and the kill takes their memory: `lasting` keeps it, as for any service
that is elsewhere. Each life has an OS process to itself, so it may put its own into the modules of the examples.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from durable import ProcessEnded, ProcessHost
from durable.testing.crash import Stage
from examples import credit_card, mail_flow, money_transfer, onboarding, zip_pipeline
from tests.crash.outside import LastingClock, lasting
from tests.examples.zip_runs import write_files

S = TypeVar("S")

DAY = timedelta(days=1)


async def run_onboarding(stage: Stage) -> object:
    """One user opens the link; another does not, and is removed after two days."""
    onboarding.users = users = lasting(onboarding.users, stage.directory / "users")
    onboarding.mail = mail = lasting(onboarding.mail, stage.directory / "mail")
    clock = LastingClock(stage.directory / "clock")
    async with ProcessHost(stage.url, [onboarding.onboard_user], clock=clock) as host:
        ann = await host.start(onboarding.onboard_user("ann@example.com"), id="ann")
        with suppress(ProcessEnded):
            await host.raise_event("ann", onboarding.EmailVerified, "by link", key="click")
        on_board = await ann.result()
        bob = await host.start(onboarding.onboard_user("bob@example.com"), id="bob")
        await clock.advance(2 * DAY)
        return on_board, await bob.result(), users.states, list(mail.secrets)


async def run_mail_flow(stage: Stage) -> object:
    """A year on a clock that jumps; parked in between, it is claimed again for each mail."""
    mail_flow.mail = mail = lasting(mail_flow.mail, stage.directory / "mail")
    mail_flow.clock = clock = LastingClock(stage.directory / "clock", autojump=True)
    async with ProcessHost(stage.url, [mail_flow.mail_flow], clock=clock, park_after=timedelta(0)) as host:
        handle = await host.start(mail_flow.mail_flow("ann@example.com"), id="ann")
        await handle.result()
        return each_once(mail.sent)


async def run_money_transfer(stage: Stage) -> object:
    """One transfer arrives, one is refused at its last step and rolled back."""
    money_transfer.bank = bank = lasting(money_transfer.bank, stage.directory / "bank")
    async with ProcessHost(stage.url, [money_transfer.transfer_money]) as host:
        done = await host.start(money_transfer.transfer_money("ann", "bob", Decimal(30)), id="done")
        refused = await host.start(money_transfer.transfer_money("ann", "eve", Decimal(50)), id="refused")
        ends = await asyncio.gather(done.result(), refused.result(), return_exceptions=True)
        states = sorted((one.account, one.amount, one.state) for one in bank.transfers.values())
        return ends, states, [bank.balance(account) for account in sorted(bank.accounts)]


async def run_credit_card(stage: Stage) -> object:
    """A card that is reported as unused, then used, then deleted."""
    credit_card.mail = mail = lasting(credit_card.mail, stage.directory / "mail")
    credit_card.clock = clock = LastingClock(stage.directory / "clock")
    async with ProcessHost(stage.url, [credit_card.credit_card], clock=clock) as host:
        card = await host.start(credit_card.credit_card("acme", "1111"), id="card")
        with suppress(ProcessEnded):
            await clock.advance(6 * DAY)
            await host.raise_event("card", credit_card.TransactionAppeared, "the bakery", key="first")
            await clock.advance(300 * DAY)
            await host.raise_event("card", credit_card.CardDeleted, "by its owner", key="deleted")
        await card.result()
        return each_once(mail.sent)


async def run_zip_pipeline(stage: Stage) -> object:
    """A few small files become one archive that holds just them, and nothing stands beside it."""
    source, target = stage.directory / "input", stage.directory / "target"
    if stage.life == 0:
        write_files(stage.directory, files=6, size=1000)
    async with ProcessHost(stage.url, [zip_pipeline.zip_files]) as host:
        handle = await host.start(zip_pipeline.zip_files([str(source)], target.as_uri(), "archive.zip"), id="zip")
        archive = await handle.result()
    assert [path.name for path in target.rglob("*")] == ["archive.zip"], "something is left over"
    assert zip_pipeline.compare(archive, [str(source)], target.as_uri()) == 0, "it differs from the originals"
    return archive


def each_once(sent: list[S]) -> list[S]:
    """What was sent, in order: a mail that was sent again after a kill is the same mail."""
    return list(dict.fromkeys(sent))


EXAMPLES = (run_onboarding, run_mail_flow, run_money_transfer, run_credit_card, run_zip_pipeline)
