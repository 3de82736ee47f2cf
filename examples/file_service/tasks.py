"""What all tasks share: where each keeps its objects, what becomes of them at its end, and how steps are retried."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from durable import Process, Retry
from examples.file_service import settings
from examples.file_service.bucket import Bucket
from examples.zipping.objects import TROUBLE

PATIENT = Retry(attempts=5, delay=settings.FIRST_PAUSE, on=TROUBLE)
# What cleans up must get there, whenever the store is back.
STUBBORN = Retry(attempts=None, delay=settings.FIRST_PAUSE, longest=timedelta(minutes=5), on=TROUBLE)

_NAME = r"^\w[\w .()+@=-]*$"  # no slash, no leading dot: these become parts of paths


def fit_for_paths(name: str) -> str:
    """*name*, if it can be part of the path of an object in every store and in what `Folder.names` tells of it."""
    if not re.fullmatch(_NAME, name) or len(name.encode()) > 200 or "(unfinished upload" in name:
        raise ValueError("use at most 200 bytes of letters, digits, spaces and .()+@=_-, a letter or digit first")
    return name


def all_different(names: list[str]) -> list[str]:
    """*names*, if none is among them twice: members of an archive have names of their own."""
    if len({*names}) < len(names):
        raise ValueError("name each file once")
    return names


FileName = Annotated[str, Field(min_length=1, pattern=_NAME), AfterValidator(fit_for_paths)]
FileNames = Annotated[list[FileName], Field(min_length=1, max_length=1000), AfterValidator(all_different)]
TaskId = FileName


class Places(NamedTuple):
    """Where a task keeps its objects: each has one folder of each kind, called after it."""

    uploads: str
    parts: str
    results: str

    @classmethod
    def of(cls, task: str) -> Places:
        return cls(*(f"{kind}/{task}/" for kind in cls._fields))


@asynccontextmanager
async def places_of(proc: Process) -> AsyncIterator[Places]:
    """
    The places of a task. When it is over only its result stays; if it failed or was cancelled, nothing.

    What was written last is removed first, so that whoever looks in between never sees a result without its origin.
    """
    places = Places.of(fit_for_paths(proc.id))
    bucket = Bucket()
    try:
        yield places
        await proc.do(partial(bucket.remove, places.parts), "parts removed", retry=STUBBORN)
        await proc.do(partial(bucket.remove, places.uploads), "uploads removed", retry=STUBBORN)
        await proc.do(partial(bucket.forget_uploads, places.results), "cut off uploads removed", retry=STUBBORN)
    except BaseException:  # also where it was cancelled while it was cleaning up: what is begun may not be trusted
        for kind, place in reversed([*places._asdict().items()]):
            await proc.do(partial(bucket.remove, place), f"{kind} undone", retry=STUBBORN)
        raise
