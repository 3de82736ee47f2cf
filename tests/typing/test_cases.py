"""
What type checkers tell a user: every case is checked by mypy and pyright, and never run.

A line that ends in ``# expect-error: TEXT`` must produce an error that holds TEXT, a code or part of the message;
``|`` separates the texts of different checkers. Every other line must produce none. So a wrong use that slips through
fails the test, as does a right use that is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.typing import checkers
from tests.typing.checkers import Errors, Finding, by_file, differences

CASES = sorted(Path(__file__).with_name("cases").glob("*.py"))


@pytest.fixture(scope="module", params=[checkers.mypy, checkers.pyright], ids=["mypy", "pyright"])
def errors(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[Path, dict[int, list[str]]]:
    """The errors of one checker in all cases; both checkers run once, over all of them."""
    check: Callable[[list[Path], Path], list[Finding]] = request.param
    return by_file(check(CASES, tmp_path_factory.mktemp("typing")))


def test_the_cases_are_checked(errors: dict[Path, dict[int, list[str]]]) -> None:
    """Each checker sees each case just as its marks say, and stumbles over nothing else."""
    found = {case.name: differences(case.read_text(), errors.pop(case.resolve(), {})) for case in CASES}
    assert CASES
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert errors == {}, "errors in our own packages"


@pytest.mark.parametrize(
    ("errors", "difference"),
    [
        ({2: ["Bad argument [arg-type]"]}, None),
        ({2: ["Something else [misc]", "x is wrong [reportCall]"]}, None),
        ({}, "line 2: no error"),
        ({2: ["Something else [misc]"]}, "line 2: expected arg-type or is wrong, got"),
        ({1: ["Bad argument [arg-type]"], 2: ["Bad argument [arg-type]"]}, "line 1: unexpected error"),
    ],
)
def test_a_disagreement_would_be_noticed(errors: Errors, difference: str | None) -> None:
    """An error that is missing, another one, or one too many is a difference; the expected one is not."""
    found = differences("f(1)\nf(2)  # expect-error: arg-type | is wrong\n", errors)
    assert len(found) == (difference is not None)
    assert all(line.startswith(difference or "") for line in found)
