"""
What becomes of processes that have ended long ago: archived if wanted, then purged, in batches, by any host.

``retention`` says what to keep and for how long, ``keeping`` does it once, ``housekeeper`` again and again beside a
host. ``archive`` writes and reads archives, ``bundle`` is their layout, ``form`` how one process stands in
them, ``objects`` the object store under them. ``docs/housekeeping.md`` describes archives to the byte.
"""

from durable.housekeeping.archive import Archive, ArchivedProcess, list_archive, read_archive
from durable.housekeeping.bundle import ArchiveEntry
from durable.housekeeping.housekeeper import Housekeeper
from durable.housekeeping.keeping import keep_house
from durable.housekeeping.retention import Report, Retention

__all__ = [
    "Archive",
    "ArchiveEntry",
    "ArchivedProcess",
    "Housekeeper",
    "Report",
    "Retention",
    "keep_house",
    "list_archive",
    "read_archive",
]
