"""What needs an extra that is not installed says which one, and how it is installed; the rest needs none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOTS = os.pathsep.join(path for path in sys.path if path)

NEEDS = {
    "postgres": ("asyncpg", "durable.ProcessHost('postgresql://here/shop', [])", "A store at postgresql://"),
    "web": ("starlette", "importlib.import_module('durable.web')", "durable.web"),
    "webhooks": ("httpx", "importlib.import_module('durable.webhooks')", "durable.webhooks"),
    "encryption": ("cryptography", "durable.EncryptedCodec(durable.JsonCodec(), b'')", "EncryptedCodec"),
    "objects": ("obstore", "importlib.import_module('durable.housekeeping.objects').Folder('file:///')", "An archive"),
    "otel": ("opentelemetry", "importlib.import_module('durable.telemetry')", "durable.telemetry"),
    "test": (
        "hypothesis",
        "importlib.import_module('durable.testing.storage_contract')",
        "durable.testing.storage_contract",
    ),
}


def run(code: str, *blocked: str) -> str:
    """What a program prints in which the packages *blocked* cannot be imported."""
    blocking = f"import importlib, sys\nfor one in {blocked!r}: sys.modules[one] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", blocking + dedent(code)],
        env={**os.environ, "PYTHONPATH": ROOTS},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("extra", NEEDS)
def test_a_missing_extra_is_told(extra: str) -> None:
    """Each part that needs an extra names itself, the package and the extra, in one wording, as an `ImportError`."""
    package, call, part = NEEDS[extra]
    told = run(
        f"""
        import durable
        try:
            {call}
        except ImportError as error:
            assert isinstance(error, durable.MissingExtra)
            print(error)
        """,
        package,
    )
    assert told.splitlines() == [
        f"[D001] {part} needs the package {package!r}, which is not installed",
        f"  fix: install durable with its extra {extra!r}: pip install '.[{extra}]' in its checkout",
    ]


def test_the_core_needs_no_extra(tmp_path: Path) -> None:
    """Hosts in memory, on SQLite and on files run processes with nothing installed but what the core depends on."""
    told = run(
        """
        import asyncio, durable

        @durable.process
        async def greet(proc: durable.Process) -> str:
            return await proc.do(lambda: "hello", "greeted")

        for url in ("memory://", "sqlite:///one.db", "file:///folder"):
            print(durable.run(greet(), id="1", url=url.replace(":///", ":///PLACE/")))
        """.replace("PLACE", str(tmp_path)),
        *(package for package, _, _ in NEEDS.values()),
    )
    assert told == "hello\nhello\nhello\n"


def test_what_is_missing_of_ours_is_no_extra() -> None:
    """A module of this library that is not there is a bug, and comes out as it is."""
    told = run(
        """
        try:
            importlib.import_module("durable.web")
        except ModuleNotFoundError as error:
            print(error.name)
        """,
        "durable.web.pictures",
    )
    assert told == "durable.web.pictures\n"
