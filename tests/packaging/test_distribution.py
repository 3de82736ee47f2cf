"""What is shipped: exactly two packages, with their type markers, and metadata that a stranger can rely on."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import pytest

from tests.packaging.source import PACKAGES, ROOT, folder

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GIVEN_WHEEL = os.environ.get("DURABLE_WHEEL")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel under test where there is one, else one built from this checkout."""
    if GIVEN_WHEEL:
        return Path(GIVEN_WHEEL)
    return _build("wheel", "*.whl", tmp_path_factory)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist beside the wheel under test, else one built from this checkout."""
    if GIVEN_WHEEL:
        (built,) = Path(GIVEN_WHEEL).parent.glob("*.tar.gz")
        return built
    return _build("sdist", "*.tar.gz", tmp_path_factory)


def _build(what: str, pattern: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp(what)
    build = [sys.executable, "-m", "build", f"--{what}", "--no-isolation", "--outdir"]
    subprocess.run([*build, target, ROOT], check=True, stdout=subprocess.DEVNULL)
    (built,) = target.glob(pattern)
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[PurePosixPath]:
    with ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: list[PurePosixPath]) -> Message:
    (path,) = (name for name in names if name.name == "METADATA")
    with ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(str(path)))


def test_wheel_holds_two_packages(names: list[PurePosixPath]) -> None:
    """The wheel installs `durable` and `durable_storage` and nothing else at top level."""
    assert {name.parts[0] for name in names} == {*PACKAGES, f"durable-{PROJECT['version']}.dist-info"}


def test_wheel_holds_every_file_of_the_packages(names: list[PurePosixPath]) -> None:
    """No module, migration or type marker is left behind, and nothing that is not in the sources comes along."""
    shipped = {str(name) for name in names if name.parts[0] in PACKAGES}
    sources = {
        f"{package}/{path.relative_to(folder(package)).as_posix()}"
        for package in PACKAGES
        for path in folder(package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert shipped == sources


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_is_typed(names: list[PurePosixPath], package: str) -> None:
    """Type checkers read the annotations of both packages, because each carries its marker."""
    assert PurePosixPath(package, "py.typed") in names


def test_metadata(metadata: Message) -> None:
    """Name, version, licence, Python versions and extras are what pyproject.toml says."""
    assert (metadata["Name"], metadata["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("Provides-Extra") == sorted(PROJECT["optional-dependencies"])
    assert metadata.get_payload(), "the README is shown as the description"


def test_every_dependency_has_a_lower_bound_only(metadata: Message) -> None:
    """A library names what it needs at least, and leaves its users free upwards."""
    for requirement in metadata.get_all("Requires-Dist") or []:
        text = requirement.partition(";")[0].strip()
        assert re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?>=[\w.]+|durable\[[\w,-]+\]", text), requirement


def test_sdist_holds_what_its_tests_need(sdist: Path) -> None:
    """The unpacked sdist can run the suite: sources, tests, examples and the files they read."""
    with tarfile.open(sdist) as archive:
        top = {PurePosixPath(name).parts[1] for name in archive.getnames()}
    expected = {"durable", "storage", "tests", "examples", "pyproject.toml", "README.md", "LICENSE", "dev.py"}
    assert top >= expected
    assert not top & {".git", "build", "dist"} and not any(name.startswith(".venv") for name in top)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_right_package_is_under_test(package: str) -> None:
    """With a wheel under test no source is imported, else nothing but the sources."""
    installed = "site-packages" in folder(package).parts
    assert installed == bool(GIVEN_WHEEL), folder(package)
