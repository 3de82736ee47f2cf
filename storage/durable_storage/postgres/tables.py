"""
The shared tables as they are on PostgreSQL: a column more, and indexes that carry the key.

SQLite appends the primary key to every index, PostgreSQL does not; so a page of a listing needs it named here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, Integer, MetaData, Table, Text

from durable_storage import schema as shared

metadata = MetaData()

process: Final = shared.process.to_metadata(metadata)
record: Final = shared.record.to_metadata(metadata)
inbox: Final = shared.inbox.to_metadata(metadata)
session: Final = shared.session.to_metadata(metadata)

# What the last batch of the session was answered, if it was more than "written": it is read after a lost answer.
session.append_column(Column("answer", Text))

# One row: which migration was the last.
version: Final = Table("version", metadata, Column("number", Integer, nullable=False))

for _index in [index for index in process.indexes if index.name in ("process_by_status", "process_by_definition")]:
    process.indexes.remove(_index)
Index("process_by_status", process.c.status, process.c.key)
Index("process_by_definition", process.c.definition, process.c.status, process.c.key)
