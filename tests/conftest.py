"""What every test shares: hypothesis, the server of PostgreSQL, and a line that says which durable is under test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import settings

from tests.postgres_server import Missing, Shared, given

# No deadline for one example: on a busy machine it measures the neighbours. In CI the examples are the same every time.
settings.register_profile("everyday", settings.get_profile("ci" if "CI" in os.environ else "default"), deadline=None)
settings.register_profile("chaos", settings.get_profile("default"), deadline=None, max_examples=10_000)
settings.load_profile("everyday")


def pytest_report_header(config: pytest.Config) -> str:
    spec = find_spec("durable")
    return f"durable: {spec.origin if spec else 'not found'}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server; skipped where there is none, which is a failure in CI."""
    shared = Shared(os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid())))
    try:
        url = given() or shared.url()
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(f"PostgreSQL is NOT tested: {missing}")
        pytest.skip(f"PostgreSQL is NOT tested: {missing}")
    yield url
    shared.leave()
