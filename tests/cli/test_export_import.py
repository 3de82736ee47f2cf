"""`export` and `import`: a process as one file, exactly as it was; damage and what is newer are refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from durable import ProcessClient
from durable.cli.failures import ExitCode
from durable.storage import JournalStorage
from durable.transfer import Snapshot, read_file, take
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, restarted, stalled, with_store

IDS = ["order-1", "charge-1", "listen-1", "rest-1", "doze-1", "hurry-1", "add-1", "broken-1"]


def snapshot(url: str, id: str) -> Snapshot:
    """A process as it stands in a store, but for the numbers of its mail, which are the store's own."""

    async def look(storage: JournalStorage) -> Snapshot:
        return await take(storage, id)

    found = with_store(url, look)
    return replace(found, inbox=tuple(item._replace(number=0) for item in found.inbox))


@pytest.fixture
def other(tmp_path: Path) -> Cli:
    """The command line on another store, which is not there yet."""
    return Cli(f"sqlite:///{tmp_path / 'other.db'}")


@pytest.mark.parametrize("id", IDS)
def test_what_was_exported_is_imported_exactly(cli: Cli, other: Cli, shop_store: str, tmp_path: Path, id: str) -> None:
    """Key, status, times, records, inbox, progress and the time it wakes are what they were."""
    if id == "order-1":
        assert cli("raise", id, "unheard", "[1]", "--key", "k").code == 0
    file = str(tmp_path / "process.json")
    exported = schemas.Carried(**cli.json("export", id, file))
    imported = schemas.Carried(**other.json("import", file))
    assert exported == imported
    assert snapshot(other.url, id) == snapshot(cli.url, id)
    summaries = [schemas.Show(**one.json("show", id)).summary for one in (cli, other)]
    assert summaries[0] == summaries[1]


def test_an_imported_process_goes_on(cli: Cli, other: Cli, shop_store: str, tmp_path: Path) -> None:
    """A host of the other store finishes what was begun in the first one, without running anything again."""
    assert cli("export", "order-1", str(tmp_path / "process.json")).code == 0
    assert other("import", str(tmp_path / "process.json")).code == 0
    assert other("raise", "order-1", "paid", '"card"').code == 0
    live(other.url, {}, lambda host: host.get("order-1").result())
    history = schemas.History(**other.json("history", "order-1")).records
    assert [record.kind for record in history] == ["STARTED", "DONE", "VALUE", "TIMER", "EVENT", "TAKEN", "COMPLETED"]


def test_one_that_runs_is_exported_beside_its_host(cli: Cli, other: Cli, url: str, tmp_path: Path) -> None:
    """What a host holds is due where it is imported: nobody there knows what it waits for."""

    async def look(host: object) -> None:
        answer = await asyncio.to_thread(cli, "export", "work-1", str(tmp_path / "work.json"))
        assert answer.code == 0
        assert "where the file is imported, it runs a second time" in answer.error

    live(url, {"work-1": shop.work()}, look)
    assert other("import", str(tmp_path / "work.json")).code == 0
    assert schemas.Show(**other.json("show", "work-1")).summary.place == "claimable"


def test_a_stalled_process_stays_stalled(cli: Cli, other: Cli, url: str, tmp_path: Path) -> None:
    """The reason of a stall goes with the process."""

    async def start() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.add(1), id="add-1")

    asyncio.run(start())
    live(url, {}, stalled("add-1"), [shop.order])
    assert cli("export", "add-1", str(tmp_path / "process.json")).code == 0
    assert other("import", str(tmp_path / "process.json")).code == 0
    assert snapshot(other.url, "add-1") == snapshot(url, "add-1")
    assert schemas.Show(**other.json("show", "add-1")).waiting.sentence.startswith("stalled: [D108]")


def test_one_that_has_restarted_stays_as_old_as_it_was(cli: Cli, other: Cli, url: str, tmp_path: Path) -> None:
    """Its journal begins with its last life, and the file says when the first one began."""
    live(url, {"patrol-1": shop.patrol(0)}, restarted("patrol-1"))
    exported = snapshot(url, "patrol-1")
    assert exported.created_at < exported.records[0].time
    assert cli("export", "patrol-1", str(tmp_path / "process.json")).code == 0
    assert other("import", str(tmp_path / "process.json")).code == 0
    assert snapshot(other.url, "patrol-1") == exported
    assert other.json("ps") == cli.json("ps")


def test_a_text_without_a_time_of_creation(cli: Cli, other: Cli, shop_store: str, tmp_path: Path) -> None:
    """Texts that were written before there was one are imported: the process is as old as its first record."""
    file = tmp_path / "process.json"
    assert cli("export", "order-1", str(file)).code == 0
    head, *others = file.read_bytes().splitlines(keepends=True)[:-1]
    older = json.loads(head)
    del older["created_at"]
    file.write_bytes(sealed([json.dumps(older).encode() + b"\n", *others]))
    assert other("import", str(file)).code == 0
    assert snapshot(other.url, "order-1") == snapshot(cli.url, "order-1")


def test_an_id_that_is_taken_is_refused(cli: Cli, shop_store: str, tmp_path: Path) -> None:
    """A process is not imported over another one, nor over itself."""
    assert cli("export", "order-1", str(tmp_path / "process.json")).code == 0
    answer = cli("import", str(tmp_path / "process.json"))
    assert (answer.code, answer.error[:6]) == (ExitCode.PROCESS, "[D306]")


def test_a_key_that_is_taken_gives_way(cli: Cli, other: Cli, shop_store: str, tmp_path: Path) -> None:
    """A process of another id may have its key; it gets the next one, and everything else is the same."""
    assert cli("export", "order-1", str(tmp_path / "process.json")).code == 0
    file = tmp_path / "process.json"
    renamed = tmp_path / "renamed.json"
    renamed.write_bytes(sealed(file.read_bytes().replace(b'"id":"order-1"', b'"id":"order-2"').splitlines(True)[:-1]))
    assert other("import", str(file)).code == 0
    assert other("import", str(renamed)).code == 0
    first, second = snapshot(other.url, "order-1"), snapshot(other.url, "order-2")
    assert second.key == first.key + 1
    assert second.records == first.records


def test_a_file_is_not_replaced_without_force(cli: Cli, shop_store: str, tmp_path: Path) -> None:
    """What stands there is kept, unless --force says otherwise."""
    file = tmp_path / "process.json"
    file.write_text("mine")
    answer = cli("export", "order-1", str(file))
    assert (answer.code, answer.error[:6], file.read_text()) == (ExitCode.STORAGE, "[D201]", "mine")
    assert cli("export", "order-1", str(file), "--force").code == 0
    assert read_file(file).id == "order-1"
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("json")] == ["process.json"]


def test_a_directory_that_is_missing(cli: Cli, shop_store: str, tmp_path: Path) -> None:
    """A file that cannot be written or read is an error of storage."""
    assert cli("export", "order-1", str(tmp_path / "no" / "x.json")).code == ExitCode.STORAGE
    assert cli("import", str(tmp_path / "x.json")).code == ExitCode.STORAGE


def sealed(lines: list[bytes]) -> bytes:
    """Lines with the seal that belongs to them, so that only what they say is wrong."""
    body = b"".join(lines)
    seal = {"end": True, "lines": len(lines), "sha256": sha256(body).hexdigest()}
    return body + json.dumps(seal).encode() + b"\n"


def changed(file: Path, line: int, **fields: Any) -> bytes:
    """The file with other *fields* on one line, sealed anew."""
    lines = file.read_bytes().splitlines(keepends=True)[:-1]
    lines[line] = json.dumps({**json.loads(lines[line]), **fields}).encode() + b"\n"
    return sealed(lines)


def test_damage_is_refused_at_every_byte(cli: Cli, shop_store: str, tmp_path: Path) -> None:
    """A file that is cut off anywhere, or has one byte changed anywhere, is not imported."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    assert cli("export", "add-1", str(good)).code == 0
    content = good.read_bytes()
    for position in range(len(content)):
        for damaged in (content[:position], content[:position] + b"\x01" + content[position + 1 :]):
            bad.write_bytes(damaged)
            with pytest.raises(Exception, match=r"damaged|not an exported process") as refused:
                read_file(bad)
            assert refused.value.code in ("D203", "D206")  # type: ignore[attr-defined]
    bad.write_bytes(content[:-20])
    assert Cli(f"sqlite:///{tmp_path / 'new.db'}")("import", str(bad)).code == ExitCode.STORAGE
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("line", "fields", "code"),
    [
        (0, {"version": 2}, "[D204]"),
        (0, {"format": "song"}, "[D203]"),
        (0, {"id": ""}, "[D206]"),
        (0, {"status": "asleep"}, "[D206]"),
        (0, {"status": "completed"}, "[D206]"),
        (1, {"record": 2}, "[D206]"),
        (1, {"kind": "SUNG"}, "[D206]"),
        (1, {"payload": "?"}, "[D206]"),
        (2, {"time": 0}, "[D206]"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cli: Cli, other: Cli, shop_store: str, tmp_path: Path, line: int, fields: dict[str, Any], code: str
) -> None:
    """A newer format, another file, and a journal against the rules are told apart, even with a checksum that fits."""
    file = tmp_path / "process.json"
    assert cli("export", "order-1", str(file)).code == 0
    file.write_bytes(changed(file, line, **fields))
    answer = other("import", str(file))
    assert (answer.code, answer.error[:6]) == (ExitCode.STORAGE, code)
