"""What a host says of itself in the log: that it came and went, what it serves, and what it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from durable import Process, ProcessHost, process
from durable._host.options import without_secrets

Lines = Callable[[], list[tuple[str, str]]]


@process
async def wait(proc: Process) -> None:
    await proc.event("go")


@process(queue="slow")
async def job(proc: Process) -> None:
    pass


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What hosts have logged so far: level and text of each line."""
    caplog.set_level(logging.INFO, logger="durable.host")
    return lambda: [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "durable.host"]


async def test_a_host_says_that_it_came_and_went(lines: Lines, url: str) -> None:
    """One line on entering, with queues, store and session, and one on leaving; nothing else of a quiet life."""
    async with ProcessHost(url, [wait, job], name="front"):
        (came,) = lines()
    (_, went) = lines()
    shown = url.partition("?")[0]
    assert came == ("INFO", f"Host front serves queues default, slow of {shown}, session 1")
    assert went == ("INFO", f"Host front has left {shown}, session 1")


@pytest.mark.parametrize(
    ("definitions", "queues", "levels"),
    [
        ([job], [], ["INFO", "WARNING"]),  # runs nothing
        ([job], ["slwo"], ["INFO", "WARNING"]),  # a typo
        ([wait, job], ["default", "slwo"], ["INFO", "WARNING"]),  # the same, beside a queue that is right
        ([wait, job], ["default"], ["INFO", "INFO"]),  # one list for several hosts, each with queues of its own
        ([wait, job], None, ["INFO"]),
        ([], ["default"], ["INFO"]),  # only starts, for others, or waits for definitions of a later deploy
        ([wait], ["default", "later"], ["INFO"]),
    ],
)
async def test_definitions_that_are_left_out_are_named(
    lines: Lines, definitions: list[Any], queues: list[str] | None, levels: list[str]
) -> None:
    """What no queue of a host serves is said once, as a warning where it looks like a mistake."""
    async with ProcessHost("memory://", definitions, queues=queues, name="front"):
        said = lines()
    assert [level for level, _ in said] == levels
    if len(said) == 2:
        assert said[1][1] == "Host front has definitions that no queue of this host serves: job (queue 'slow')"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@one:5433,two/shop?sslpassword=secret", "postgresql://one:5433,two/shop"),
        ("sqlite:////srv/a@b/shop.db", "sqlite:////srv/a@b/shop.db"),
        ("vault:secret", "vault:…"),
    ],
)
def test_the_url_of_a_store_is_logged_without_secrets(url: str, shown: str) -> None:
    """User, password and options of a URL, in which there may be secrets, are in no log."""
    assert without_secrets(url) == shown
