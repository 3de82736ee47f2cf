"""
Money goes from one account to another, and back again when it is refused or called off on the way.

Shows: rollback as a plain `except`, which catches the very exception the action raised, also after a restart; and
idempotency keys, without which "at least once" would be a bad way to move money. It only ever waits for its own
actions, so it is never parked.

    python -m examples.money_transfer
"""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from durable import Process, ProcessHost, current_step, process


class TransferRefused(Exception):
    """The bank does not do it, and will not do it later either."""


@process
async def transfer_money(proc: Process, source: str, target: str, amount: Decimal) -> None:
    started: list[str] = []
    try:
        started.append(await proc.do(lambda: bank.start(source, -amount), "withdrawal started"))
        started.append(await proc.do(lambda: bank.start(target, +amount), "deposit started"))
        await proc.do(lambda: bank.complete(started[0]), "withdrawal completed")
        await proc.do(lambda: bank.complete(started[1]), "deposit completed")
    except (TransferRefused, asyncio.CancelledError):
        if len(started) > 1:
            await proc.do(lambda: bank.roll_back(started[1]), "deposit rolled back")
        if len(started) > 0:
            await proc.do(lambda: bank.roll_back(started[0]), "withdrawal rolled back")
        raise


# --- the world around it ---


@dataclass
class Transfer:
    """A change of one account: only *completed* ones count."""

    account: str
    amount: Decimal
    state: str = "started"


@dataclass
class Bank:
    """A bank that knows every transfer by the idempotency key of the step that started it."""

    accounts: set[str]
    frozen: set[str] = field(default_factory=set)
    transfers: dict[str, Transfer] = field(default_factory=dict)

    async def start(self, account: str, amount: Decimal) -> str:
        if account not in self.accounts:
            raise TransferRefused(f"there is no account {account}")
        key = current_step().key
        self.transfers.setdefault(key, Transfer(account, amount))
        return self._is_now(key, "started")

    async def complete(self, key: str) -> None:
        if self.transfers[key].account in self.frozen:
            raise TransferRefused(f"account {self.transfers[key].account} is frozen")
        self._is_now(key, "completed")

    async def roll_back(self, key: str) -> None:
        self._is_now(key, "rolled back")

    def balance(self, account: str) -> Decimal:
        done = [one.amount for one in self.transfers.values() if one.account == account and one.state == "completed"]
        return sum(done, Decimal(0))

    def _is_now(self, key: str, state: str) -> str:
        transfer = self.transfers[key]
        transfer.state = state
        print(f"{transfer.amount:+} on {transfer.account}: {state}")
        return key


bank = Bank(accounts={"ann", "bob", "eve"}, frozen={"eve"})


async def main() -> None:
    async with ProcessHost("memory://", [transfer_money]) as host:
        handle = await host.start(transfer_money("ann", "bob", Decimal(30)), id="transfer-1")
        await handle.result()
        handle = await host.start(transfer_money("ann", "eve", Decimal(50)), id="transfer-2")
        try:
            await handle.result()
        except TransferRefused as refusal:
            print(f"refused: {refusal}")
        print(f"ann {bank.balance('ann'):+}, bob {bank.balance('bob'):+}, eve {bank.balance('eve'):+}")


if __name__ == "__main__":
    asyncio.run(main())
