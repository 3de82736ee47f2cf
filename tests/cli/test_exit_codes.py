"""Every exit code, and that failing is a text on standard error: no traceback, no new file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from durable.cli.failures import ExitCode, exit_code
from durable.errors import (
    DurableError,
    EncodeError,
    HostBusy,
    InvalidName,
    StorageFull,
)
from tests.cli.conftest import Answer, Cli

LOOKING = [["ps"], ["show", "x"], ["history", "x"], ["check", "tests.cli.shop"], ["export", "x", "x.json"]]
ACTING = [["raise", "x", "paid"], ["cancel", "x"], ["terminate", "x"], ["resume", "x"]]


def failed(answer: Answer, code: ExitCode, start: str) -> None:
    """It failed with this code, and a text that begins so."""
    assert answer.code == code, answer
    assert answer.error.startswith(start)
    assert "Traceback" not in answer.error
    assert answer.output == ""


@pytest.mark.parametrize("words", LOOKING + ACTING, ids=lambda words: words[0])
def test_no_store_is_made_by_looking(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    """A file that does not exist is an error of every command but those that bring something, and stays missing."""
    failed(cli(*words), ExitCode.STORAGE, "[D201] There is no store here\n  path: ")
    assert list(tmp_path.iterdir()) == []


def test_copying_from_nowhere_makes_nothing(cli: Cli, tmp_path: Path) -> None:
    """The source of a copy must exist, and the destination is not made before it was found."""
    answer = cli("copy", f"sqlite:///{tmp_path / 'no.db'}", f"sqlite:///{tmp_path / 'new.db'}")
    failed(answer, ExitCode.STORAGE, "[D201] There is no store here")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_not_a_store(cli: Cli, tmp_path: Path) -> None:
    """An empty file or directory would become a store when it is opened; a command that looks refuses it."""
    (tmp_path / "processes.db").touch()
    failed(cli("ps"), ExitCode.STORAGE, "[D201] What is here is empty, and not a store yet")
    (tmp_path / "directory").mkdir()
    answer = cli("ps", "--url", f"file://{tmp_path / 'directory'}")
    assert (answer.code, list((tmp_path / "directory").iterdir())) == (ExitCode.STORAGE, [])


def test_a_foreign_file_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    """A database of another program is refused."""
    with sqlite3.connect(tmp_path / "processes.db") as foreign:
        foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    failed(cli("ps"), ExitCode.STORAGE, "[D203]")


def test_an_unknown_scheme(cli: Cli) -> None:
    """A URL nobody provides for is named."""
    failed(cli("ps", "--url", "carrier-pigeon://roof"), ExitCode.STORAGE, "[D207]")


@pytest.mark.parametrize(
    "words", [["show"], ["history"], ["cancel"], ["export"], ["raise"]], ids=lambda words: words[0]
)
def test_a_process_that_is_not_there(cli: Cli, shop_store: str, tmp_path: Path, words: list[str]) -> None:
    """An id nobody has is an error of the family of processes."""
    more = {"export": [str(tmp_path / "x.json")], "raise": ["paid"]}.get(words[0], [])
    failed(cli(*words, "nobody", *more), ExitCode.PROCESS, "[D304] There is no process 'nobody' in this store")


def test_a_process_that_has_ended(cli: Cli, shop_store: str) -> None:
    """What has ended takes no mail."""
    failed(cli("cancel", "add-1"), ExitCode.PROCESS, "[D305]")


def test_a_name_that_cannot_be(cli: Cli, shop_store: str) -> None:
    """A name that no store keeps is an error of the family of code."""
    failed(cli("raise", "order-1", ""), ExitCode.CODE, "[D103]")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "no_such_module"], "Module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (["check", "tests.cli.shop:nothing"], "'tests.cli.shop:nothing' is not there"),
        (["check", "tests.cli.shop:Order"], "'tests.cli.shop:Order' has no process functions"),
        (["check", "json"], "'json' has no process functions"),
        (["check", ":x"], "':x' names no module"),
        (["ps", "--codec", "rot13"], "'rot13' is not a codec"),
        (["ps", "--codec", "tests.cli.shop:Order"], "'tests.cli.shop:Order' is not a codec"),
        (["show", "order-1", "--app", "no_such_module"], "Module 'no_such_module' cannot be imported"),
    ],
)
def test_an_application_that_cannot_be_used(cli: Cli, shop_store: str, words: list[str], said: str) -> None:
    """A module, attribute or codec that is not there is told in one sentence."""
    failed(cli(*words), ExitCode.CODE, f"[D109] {said}")


@pytest.mark.parametrize(
    "words",
    [["show"], ["ps", "--limit", "0"], ["ps", "--status", "asleep"], ["raise", "order-1", "paid", "{"], ["no-command"]],
)
def test_wrong_usage(cli: Cli, shop_store: str, words: list[str]) -> None:
    """A wrong parameter ends as it does in every program: code 2, the usage on standard error."""
    failed(cli(*words), ExitCode.USAGE, "Usage:")


def test_a_value_that_cannot_be_made(cli: Cli, shop_store: str) -> None:
    """A payload of a class that is not loaded is an error of the family of values, and says what to do."""
    answer = cli("raise", "order-1", "paid", '{"$object": ["no.such:Thing", {}]}')
    failed(answer, ExitCode.VALUE, "[D404] Class 'no.such:Thing' is not loaded")


def test_a_value_that_is_too_large(cli: Cli, shop_store: str) -> None:
    """So is a payload over the limit of what a store takes."""
    failed(cli("raise", "order-1", "paid", f'"{"x" * 5_000_000}"'), ExitCode.VALUE, "[D402]")


def test_no_url_is_wrong_usage(cli: Cli) -> None:
    """Without --url and DURABLE_URL there is nothing to look into."""
    answer = cli("ps", DURABLE_URL="")
    assert answer.code == ExitCode.USAGE
    assert "DURABLE_URL" in answer.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidName("x"), ExitCode.CODE),
        (StorageFull("x"), ExitCode.STORAGE),
        (HostBusy("x"), ExitCode.PROCESS),
        (EncodeError("x"), ExitCode.VALUE),
        (DurableError("x"), ExitCode.NO),
    ],
)
def test_the_family_of_an_error_is_its_exit_code(error: DurableError, code: ExitCode) -> None:
    """Each family of errors has one code."""
    assert exit_code(error) is code
