"""
The ZIP format, written from members that were packed one by one: headers and directory only, no I/O.

`zipfile` writes an archive from start to end in one go. Here each member is packed by a step of its own, and the
archive is put together from what the steps recorded. Every size is known by then, so ZIP64 is used where it is needed
and nowhere else, and no member needs a trailing descriptor. Source: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

LARGE = 0xFFFFFFFF  # from here on a size or an offset goes to a ZIP64 field
MANY = 0xFFFF  # from here on so does the number of members
_VERSION = 45  # what reads ZIP64
_UTF8_NAMES = 0x0800
_DEFLATED = 8
_MADE_ON_UNIX = 3 << 8


@dataclass(frozen=True)
class Member:
    """A packed file: what the directory of the archive says of it, and the SHA-256 of its original bytes."""

    name: str
    mode: int
    modified: datetime
    size: int
    packed_size: int
    crc: int
    sha256: str


class Packer:
    """Deflates one file chunk by chunk, and knows all about it at the end."""

    def __init__(self) -> None:
        self.size = self.packed_size = self.crc = 0
        self._sha256 = sha256()

    @property
    def sha256(self) -> str:
        """Of the bytes as they were before packing."""
        return self._sha256.hexdigest()

    def pack(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The packed bytes of *chunks*."""
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        for chunk in chunks:
            self.size += len(chunk)
            self.crc = zlib.crc32(chunk, self.crc)
            self._sha256.update(chunk)
            yield from self._counted(deflate.compress(chunk))
        yield from self._counted(deflate.flush())

    def _counted(self, packed: bytes) -> Iterator[bytes]:
        if packed:
            self.packed_size += len(packed)
            yield packed


def header(member: Member) -> bytes:
    """What stands before the packed bytes of *member*."""
    sizes = (member.packed_size, member.size)
    extra = b""
    if max(sizes) >= LARGE:
        extra = struct.pack("<2H2Q", 1, 16, member.size, member.packed_size)
        sizes = (0xFFFFFFFF, 0xFFFFFFFF)
    return struct.pack("<4sH", b"PK\3\4", _VERSION) + _common(member, sizes, extra) + member.name.encode() + extra


def directory(members: Iterable[Member]) -> bytes:
    """What stands at the end of an archive of *members*, each of them a `header` and its packed bytes."""
    entries = []
    offset = 0
    for member in members:
        entries.append(_entry(member, offset))
        offset += len(header(member)) + member.packed_size
    size = sum(map(len, entries))
    return b"".join(entries) + _end(len(entries), size, offset)


def _common(member: Member, sizes: tuple[int, int], extra: bytes) -> bytes:
    """The fields that a header and an entry of the directory share."""
    time, date = _dos_time(member.modified)
    name = len(member.name.encode())
    return struct.pack("<4H3L2H", _UTF8_NAMES, _DEFLATED, time, date, member.crc, *sizes, name, len(extra))


def _entry(member: Member, offset: int) -> bytes:
    large = [number for number in (member.size, member.packed_size, offset) if number >= LARGE]
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    packed_size, size, offset = (_or_mark(number) for number in (member.packed_size, member.size, offset))
    start = struct.pack("<4s2H", b"PK\1\2", _MADE_ON_UNIX | _VERSION, _VERSION)
    rest = struct.pack("<3H2L", 0, 0, 0, member.mode << 16, offset)
    return start + _common(member, (packed_size, size), extra) + rest + member.name.encode() + extra


def _end(count: int, size: int, offset: int) -> bytes:
    large = b""
    if count >= MANY or max(size, offset) >= LARGE:
        numbers = (count, count, size, offset)
        large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, _VERSION, _VERSION, 0, 0, *numbers)
        large += struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
        count, size, offset = 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    return large + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, offset, 0)


def _or_mark(number: int) -> int:
    return 0xFFFFFFFF if number >= LARGE else number


def _dos_time(moment: datetime) -> tuple[int, int]:
    """Time and date as MS-DOS kept them: UTC here, in steps of two seconds, from 1980 to 2107."""
    moment = min(max(moment, datetime(1980, 1, 1, tzinfo=UTC)), datetime(2107, 12, 31, tzinfo=UTC))
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    return time, date
