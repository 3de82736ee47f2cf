"""
A mail flow of a year: a welcome, a compliment after a month, another one after a year.

Shows: delays that outlive any number of restarts, a reminder that is skipped when it would come far too late, and a
test clock that makes the year pass in a moment. While it waits it can be parked: a year costs a row, no memory.

    python -m examples.mail_flow
"""

import asyncio
from datetime import timedelta

from durable import Process, ProcessHost, process
from durable.testing import ManualClock

MONTH = timedelta(days=30)
YEAR = timedelta(days=365)


@process
async def mail_flow(proc: Process, email: str) -> None:
    await proc.do(lambda: mail.send(email, "Welcome!"), "welcome sent")

    await proc.delay(MONTH, "a month passed")
    await proc.do(lambda: mail.send(email, "Your first month with us. Congratulations!"), "month sent")

    late = await proc.delay(YEAR - MONTH, "a year passed")
    if late < timedelta(days=7):  # after an outage of weeks, better no mail than an embarrassing one
        await proc.do(lambda: mail.send(email, "Your first year with us. Congratulations!"), "year sent")


# --- the world around it ---


class Mail:
    """The mail service: keeps what was sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    async def send(self, email: str, text: str) -> None:
        self.sent.append((f"{clock.time:%Y-%m-%d}", email, text))
        print(f"{clock.time:%Y-%m-%d}  to {email}: {text}")


clock = ManualClock(autojump=True)
mail = Mail()


async def main() -> None:
    async with ProcessHost("memory://", [mail_flow], clock=clock) as host:
        handle = await host.start(mail_flow("ann@example.com"), id="mail-flow-ann")
        await handle.result()


if __name__ == "__main__":
    asyncio.run(main())
