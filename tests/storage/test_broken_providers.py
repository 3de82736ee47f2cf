"""
The contract suite can fail: providers that are each broken in one way, and the tests that catch them.

The table stands beside the providers: `caught_by` names the tests of the contract that must fail on each. Here each of
these tests is run on it by a direct call, and the table is checked to leave no test of the contract without a provider
that it catches. That the suite passes on healthy ones is tested where they are.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from durable.errors import DurableError
from durable.storage import JournalStorage
from durable.testing import disk_faults
from durable.testing.storage_contract import Clock, StorageContract, contention, sharing
from tests.storage import installing
from tests.storage.broken import base, files, keeping, owning, storing, successions, writing

pytestmark = pytest.mark.slow

assert all((writing, owning, keeping, storing, successions, files))  # imported for what they put on the list
NEEDS_STRACE = ("test_failing_disk", "test_acknowledged_is_synced")
CONTRACT = Path(sharing.__file__).parent


def contract_of(provider: type[Any]) -> StorageContract:
    """The contract suite for a broken provider."""

    class Tested(StorageContract):
        KEEPS_FILES = provider.KEEPS_FILES
        agreement_settings = settings(StorageContract.agreement_settings, phases=[Phase.generate], derandomize=True)

        def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
            return provider.make(place, clock)  # type: ignore[no-any-return]

        def url(self, place: Path) -> str | None:
            return provider.url(place)  # type: ignore[no-any-return]

        def damaged_places(self, before: Path, after: Path, into: Path) -> Iterable[Path]:
            return provider.damaged_places(before, after, into)  # type: ignore[no-any-return]

    return Tested()


def parameters_of(test: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """What a test of the contract is run with, by the name pytest gives each."""
    cases: dict[str, dict[str, Any]] = {"": {}}
    for mark in getattr(test, "pytestmark", []):
        names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
        for values in mark.args[1]:
            values = [values] if len(names) == 1 else values
            label = "-".join(value.name.lower() if hasattr(value, "name") else str(value) for value in values)
            cases[f"[{label}]"] = dict(zip(names, values, strict=True))
        del cases[""]
    return cases


TESTS = {
    name + label: parameters
    for name, test in inspect.getmembers(StorageContract, inspect.isfunction)
    if name.startswith("test_")
    for label, parameters in parameters_of(test).items()
}
TABLE = [(fault, test) for fault in base.FAULTS for test in fault.tests]


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers on files are found by other OS processes; who waits in vain waits for less than a second."""
    target = "tests.storage.broken.files:open_broken"
    installing.install("broken", target, tmp_path_factory.mktemp("installed"), monkeypatch)
    for module in (sharing, contention):
        monkeypatch.setattr(module, "LONGEST", 1.0)


def run(contract: StorageContract, test: str, tmp_path: Path) -> None:
    """Run one test of the contract as pytest would."""
    if test.startswith(NEEDS_STRACE) and disk_faults.find_strace() is None:
        pytest.skip("strace is missing or not permitted: failures of the disk are NOT tested")
    function = getattr(contract, test.partition("[")[0])
    place = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(function).parameters else {}
    function(**place, **TESTS[test])


@pytest.mark.parametrize(("fault", "test"), TABLE, ids=[f"{fault.provider.__name__}-{test}" for fault, test in TABLE])
def test_is_caught(fault: base.Fault, test: str, tmp_path: Path) -> None:
    """This test of the contract fails on this broken provider, and by what it says, not by an accident."""
    try:
        run(contract_of(fault.provider), test, tmp_path)
    except (AssertionError, DurableError, TimeoutError, pytest.fail.Exception, BaseExceptionGroup):
        return  # by its assert, its `pytest.raises`, its time limit, or an error that the provider may raise
    except Exception as error:
        last = list(traceback.walk_tb(error.__traceback__))[-1][0]
        assert Path(last.f_code.co_filename).is_relative_to(CONTRACT), (
            "the provider has crashed"
        )  # else by ``[one] = …``
        return
    raise AssertionError(f"{test} passes on a provider that is broken: {fault.what}")


def test_every_test_catches_something() -> None:
    """There is a broken provider for every test of the contract, with each of its parameters."""
    assert {test for _, test in TABLE} == set(TESTS)


@pytest.mark.parametrize("test", [test for test in TESTS if test.startswith("test_torn")])
def test_log_is_healthy(test: str, tmp_path: Path) -> None:
    """The log that the broken ones on files are made of passes what they fail."""
    run(contract_of(files.Logged), test, tmp_path)
