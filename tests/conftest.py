"""What every test shares: the profiles of hypothesis, and a line that says which durable is under test."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from hypothesis import settings

# No deadline for one example: on a busy machine it measures the neighbours. In CI the examples are the same every time.
settings.register_profile("everyday", settings.get_profile("ci" if "CI" in os.environ else "default"), deadline=None)
settings.register_profile("chaos", settings.get_profile("default"), deadline=None, max_examples=10_000)
settings.load_profile("everyday")


def pytest_report_header(config: pytest.Config) -> str:
    spec = find_spec("durable")
    return f"durable: {spec.origin if spec else 'not found'}"
