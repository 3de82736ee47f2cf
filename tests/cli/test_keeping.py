"""`archive`, `purge` and `ddl`: what has ended long ago leaves the store, and the SQL of a store for its owner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from durable.cli.failures import ExitCode
from durable.housekeeping import read_archive
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, settled


@pytest.fixture
def ended(url: str) -> None:
    """Two processes that have ended, and one that waits."""
    started = {"add-1": shop.add(1), "add-2": shop.add(2), "doze-1": shop.doze()}
    live(url, started, settled(*started))


@pytest.mark.usefixtures("ended")
def test_what_has_ended_is_archived(cli: Cli, tmp_path: Path) -> None:
    """Ended processes move into the archive, where each is found, and the one that waits stays."""
    archive = f"file://{tmp_path}/archive"
    kept = schemas.Kept(**cli.json("archive", archive, "--older-than", "0"))
    assert (kept.archived, kept.purged, kept.left) == (2, 2, {})
    assert [process["id"] for process in cli.json("ps")["processes"]] == ["doze-1"]

    async def ids() -> list[str]:
        return sorted([process.entry.id async for process in read_archive(archive)])

    assert asyncio.run(ids()) == ["add-1", "add-2"]


@pytest.mark.usefixtures("ended")
def test_what_is_young_stays(cli: Cli, tmp_path: Path) -> None:
    """Nothing is touched before its time."""
    answer = cli("archive", f"file://{tmp_path}/archive", "--older-than", "1")
    assert (answer.code, answer.output) == (0, "0 archived in 0 objects, 0 deleted\n")
    assert cli.json("ps")["total"] == 3


@pytest.mark.usefixtures("ended")
def test_purge_needs_no_archive(cli: Cli) -> None:
    """What has ended is deleted, and the sentence says how much."""
    answer = cli("purge", "--older-than", "0")
    assert (answer.code, answer.output) == (0, "2 deleted\n")
    assert [process["id"] for process in cli.json("ps")["processes"]] == ["doze-1"]


def test_how_old_has_to_be_said(cli: Cli) -> None:
    """Deleting without an age is wrong usage: there is no default for it."""
    assert cli("purge").code == ExitCode.USAGE


def test_ddl_of_a_database() -> None:
    """The SQL names the schema of the URL, and nothing is connected to for it."""
    answer = Cli("postgresql://nobody@127.0.0.1:1/nothing?schema=shop").json("ddl")
    sql = schemas.Ddl(**answer).sql
    assert "CREATE SCHEMA" in sql
    assert "shop" in sql
    assert sql.rstrip().endswith("COMMIT;")


def test_a_file_has_no_ddl(cli: Cli) -> None:
    """A store that makes itself says so."""
    answer = cli("ddl")
    assert answer.code == ExitCode.STORAGE
    assert "no schema" in answer.error
