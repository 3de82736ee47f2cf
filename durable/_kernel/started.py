"""
The first record of a journal: what is run, under which rules, and where the process comes from.

What no process has started has no lineage in its first life, and its record is that much shorter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from durable.codec import Codec, encode_of, items_of, reader_for

KERNEL_VERSION = 2  # 2: children and restarts
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Lineage(NamedTuple):
    """
    Where a process comes from.

    ``life``: counts from 1; each restart begins another. ``parent``: the id of the process that started it and the name
    of the checkpoint there, if a process did. ``origin``: the definition of its first life, None in that life itself.
    """

    life: int = 1
    parent: tuple[str, str] | None = None
    origin: str | None = None


NO_LINEAGE = Lineage()


class Started(NamedTuple):
    """The payload of a STARTED record; ``timeout`` in microseconds."""

    version: int
    python: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout: int | None
    lineage: Lineage


def encode_started(
    codec: Codec, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: int | None, lineage: Lineage = NO_LINEAGE
) -> bytes:
    """
    The payload of the first record of a process that is started by this kernel.

    Raises:
        EncodeError: An argument cannot be recorded; the error names it.
    """
    known = (KERNEL_VERSION, PYTHON, args, kwargs, timeout)
    whole = known if lineage == NO_LINEAGE else (*known, tuple(lineage))
    return encode_of(codec, _named(args, kwargs), whole)


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((f"Argument {number}", value) for number, value in enumerate(args, start=1))
    yield from ((f"Argument {name!r}", value) for name, value in kwargs.items())


def decode_started(codec: Codec, payload: bytes) -> Started:
    """What is in the payload of a first record, of this kernel or an older one."""
    version, python, args, kwargs, timeout, *more = codec.decode(payload)
    return Started(version, python, tuple(args), kwargs, timeout, Lineage(*more[0]) if more else NO_LINEAGE)


def read_lineage(codec: Codec, payload: bytes) -> Lineage:
    """The lineage in the payload of a first record, also where its arguments cannot be read, their class being gone."""
    try:
        return decode_started(codec, payload).lineage
    except Exception:
        *_, lineage = items_of(reader_for(codec)(payload), 6)
    life, parent, origin = items_of(lineage, 3)
    id, checkpoint = items_of(parent, 2)
    return NO_LINEAGE if life is None else Lineage(life, None if id is None else (id, checkpoint), origin)


def child_id(parent: str, life: int, name: str) -> str:
    """The id of a child that was given none: the same whenever its parent is replayed, another in each life."""
    return f"{parent}/{name}" if life == 1 else f"{parent}~{life}/{name}"
