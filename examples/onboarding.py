"""
A new user is registered, asked to verify an e-mail address, and activated once the answer is in.

Shows: an action that is tried again when it fails, a value that is made once, an event from outside with a deadline,
and what happens when nobody answers. While it waits for the answer it can be parked: two days cost a row, no memory.

    python -m examples.onboarding
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from durable import Event, Process, ProcessHost, Retry, current_step, process

EmailVerified = Event("email verified", str)


@process
async def onboard_user(proc: Process, email: str) -> str | None:
    user_id = await proc.do(lambda: users.register(email), "registered", retry=Retry(5))
    secret = await proc.get(uuid4, "secret")
    await proc.do(lambda: mail.verify(email, secret), "verification sent")
    try:
        await proc.event(EmailVerified, timeout=timedelta(days=2))
    except TimeoutError:
        await proc.do(lambda: users.remove(user_id), "removed")
        return None
    await proc.do(lambda: users.activate(user_id), "activated")
    return user_id


# --- the world around it ---


@dataclass
class Users:
    """The user service. A second registration under the same idempotency key gives the same user."""

    states: dict[str, str] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)

    async def register(self, email: str) -> str:
        user_id = self.by_key.setdefault(current_step().key, f"user-{len(self.by_key) + 1}")
        self.states[user_id] = "registered"
        print(f"registered {email} as {user_id}")
        return user_id

    async def activate(self, user_id: str) -> None:
        self.states[user_id] = "active"
        print(f"activated {user_id}")

    async def remove(self, user_id: str) -> None:
        self.states[user_id] = "removed"
        print(f"removed {user_id}")


@dataclass
class Mail:
    """The mail service."""

    secrets: dict[str, UUID] = field(default_factory=dict)

    async def verify(self, email: str, secret: UUID) -> None:
        self.secrets[email] = secret
        print(f"asked {email} to open https://shop.example/verify/{secret}")


users = Users()
mail = Mail()


async def main() -> None:
    async with ProcessHost("memory://", [onboard_user]) as host:
        handle = await host.start(onboard_user("ann@example.com"), id="onboard-42")
        await host.raise_event("onboard-42", EmailVerified, "by link")
        print(f"{await handle.result()} is on board")


if __name__ == "__main__":
    asyncio.run(main())
