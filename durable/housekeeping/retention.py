"""What to keep and for how long, and the report of what was done about it: plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from durable._host.options import check_length, check_number
from durable.errors import InvalidDefinition

_OFTENEST = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Retention:
    """
    How long ended processes stay in their store, and what becomes of them then.

    Args:
        keep: How long a process stays after its end; zero or more.
        archive: URL of the archive (``s3://bucket/folder``, ``file:///folder``, ``memory://name``, and what else
            obstore knows), with credentials and endpoints from the environment; None deletes without archiving.
            There is no default, so that deleting for good is said and never implied.
        batch: How many processes one object of the archive and one transaction of the store hold at most; 1 or more.
        every: How often a host looks for what is old enough, at least a millisecond; by default ten minutes.

    Raises:
        InvalidDefinition: An argument is of a wrong type or out of its range, or *archive* is not a URL.
    """

    keep: timedelta
    archive: str | None
    batch: int = 500
    every: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        check_length(self.keep, "`keep` of Retention")
        check_number(self.batch, "`batch` of Retention")
        check_length(self.every, "`every` of Retention", _OFTENEST)
        if self.archive is not None and (not isinstance(self.archive, str) or "://" not in self.archive):
            folder = isinstance(self.archive, str | Path) and str(self.archive)
            fix = (
                f"write {Path(folder).absolute().as_uri()}" if folder else "write file:///folder or s3://bucket/folder"
            )
            raise InvalidDefinition(f"`archive` of Retention is a URL, not {self.archive!r:.80}", fix=fix)


@dataclass(frozen=True, slots=True)
class Report:
    """
    What was done.

    Attributes:
        archived: How many processes were written into the archive.
        purged: How many processes were deleted from the store; fewer than *archived* if another host was faster.
        objects: How many objects of processes were put into the archive.
        size: Their length together, compressed, in bytes.
        left: Ids of processes that could not be read as a whole and so were neither archived nor purged, with the
            reason of each.
    """

    archived: int = 0
    purged: int = 0
    objects: int = 0
    size: int = 0
    left: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Report) -> Report:
        return Report(
            self.archived + other.archived,
            self.purged + other.purged,
            self.objects + other.objects,
            self.size + other.size,
            self.left | other.left,
        )
