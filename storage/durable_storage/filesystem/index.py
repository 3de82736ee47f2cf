"""
The index: what the journal files say, in one file, so that opening a store does not read them all.

It is only a copy. Each entry stands beside the size and the time of change of its file, and is believed while the file
has both; files that changed, were copied in or are not in it are read, and those that are gone are forgotten. So the
index may be deleted, outdated or damaged at any time: it costs time, nothing else.

Looking at every file takes seconds where there are a hundred thousand. Who only wants to list processes may do without
while the index is *current*: it told of all files, no file was made, renamed or deleted since (the directory would have
another time of change), and the commit log since then is there. Only writing over a file in its place, by hand, goes
unnoticed so; whoever writes to the store, or reads a journal, looks at every file first.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from durable.errors import CorruptJournal
from durable_storage.filesystem.entry import Entry
from durable_storage.filesystem.frames import frame, read_frame
from durable_storage.filesystem.journals import Journals, Loaded
from durable_storage.filesystem.layout import JOURNAL_SUFFIX, TEMPORARY, Layout, journal_name, write_durably
from durable_storage.filesystem.packing import to_bytes, unpack
from durable_storage.filesystem.state import State

MAGIC = b"durable index 2\n"  # another number for every other content: then it is made anew

_TICK = 50_000_000  # nanoseconds within which two changes of a directory may have the same time
_MANY = 10_000  # files that take a while to look at
_FEW = 1000  # files that may have changed so that all others are still taken over at once

_logger = logging.getLogger("durable_storage.filesystem")
_Stat = tuple[int, int]  # size, and nanoseconds of the last change


class _Index(NamedTuple):
    """
    ``columns`` are those of `State.to_columns`; names, sizes and changes stand in their order.

    ``directory`` is when the directory was last changed before, 0 if not all files are told of; ``segment``: which one
    of the commit log goes on from here.
    """

    directory: int
    segment: int
    names: Collection[str]
    sizes: Collection[int]
    changes: Collection[int]
    columns: dict[str, Any]


class Files(NamedTuple):
    """
    What the journal files say; ``suspects`` have something behind what is whole; of ``unindexed`` the index is wrong.

    ``is_checked`` False: the index says so, and nobody has looked at them.
    """

    state: State
    suspects: list[Loaded]
    unindexed: int
    is_checked: bool


def load(layout: Layout, journals: Journals, *, checking: bool) -> Files:
    """
    Look at every journal file, and read those that the index does not know; under the lock of the files.

    With *checking* False, none is looked at if there are many and the index is current.
    """
    index = _read_index(layout)
    try:
        return _load(layout, journals, index, checking=checking)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if index is _NOTHING:
            raise
        _logger.warning("the index %s holds something else than an index; it is made anew: %r", layout.index, error)
        return _load(layout, journals, _NOTHING, checking=checking)


def _load(layout: Layout, journals: Journals, index: _Index, *, checking: bool) -> Files:
    is_current = _is_current(layout, index)
    if is_current and not checking and len(index.names) >= _MANY:
        return Files(State.from_columns(index.columns), [], 0, is_checked=False)
    found = _scan(layout)
    state, known = _believe(index, found)
    if is_current and not len(index.names) == len(known) == len(found):
        with suppress(OSError):
            os.utime(layout.journals)  # a file was written over by hand: the index is not current any more
    suspects: list[Loaded] = []
    unknown = [name for name in found if name not in known] if len(known) < len(found) else []
    for name in unknown:
        try:
            loaded = journals.load(name)
            _check(loaded.entry, name, state)
        except FileNotFoundError:
            continue
        except CorruptJournal as error:
            _logger.error("%s", error)
            state.unreadable[name] = str(error.args[0])
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            _logger.error("the system refuses a journal file, its process is left out: %s", error)
            state.unreadable[name] = f"the system refuses it ({error.strerror})"
            state.refused.add(name)
        else:
            if loaded.torn is not None:
                suspects.append(loaded)
            state.install(loaded.entry)
            state.stamp = max(state.stamp, loaded.entry.born, *loaded.entry.inbox)
    return Files(state, suspects, len(unknown) + len(index.names) - len(known), is_checked=True)


def _is_current(layout: Layout, index: _Index) -> bool:
    if not index.directory or layout.first_segment() != index.segment:
        return False
    written = os.stat(layout.index).st_mtime_ns
    return os.stat(layout.journals).st_mtime_ns == index.directory < written - _TICK


def _believe(index: _Index, found: dict[str, _Stat]) -> tuple[State, Collection[str]]:
    """The state of the index without what is outdated, and the names it knows."""
    known = dict(zip(index.names, zip(index.sizes, index.changes, strict=True), strict=True))
    outdated = {name for name, stat in known.items() if found.get(name) != stat}
    if not outdated:
        return State.from_columns(index.columns), known
    if len(outdated) <= _FEW:
        state = State.from_columns(index.columns)
        for name, key in zip(index.names, index.columns["keys"], strict=True):
            if name in outdated:
                state.remove(state.entries[key])
    else:
        state = State()
        for name, packed in zip(index.names, index.columns["entries"], strict=True):
            if name not in outdated:
                state.install(unpack(packed))
        state.stamp = index.columns["stamp"]
    return state, known.keys() - outdated


def _check(entry: Entry, name: str, state: State) -> None:
    if (expected := journal_name(entry.id)) != name:
        text = f"The journal file of process {entry.id!r} has another name; it is left out"
        raise CorruptJournal(text, file=name, fix=f"rename it to {expected}, or delete it")
    if (other := state.entries.get(entry.key)) is not None:
        text = f"The journals of processes {other.id!r} and {entry.id!r} have the same key; the second is left out"
        raise CorruptJournal(text, file=name, fix="remove one of them from the store")


def _scan(layout: Layout) -> dict[str, _Stat]:
    """Every journal file; what a crash has left half made is deleted."""
    directory = os.open(layout.journals, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found: dict[str, _Stat] = {}
    try:
        for name in os.listdir(directory):
            try:
                if name.endswith(JOURNAL_SUFFIX) and not name.startswith(TEMPORARY):
                    stat = os.stat(name, dir_fd=directory)
                    found[name] = (stat.st_size, stat.st_mtime_ns)
                elif name.startswith(TEMPORARY):
                    with suppress(PermissionError):
                        os.unlink(name, dir_fd=directory)
            except FileNotFoundError:
                pass
    finally:
        os.close(directory)
    return found


# --- the file ------------------------------------------------------------------------------------------------


def _read_index(layout: Layout) -> _Index:
    try:
        with open(layout.index, "rb") as file:
            data = file.read()
        payload = read_frame(data, len(MAGIC)) if data.startswith(MAGIC) else None
        if payload is not None:
            return _Index(**msgpack.unpackb(payload, use_list=False, strict_map_key=False))
        _logger.warning("the index %s is of another version or damaged; it is made anew", layout.index)
    except FileNotFoundError:
        pass
    except (OSError, TypeError, ValueError) as error:
        _logger.warning("the index %s cannot be read; it is made anew: %r", layout.index, error)
    return _NOTHING


_NOTHING = _Index(0, 0, (), (), (), State().to_columns())


def save(layout: Layout, entries: Iterable[Entry], segment: int) -> None:
    """
    Write the index of *entries*, whose files say all that is known of them; under the lock of the files.

    What else there is to know stands in the commit log from *segment* on.
    """
    directory = os.stat(layout.journals).st_mtime_ns
    found = _scan(layout)
    state = State()
    names: list[str] = []
    for entry in entries:
        name = journal_name(entry.id)
        if found.get(name, (-1, 0))[0] == entry.length:
            names.append(name)
            state.install(entry)
            state.stamp = max(state.stamp, entry.born, *entry.inbox)
    stats = [found[name] for name in names]
    index = _Index(
        directory if len(names) == len(found) else 0,
        segment,
        names,
        [size for size, _ in stats],
        [change for _, change in stats],
        state.to_columns(),
    )
    write_durably(layout.index, MAGIC + frame(to_bytes(index._asdict())))
