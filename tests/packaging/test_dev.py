"""The helpers of dev.py that decide something: when an environment is made anew, which interpreter is taken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.packaging.source import ROOT


@pytest.fixture(scope="module")
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "constraints.txt").write_text("a==1")
    return tmp_path


def _interpreter(path: Path, answer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return path


def test_the_environment_stays_while_nothing_changes(dev: ModuleType, checkout: Path) -> None:
    """The same place, interpreter and requirements have the same key, so later runs start at once."""
    assert dev.environment_key(checkout, ["a"]) == dev.environment_key(checkout, ["a"])


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_the_environment_follows_its_files(dev: ModuleType, checkout: Path, name: str) -> None:
    """A change of either file makes another key."""
    before = dev.environment_key(checkout, ["a"])
    (checkout / name).write_text("changed")
    assert dev.environment_key(checkout, ["a"]) != before


def test_the_environment_follows_interpreter_and_requirements(
    dev: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another patch release, or another thing to install, makes another key."""
    before = dev.environment_key(checkout, ["a"])
    assert dev.environment_key(checkout, ["b"]) != before
    monkeypatch.setattr(sys, "version", "3.11.99")
    assert dev.environment_key(checkout, ["a"]) != before


def test_an_interpreter_is_believed_only_when_it_runs(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shim that fails and a name that lies are passed over; the newest patch release that is real is taken."""
    versions = tmp_path / "versions"
    _interpreter(versions / "3.99.10" / "bin" / "python3.99", "echo 3.98")
    real = _interpreter(versions / "3.99.9" / "bin" / "python3.99", "echo 3.99")
    _interpreter(versions / "3.99.1" / "bin" / "python3.99", "echo 3.99")
    _interpreter(tmp_path / "path" / "python3.97", "exit 127")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{tmp_path / 'missing'}")
    assert dev.find_interpreter("3.99") == real
    assert dev.find_interpreter("3.97") is None
    assert dev.find_interpreter(dev.HERE) == Path(sys.executable)


def test_arguments_are_handed_on_as_they_are(dev: ModuleType) -> None:
    """Only the run of the whole suite gets options of ours."""
    assert dev.pytest_arguments([]) == ["-n", "auto"]
    assert dev.pytest_arguments(["--pdb", "tests/a.py"]) == ["--pdb", "tests/a.py"]


def test_help_names_every_command(dev: ModuleType) -> None:
    """Running dev.py without a command says what there is, and fails."""
    answer = subprocess.run([sys.executable, ROOT / "dev.py"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert all(f"dev.py {command} " in answer.stdout for command in dev.COMMANDS)
