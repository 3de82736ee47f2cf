"""Every delivery runs on memory and on a real SQLite file, to a real receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webhooks.receiver import Receiver


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store that can be opened again and again, and by several hosts."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}-{request.node.name}"
    return f"sqlite:///{tmp_path / 'processes.db'}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything, until it is told otherwise."""
    with Receiver() as receiver:
        yield receiver
