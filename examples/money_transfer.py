"""
Money goes from one account to another, and back again when it is refused or called off on the way.

Shows: rollback as a plain `except`, which catches the very exception the action raised, also after a restart. And keys
that are chosen beforehand: a start that was interrupted may have reached the bank or not, so the rollback names the
transfer by its key instead of by an answer that never came. It only ever waits for its own actions: it is never parked.

    python -m examples.money_transfer
"""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from durable import Process, ProcessHost, process


class TransferRefused(Exception):
    """The bank does not do it, and will not do it later either."""


@process
async def transfer_money(proc: Process, source: str, target: str, amount: Decimal) -> None:
    withdrawal, deposit = proc.key("withdrawal"), proc.key("deposit")
    try:
        await proc.do(lambda: bank.start(withdrawal, source, -amount), "withdrawal started")
        await proc.do(lambda: bank.start(deposit, target, +amount), "deposit started")
        await proc.do(lambda: bank.complete(withdrawal), "withdrawal completed")
        await proc.do(lambda: bank.complete(deposit), "deposit completed")
    except (TransferRefused, asyncio.CancelledError):
        await proc.do(lambda: bank.roll_back(deposit), "deposit rolled back")
        await proc.do(lambda: bank.roll_back(withdrawal), "withdrawal rolled back")
        raise


# --- the world around it ---


@dataclass
class Transfer:
    """A change of one account; it counts when it is completed."""

    account: str
    amount: Decimal
    state: str = "started"


@dataclass
class Bank:
    """A bank that knows every transfer by the key it was given: the second start of one is the first."""

    accounts: set[str]
    frozen: set[str] = field(default_factory=set)
    transfers: dict[str, Transfer] = field(default_factory=dict)

    async def start(self, key: str, account: str, amount: Decimal) -> None:
        if account not in self.accounts:
            raise TransferRefused(f"there is no account {account}")
        self._becomes("started", self.transfers.setdefault(key, Transfer(account, amount)))

    async def complete(self, key: str) -> None:
        transfer = self.transfers[key]
        if transfer.account in self.frozen:
            raise TransferRefused(f"account {transfer.account} is frozen")
        self._becomes("completed", transfer)

    async def roll_back(self, key: str) -> None:
        if key in self.transfers:
            self._becomes("rolled back", self.transfers[key])

    def balance(self, account: str) -> Decimal:
        done = [one.amount for one in self.transfers.values() if one.account == account and one.state == "completed"]
        return sum(done, Decimal(0))

    def _becomes(self, state: str, transfer: Transfer) -> None:
        transfer.state = state
        print(f"{transfer.amount:+} on {transfer.account}: {state}")


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
