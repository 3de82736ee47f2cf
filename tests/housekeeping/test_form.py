"""What stands in an archive: for people with standard tools, and byte for byte for the library."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from durable.codec import Codec, CompressedCodec, EncryptedCodec, JsonCodec, MessagePackCodec
from durable.errors import CorruptJournal, StorageError
from durable.housekeeping import Archive, Retention, keep_house, keeping, list_archive, read_archive
from durable.housekeeping.objects import Folder
from durable.storage import JournalStorage, open_storage
from durable.transfer import read_file
from tests.housekeeping.stores import LONG_AGO, NOW, end_some, everything


async def archived(archive: str, *, codec: Codec | None = None, written: Codec | None = None) -> None:
    """Fill an archive with processes written with *codec*, or with another one than the archiving host has."""
    storage = open_storage(f"memory://{uuid4()}")
    await storage.open()
    await end_some(storage, 4, codec=written or codec)
    await keep_house(storage, Retention(LONG_AGO, archive), codec=codec, now=NOW)
    await storage.close()


@pytest.mark.skipif(not (shutil.which("zcat") and shutil.which("sha256sum")), reason="standard tools are missing")
async def test_standard_tools_read_it(tmp_path: Path) -> None:
    """`zcat` shows every process with readable values, and the name of the object is the checksum of that text."""
    await archived(f"file://{tmp_path}")
    (place,) = tmp_path.glob("processes/2026/11/01/*.jsonl.gz")
    text = subprocess.run(["zcat", place], check=True, capture_output=True).stdout
    checksum = subprocess.run(["sha256sum"], input=text, check=True, capture_output=True, text=False).stdout
    assert place.name == f"120001-{checksum[:16].decode()}.jsonl.gz"
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["id"] for line in lines if "format" in line] == ["order-1", "order-2", "order-3", "order-4"]
    assert {"$tuple": ["result 2", []]} in [line.get("value") for line in lines]
    assert {"step": 2, "text": "packed " * 5, "weight": 1.5} in [line.get("value") for line in lines]
    (index,) = tmp_path.glob("index/2026/11/01/*.jsonl.gz")
    assert index.name == place.name
    shown = subprocess.run(["zcat", index], check=True, capture_output=True, text=True).stdout
    assert json.loads(shown.splitlines()[1])["ended_at"] == "2026-11-01T12:00:02.000003+00:00"


async def test_a_process_cut_out_of_an_archive_can_be_imported(tmp_path: Path) -> None:
    """The bytes that the index points to, unpacked, are a file as `export` writes it."""
    await archived(f"file://{tmp_path}/archive")
    (process,) = [process async for process in read_archive(f"file://{tmp_path}/archive", id="order-3")]
    entry = process.entry
    content = (tmp_path / "archive" / entry.object).read_bytes()
    (tmp_path / "process").write_bytes(gzip.decompress(content[entry.offset : entry.offset + entry.length]))
    assert read_file(tmp_path / "process") == process.snapshot


@pytest.mark.parametrize(
    "codec",
    [MessagePackCodec(), JsonCodec(), CompressedCodec(MessagePackCodec())],
    ids=["messagepack", "json", "compressed"],
)
async def test_values_are_readable_with_every_codec_that_hides_nothing(codec: Codec) -> None:
    """Whatever the bytes are, the value beside them is the same plain JSON, and the bytes are exact."""
    archive = f"memory://{uuid4()}"
    await archived(archive, codec=codec)
    async for process in read_archive(archive):
        second = json.loads(process.text.splitlines()[2])
        assert second["value"] == {"step": 0, "text": "packed " * 5, "weight": 1.5}
        assert codec.decode(process.snapshot.records[1].payload) == second["value"]


class Secretive:
    """A codec of somebody's own; what it does to the bytes is not known here."""

    def encode(self, value: Any) -> bytes:
        return MessagePackCodec().encode(value)[::-1]

    def decode(self, data: bytes) -> Any:
        return MessagePackCodec().decode(data[::-1])


@pytest.mark.parametrize(
    "codec",
    [
        EncryptedCodec(MessagePackCodec(), Fernet.generate_key()),
        EncryptedCodec(CompressedCodec(JsonCodec()), Fernet.generate_key()),
        CompressedCodec(EncryptedCodec(JsonCodec(), Fernet.generate_key())),
        Secretive(),
    ],
    ids=["encrypted", "compressed and encrypted", "encrypted and compressed", "unknown"],
)
async def test_what_was_encrypted_stays_encrypted(codec: Codec) -> None:
    """With a codec that hides values, or may, no value is in the archive, though the host has the key."""
    archive = f"memory://{uuid4()}"
    await archived(archive, codec=codec)
    async for process in read_archive(archive):
        assert b"packed packed" not in process.text
        assert not any("value" in json.loads(line) for line in process.text.splitlines())
        assert codec.decode(process.snapshot.records[1].payload)["step"] == 0


class Always:
    """Writes the same bytes whatever it is given."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def encode(self, value: Any) -> bytes:
        return self._payload

    def decode(self, data: bytes) -> Any:
        return data


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (MessagePackCodec().encode(b"\xff\0"), {"$bytes": "/wA="}),
        (MessagePackCodec().encode(float("nan")), {"$float": "nan"}),
        (MessagePackCodec().encode("line\nbreak\u2028\x85"), "line\nbreak\u2028\x85"),
        (b"\x91" * 900 + b"\xc0", None),  # so many lists in each other that not every reader could read them
        (b"\xa3\xed\xa0\x80", None),  # a text that is not UTF-8
        (b"\xc1", None),  # nothing that a codec has written
    ],
    ids=["bytes", "NaN", "line breaks", "nested", "surrogate", "damaged"],
)
async def test_odd_payloads_do_not_stop_an_archive(payload: bytes, value: Any) -> None:
    """The payload is exact, whether or not JSON can show its value."""
    archive = f"memory://{uuid4()}"
    await archived(archive, written=Always(payload))
    read = [process async for process in read_archive(archive)]
    assert len(read) == 4
    assert {record.payload for process in read for record in process.snapshot.records} == {payload}
    records = [json.loads(line) for line in read[0].text.split(b"\n")[1:-2]]
    assert {json.dumps(record.get("value")) for record in records} == {json.dumps(value)}


async def test_a_lone_surrogate_does_not_stop_an_archive() -> None:
    """What a codec of somebody else has let through cannot be shown, and is archived as the bytes it is."""
    archive, payload = f"memory://{uuid4()}", b'"\\ud800"'
    await archived(archive, codec=JsonCodec(), written=Always(payload))
    read = [process async for process in read_archive(archive)]
    assert {record.payload for process in read for record in process.snapshot.records} == {payload}
    assert not any(b'"value"' in process.text for process in read)


@pytest.mark.parametrize("place", ["index", "processes"])
async def test_damage_is_told(place: str) -> None:
    """Whichever byte is changed: it is `CorruptJournal`, which names the object, or it makes no difference at all."""
    archive = f"memory://{uuid4()}"
    await archived(archive)
    before = [process async for process in read_archive(archive)]
    folder = Folder(archive)
    (name,) = await folder.names(place)
    content = await folder.get(name)
    told = 0
    for position in range(0, len(content), 3):
        await folder.put(name, content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            assert [process async for process in read_archive(archive)] == before
        except CorruptJournal as error:
            assert name in str(error)
            told += 1
    assert told > len(content) / 4


async def test_a_missing_object_is_told(archive: str) -> None:
    """An entry that leads to nothing is an error that names the archive."""
    await archived(archive)
    (entry,) = [entry async for entry in list_archive(archive, id="order-1")]
    with pytest.raises(StorageError, match="could not be read") as told:
        await Archive(archive).read(replace(entry, object="processes/none"))
    assert told.value.archive == archive


async def test_a_large_object_is_closed(storage: JournalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the batch: an object that is large enough is put, and the rest goes into others."""
    monkeypatch.setattr(keeping, "_LARGEST", 200_000)
    archive = f"memory://{uuid4()}"
    noise = Always(os.urandom(30_000))  # which does not get smaller; five of them in each journal, 150 kB
    await end_some(storage, 6, codec=noise)
    before = await everything(storage)
    report = await keep_house(storage, Retention(LONG_AGO, archive), now=NOW)
    assert (report.purged, report.objects) == (6, 3)
    assert {process.entry.id: process.snapshot async for process in read_archive(archive)} == before
