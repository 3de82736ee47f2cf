"""What is under the command line stays free of it: a web page uses `durable.insight` without rich or typer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported(code: str) -> set[str]:
    """The packages a fresh interpreter has loaded after *code*."""
    show = "print(*{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{show}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=True,
    )
    return set(answer.stdout.split())


@pytest.mark.parametrize("module", ["durable", "durable.insight", "durable.transfer", "durable.checking"])
def test_no_module_below_loads_the_command_line(module: str) -> None:
    """Neither rich nor typer nor a provider is loaded by what asks and moves."""
    assert imported(f"import {module}") & {"rich", "typer", "click", "sqlalchemy", "durable_storage"} == set()


def test_the_command_line_loads_no_provider_but_the_one_it_uses() -> None:
    """Starting the program costs the program: providers are loaded by the URL, and only that one."""
    assert imported("import durable.cli.program") & {"sqlalchemy", "durable_storage"} == set()


def test_without_its_extra_it_says_what_to_install() -> None:
    """Where typer is not installed the command says so in a sentence, not in a traceback."""
    code = "import sys; sys.modules['typer'] = None; from durable.cli import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[0] == "[D001] The command line needs the package 'typer', which is not installed"
