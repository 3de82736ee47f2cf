"""Makes a provider look installed: an entry point of ``durable.storage``, as its wheel would bring it."""

from __future__ import annotations

from pathlib import Path

import pytest


def install(scheme: str, target: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let `open_storage` find *target* (``module:callable``) for URLs of *scheme*, here and in children, until undone.

    What is written to *directory* is what `pip install` writes for a package with this in its ``pyproject.toml``::

        [project.entry-points."durable.storage"]
        scheme = "module:callable"
    """
    package = directory / f"durable_{scheme}-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: durable-{scheme}\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[durable.storage]\n{scheme} = {target}\n")
    monkeypatch.syspath_prepend(str(directory))
