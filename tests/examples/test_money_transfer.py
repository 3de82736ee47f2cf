"""The money-transfer example: done, refused at each point, called off."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from durable import ProcessCancelled, ProcessHost
from examples import money_transfer
from examples.money_transfer import Bank, TransferRefused, transfer_money

SOON = timedelta(seconds=10)


@pytest.fixture(autouse=True)
def bank(monkeypatch: pytest.MonkeyPatch) -> Bank:
    """Each test has a bank of its own."""
    bank = Bank(accounts={"ann", "bob", "eve"}, frozen={"eve"})
    monkeypatch.setattr(money_transfer, "bank", bank)
    return bank


async def test_the_command_moves_money_and_moves_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    """What `python -m examples.money_transfer` runs: one transfer arrives, one is refused and rolled back."""
    await money_transfer.main()
    assert capsys.readouterr().out.endswith("refused: account eve is frozen\nann -30, bob +30, eve +0\n")


@pytest.mark.parametrize(("source", "target"), [("ann", "nobody"), ("nobody", "bob"), ("ann", "eve"), ("eve", "bob")])
async def test_a_refused_transfer_leaves_every_balance(bank: Bank, source: str, target: str) -> None:
    """Wherever the bank refuses, the process catches its exception, rolls back, and raises it to the caller."""
    async with ProcessHost("memory://", [transfer_money]) as host:
        handle = await host.start(transfer_money(source, target, Decimal(10)))
        with pytest.raises(TransferRefused):
            await handle.result(SOON)
    assert [bank.balance(account) for account in ("ann", "bob", "eve")] == [0, 0, 0]


async def test_a_transfer_that_is_called_off_is_rolled_back(bank: Bank) -> None:
    """Cancelling is one more way into the same `except`."""
    async with ProcessHost("memory://", [transfer_money]) as host:
        handle = await host.start(transfer_money("ann", "bob", Decimal(10)))
        await handle.cancel("ordered by mistake")
        with pytest.raises(ProcessCancelled, match="ordered by mistake"):
            await handle.result(SOON)
    assert {transfer.state for transfer in bank.transfers.values()} <= {"rolled back"}
