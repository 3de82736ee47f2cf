"""
The life of a credit card: assigned, used for the first time or reported as unused, and one day deleted.

Shows: concurrent branches in plain asyncio. Two tasks run beside the main line; one waits for an event, one for a
timer and then for the other; the main line ends both. All of it can be parked where it waits, `TaskGroup` included.

    python -m examples.credit_card
"""

import asyncio
from datetime import timedelta

from durable import Event, Process, ProcessHost, process
from durable.testing import ManualClock

TransactionAppeared = Event("transaction appeared", str)
CardDeleted = Event("card deleted", str)


@process
async def credit_card(proc: Process, company: str, card: str) -> None:
    email = await proc.do(lambda: companies.email(company), "email found")
    await proc.do(lambda: mail.send(email, f"{card} was assigned to you"), "assignment sent")
    used = asyncio.Event()

    async def report_first_use() -> None:
        shop = await proc.event(TransactionAppeared)
        used.set()
        await proc.do(lambda: mail.send(email, f"{card} was used for the first time, at {shop}"), "first use sent")

    async def remind_if_unused() -> None:
        await proc.delay(timedelta(days=5), "time to look")
        if not used.is_set():
            await proc.do(lambda: mail.send(email, f"{card} has not been used yet"), "reminder sent")

    async with asyncio.TaskGroup() as branches:
        first_use = branches.create_task(report_first_use())
        reminder = branches.create_task(remind_if_unused())
        await proc.event(CardDeleted)
        first_use.cancel()
        reminder.cancel()

    await proc.do(lambda: mail.send(email, f"{card} was deleted"), "deletion sent")


# --- the world around it ---


class Companies:
    """The company directory."""

    async def email(self, company: str) -> str:
        return f"office@{company}.example"


class Mail:
    """The mail service: keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, email: str, text: str) -> None:
        self.sent.append(text)
        print(f"{clock.time:%Y-%m-%d %H:%M}  to {email}: {text}")


clock = ManualClock()
companies = Companies()
mail = Mail()


async def main() -> None:
    async with ProcessHost("memory://", [credit_card], clock=clock) as host:
        handle = await host.start(credit_card("acme", "1111-2222"), id="card-1111-2222")
        await clock.advance(timedelta(days=6))
        await host.raise_event(handle.id, TransactionAppeared, "the bakery")
        await clock.advance(timedelta(days=300))
        await host.raise_event(handle.id, CardDeleted, "by its owner")
        await handle.result()


if __name__ == "__main__":
    asyncio.run(main())
