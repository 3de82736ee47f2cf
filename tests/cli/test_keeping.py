"""`archive`, `purge` and `ddl`: what has ended long ago leaves the store, and the SQL of a store for its owner."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from durable.cli.failures import ExitCode
from durable.housekeeping import read_archive
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, settled
from tests.postgres_server import with_options

database = Cli("postgresql://nobody@127.0.0.1:1/nothing?schema=shop")  # nothing is connected to for its SQL


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


def test_one_object_is_one(cli: Cli, url: str, tmp_path: Path) -> None:
    """What there is one of has no plural."""
    live(url, {"add-1": shop.add(1)}, settled("add-1"))
    answer = cli("archive", f"file://{tmp_path}/archive", "--older-than", "0")
    assert answer.output == "1 archived in 1 object, 1 deleted\n"


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
    sql = schemas.Ddl(**database.json("ddl")).sql
    assert "CREATE SCHEMA" in sql
    assert "shop" in sql
    assert sql.rstrip().endswith("COMMIT;")


def test_ddl_runs_as_it_is_printed(postgres_server: str, tmp_path: Path) -> None:
    """What `durable ddl > ddl.sql` writes makes a store: PostgreSQL takes it, and the command line finds it there."""
    url = with_options(postgres_server, schema=f"ddl_{uuid4().hex[:8]}")
    words = [sys.executable, "-W", "ignore", "-m", "durable.cli", "ddl", "--url", url]
    path, file = {"PYTHONPATH": os.pathsep.join(sys.path)}, tmp_path / "ddl.sql"
    with file.open("wb") as output:
        subprocess.run(words, stdout=output, env=path, cwd=tmp_path, check=True)

    async def run() -> list[str]:
        connection = await asyncpg.connect(postgres_server)
        try:
            await connection.execute(file.read_text())
            return sorted(
                row["tablename"]
                for row in await connection.fetch(
                    "SELECT tablename FROM pg_tables WHERE schemaname = $1", url.rpartition("=")[2]
                )
            )
        finally:
            await connection.close()

    assert {"process", "record", "version"} <= set(asyncio.run(run()))
    assert Cli(url)("ps").output == "0 processes\n"


def newest_version() -> int:
    """The version `ddl` leads to."""
    return int(re.findall(r"version SET number = (\d+)", database("ddl").output)[-1])


def test_ddl_of_what_is_up_to_date() -> None:
    """From the newest version there is nothing to run, and that is what the SQL says, as a comment."""
    answer = database("ddl", "--since", str(newest_version()))
    assert (answer.code, answer.output.count("\n")) == (0, 1)
    assert re.match(r"-- Version \d+ is the newest one: the store is up to date", answer.output)
    assert database.json("ddl", "--since", str(newest_version())) == {"sql": ""}


def test_ddl_never_takes_a_store_back() -> None:
    """SQL for a store that is newer than this library would make it older: there is none."""
    answer = database("ddl", "--since", str(newest_version() + 1))
    assert (answer.code, answer.output) == (ExitCode.STORAGE, "")
    assert answer.error.startswith("[D204] ")


def test_ddl_from_an_older_version() -> None:
    """From a version between only what it lacks is printed."""
    sql = database("ddl", "--since", "1").output
    assert sql.startswith("BEGIN;\n")
    assert "CREATE SCHEMA" not in sql


def test_a_file_has_no_ddl(cli: Cli) -> None:
    """A store that makes itself says so."""
    answer = cli("ddl")
    assert answer.code == ExitCode.STORAGE
    assert "no schema" in answer.error
