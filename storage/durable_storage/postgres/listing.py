"""
Listings for people: pages and counts, one statement for each form of question, compiled when it is asked first.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Select, Text, bindparam, func, literal_column, select, union_all

from durable.storage import Status
from durable_storage.postgres.building import Statement, big, compiled, has_status
from durable_storage.postgres.tables import process
from durable_storage.schema import STATUS_NUMBERS, STATUSES


def page(statuses: Collection[Status] | None, by_definition: bool, has_start: bool) -> Select[Any]:
    """
    One page of a listing, newest key first.

    Each status is a range of an index that is in the order of keys; so a page is merged from the heads of these ranges,
    and its cost does not depend on how many processes there are.
    """

    def head(*conditions: ColumnElement[bool]) -> Select[Any]:
        start = [process.c.key < big("before")] if has_start else []
        return select(*process.c).where(*conditions, *start).order_by(process.c.key.desc()).limit(big("most"))

    if statuses is None and not by_definition:
        return head()
    of_definition = [process.c.definition == bindparam("definition", type_=Text)] if by_definition else []
    chosen = [status for status in STATUSES if statuses is None or status in statuses]
    heads = [select(head(has_status(status), *of_definition).subquery()) for status in chosen]
    merged = union_all(*heads).subquery("merged")
    return select(*(merged.c[one.name] for one in process.c)).order_by(merged.c.key.desc()).limit(big("most"))


def count(statuses: Collection[Status] | None, by_definition: bool) -> Select[Any]:
    """How many processes there are, of these statuses."""
    counting = select(func.count()).select_from(process)
    if statuses is not None:
        numbers = [str(STATUS_NUMBERS[status]) for status in STATUSES if status in statuses]
        counting = counting.where(literal_column(f"status IN ({', '.join(numbers)})", Boolean))
    if by_definition:
        counting = counting.where(process.c.definition == bindparam("definition", type_=Text))
    return counting


@cache
def page_for(schema: str, statuses: frozenset[Status] | None, by_definition: bool, has_start: bool) -> Statement:
    """`page`, compiled once for each form of question."""
    return compiled(page(statuses, by_definition, has_start), schema)


@cache
def count_for(schema: str, statuses: frozenset[Status] | None, by_definition: bool) -> Statement:
    """`count`, compiled once for each form of question."""
    return compiled(count(statuses, by_definition), schema)
