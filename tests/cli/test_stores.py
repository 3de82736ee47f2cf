"""What a URL is called, and where on this machine it leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.cli.stores import local_path, name_of


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://ann:secret@db.example:5432/shop?sslpassword=secret", "postgresql://ann@db.example:5432/shop"),
        ("postgresql://db.example/shop", "postgresql://db.example/shop"),
        ("sqlite:////var/a.db?readers=4", "sqlite:////var/a.db"),
        ("sqlite:///a%20b.db", "sqlite:///{here}/a b.db"),
        ("file:///var/store", "file:///var/store"),
        ("file:store", "file://{here}/store"),
        ("file://localhost/var/store", "file:///var/store"),
        ("memory://name", "memory://name"),
    ],
)
def test_a_store_has_one_name(url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is the same from every directory and spelling of a path, and has neither password nor options."""
    monkeypatch.chdir(tmp_path)
    assert name_of(url) == name.replace("{here}", str(tmp_path.resolve()))


def test_only_files_of_this_machine_have_a_path(tmp_path: Path) -> None:
    """A path is what the provider of the URL would open; other stores have none."""
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    assert local_path(f"sqlite:///{tmp_path}/link.db") == str(tmp_path / "real.db")
    assert local_path("postgresql://db/shop") is None
    assert local_path("memory://") is None
