"""The ZIP format of the pipeline: what other programs read out of it, small and large."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.zipping import zip_format
from examples.zipping.zip_format import Member, Packer, directory, header

MODIFIED = datetime(2026, 11, 21, 13, 30, 12, tzinfo=UTC)


def archive(contents: dict[str, bytes], modified: datetime = MODIFIED) -> bytes:
    """An archive as the pipeline makes it: members packed one by one, in chunks, then put together."""
    members, packed = [], []
    for name, content in contents.items():
        packer = Packer()
        packed.append(b"".join(packer.pack(content[start : start + 1000] for start in range(0, len(content), 1000))))
        members.append(Member(name, 0o100640, modified, packer.size, packer.packed_size, packer.crc, packer.sha256))
    return b"".join(header(member) + data for member, data in zip(members, packed, strict=True)) + directory(members)


def read(archive: bytes) -> dict[str, bytes]:
    with ZipFile(io.BytesIO(archive)) as stored:
        assert stored.testzip() is None
        return {name: stored.read(name) for name in stored.namelist()}


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), min_size=1, max_size=20)


@given(st.dictionaries(names, st.binary(max_size=3000), max_size=5))
def test_what_is_packed_is_what_is_read(contents: dict[str, bytes]) -> None:
    """Names in any script, empty members and empty archives come out as they went in."""
    assert read(archive(contents)) == contents


@pytest.mark.parametrize(("large", "many"), [(100, 0xFFFF), (0xFFFFFFFF, 2), (1, 1)])
def test_zip64_is_read_too(monkeypatch: pytest.MonkeyPatch, large: int, many: int) -> None:
    """With limits set low, sizes, offsets and counts go to ZIP64 fields, and the archive reads the same."""
    contents = {"small": b"x", "large": bytes(range(256)) * 10, "last": b"y" * 50}
    plain = archive(contents)
    monkeypatch.setattr(zip_format, "LARGE", large)
    monkeypatch.setattr(zip_format, "MANY", many)
    assert len(archive(contents)) > len(plain)
    assert read(archive(contents)) == contents


def test_facts_of_a_file_are_kept() -> None:
    """Permissions and time of change are in the directory; times the format does not know become its first or last."""
    with ZipFile(io.BytesIO(archive({"a": b""}))) as stored:
        (info,) = stored.infolist()
    assert (info.external_attr >> 16, info.date_time) == (0o100640, (2026, 11, 21, 13, 30, 12))
    for year, kept in ((1970, 1980), (2200, 2107)):
        with ZipFile(io.BytesIO(archive({"a": b""}, datetime(year, 1, 1, tzinfo=UTC)))) as stored:
            assert stored.infolist()[0].date_time[0] == kept


def test_the_same_files_give_the_same_bytes() -> None:
    """Nothing in an archive depends on when or where it was made."""
    assert archive({"a": b"1", "b": b"2"}) == archive({"a": b"1", "b": b"2"})
