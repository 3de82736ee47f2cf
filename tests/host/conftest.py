"""Every test of the host runs on memory and on a real SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store that can be opened again and again, and by several hosts."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}-{request.node.name}"
    return f"sqlite:///{tmp_path / 'processes.db'}"
