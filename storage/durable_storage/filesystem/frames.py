"""
Frames: how anything is written into a file so that it is known later whether it is there as it was written.

A frame is ``LLLLLLLL CCCCCCCC payload`` and a newline: length and CRC-32 of the payload, both as eight hexadecimal
digits. The checksum is zlib's: it finds every torn write and every burst of errors up to 32 bits, is computed at more
than a gigabyte a second by the standard library, and any tool can check it. It is no protection against forgery.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

PREFIX = 18
OVERHEAD = PREFIX + 1


def frame(payload: bytes) -> bytes:
    """*payload* as a frame."""
    return b"%08x %08x %b\n" % (len(payload), crc32(payload), payload)


def read_frame(data: bytes, start: int = 0) -> bytes | None:
    """The payload of the frame that begins at *start* of *data*; None if no whole, undamaged frame stands there."""
    try:
        length = int(data[start : start + 8], 16)
    except ValueError:
        return None
    begin = start + PREFIX
    payload = data[begin : begin + length]
    prefix = b"%08x %08x " % (length, crc32(payload))  # compared as it is written: there is one way to write a number
    whole = data[start:begin] == prefix and data[begin + length : begin + length + 1] == b"\n"
    return payload if whole else None


def declared_length(prefix: bytes) -> int | None:
    """How long the frame is that begins with *prefix*, all in all, if that is the beginning of a frame."""
    try:
        return int(prefix[:8], 16) + OVERHEAD if len(prefix) == PREFIX else None
    except ValueError:
        return None


def read_frames(data: bytes, start: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Each whole frame from *start* on as (begin, end, payload), up to the end or the first that is not whole."""
    while (payload := read_frame(data, start)) is not None:
        end = start + len(payload) + OVERHEAD
        yield start, end, payload
        start = end


def frames_after(data: bytes, damage: int) -> Iterator[bytes]:
    """The payloads of whole frames that begin on a later line than *damage*: what follows makes it no torn tail."""
    while damage := data.find(b"\n", damage) + 1:
        payload = read_frame(data, damage)
        if payload is not None:
            yield payload
