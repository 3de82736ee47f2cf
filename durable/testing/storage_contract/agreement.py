"""The provider against ``memory://``: hypothesis does random things to both, and every answer has to be the same."""

from __future__ import annotations

from pathlib import Path

from hypothesis.stateful import run_state_machine_as_test

from durable.storage import JournalStorage
from durable.testing.storage_agreement import Agreement
from durable.testing.storage_contract.suite import Suite
from durable.testing.storage_parts import Clock


class AgreesWithMemory(Suite):
    """What no single test thought of."""

    def test_agreement(self) -> None:
        """Under random operations and deaths the provider answers what ``memory://`` answers."""
        contract = self

        class Machine(Agreement):
            def make(self, place: Path, clock: Clock) -> JournalStorage:
                return contract.make_storage(place, clock)

            def pass_time(self, clock: Clock, seconds: float) -> None:
                contract.pass_time(clock, seconds)

        run_state_machine_as_test(Machine, settings=self.agreement_settings)
