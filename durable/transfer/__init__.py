"""
Processes on the way: out of a store into a file, out of a file into a store, from one store into another.

``snapshot`` is one process complete, as it is read from a store; ``arrival`` writes it into one. ``text`` is how it
is written down, for one in a ``file`` and for many in an archive. ``move`` takes everything unfinished from one store
to another, so that no process can ever run in both; ``marks`` is what it leaves behind while it does.
"""

from durable.transfer.arrival import put
from durable.transfer.file import read_file, write_file
from durable.transfer.move import Outcome, Transfer, move
from durable.transfer.snapshot import Snapshot, take

__all__ = ["Outcome", "Snapshot", "Transfer", "move", "put", "read_file", "take", "write_file"]
