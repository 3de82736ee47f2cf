"""docs/command-line.md and the command line say the same: commands, options, exit codes, and fields of JSON."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from durable.cli.failures import ExitCode
from durable.cli.program import app
from tests.cli import schemas

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
COMMANDS = dict(typer.main.get_group(app).commands)


def row(command: str) -> str:
    """The line of the table of commands."""
    found = re.search(rf"^\| `durable {command}\b.*$", TEXT, re.MULTILINE)
    assert found is not None, f"{command} is not documented"
    return found[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_and_option_is_documented(command: str) -> None:
    """Each command has its line, with each option that not all commands have."""
    common = {"--url", "--json", "--codec", "--help"}
    options = {
        option
        for parameter in COMMANDS[command].params
        for option in parameter.opts
        if option.startswith("--") and option not in common
    }
    assert {option for option in options if f"`{option}`" not in row(command)} == set()
    assert (COMMANDS[command].help or "").strip()


def test_each_documented_command_exists() -> None:
    """The table names no command that is not there."""
    documented = re.findall(r"^\| `durable (\w+)", TEXT, re.MULTILINE)
    assert sorted(documented) == sorted(COMMANDS)


def test_each_exit_code_is_documented() -> None:
    """The table of exit codes has those the program knows, and no others."""
    table = TEXT.partition("## Exit codes")[2].partition("##")[0]
    assert sorted(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == sorted(ExitCode)


@pytest.mark.parametrize(
    "schema",
    [
        schemas.Ps,
        schemas.Summary,
        schemas.Progress,
        schemas.Show,
        schemas.Waiting,
        schemas.Wait,
        schemas.Checkpoint,
        schemas.Event,
        schemas.Mail,
        schemas.History,
        schemas.Record,
        schemas.Done,
        schemas.Carried,
        schemas.Copy,
        schemas.Transfer,
        schemas.Check,
        schemas.Finding,
        schemas.Kept,
        schemas.Ddl,
    ],
)
def test_each_field_is_documented(schema: type[schemas.Answer]) -> None:
    """The chapter on JSON lists the fields of each answer side by side, all of them and no others."""
    chapter = TEXT.partition("## JSON")[2].partition("\n## ")[0]
    lists = []
    while inner := re.findall(r"\{[^{}]*\}", chapter):  # an object in an object is one of its own
        lists += [set(re.findall(r'"(\w+)"', one)) for one in inner]
        chapter = re.sub(r"\{[^{}]*\}", "", chapter)
    assert set(schema.model_fields) in lists


def test_what_all_commands_have() -> None:
    """Every command takes --json, and all but `copy` take --url from the environment."""
    for name, command in COMMANDS.items():
        options = {option: parameter for parameter in command.params for option in parameter.opts}
        assert "--json" in options
        if name != "copy":
            assert options["--url"].envvar == "DURABLE_URL"
