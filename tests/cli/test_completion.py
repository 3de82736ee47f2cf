"""Shell completion: commands, options and statuses, and from the store ids and definitions."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from durable.cli.program import app


def completed(line: str, url: str = "") -> set[str]:
    """What the shell is offered for *line*, as bash asks for it."""
    words = line.split(" ")
    environment = {
        "_DURABLE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "DURABLE_URL": url,
    }
    result = CliRunner().invoke(app, [], env=environment, prog_name="durable")
    return set(result.stdout.split())


def test_commands() -> None:
    """Commands by their beginning."""
    assert completed("durable re") == {"resume"}
    assert {"ps", "show", "check", "import"} <= completed("durable ")


def test_options_and_statuses() -> None:
    """Options of a command, and the words an option takes."""
    assert completed("durable ps --wa") == {"--watch"}
    assert completed("durable ps --status st") == {"stalled"}


@pytest.mark.parametrize("command", ["show", "history", "raise", "cancel", "terminate", "resume", "export"])
def test_ids_come_from_the_store(shop_store: str, command: str) -> None:
    """An id is completed from the processes of the store in DURABLE_URL."""
    assert completed(f"durable {command} or", shop_store) == {"order-1"}


def test_definitions_come_from_the_store(shop_store: str) -> None:
    """So is a definition."""
    assert completed("durable ps --name h", shop_store) == {"hurry"}


def test_no_store_completes_nothing(url: str) -> None:
    """Without a store there is nothing to offer, and no error in the middle of a line."""
    assert completed("durable show or", url) == set()
    assert completed("durable show or") == set()
