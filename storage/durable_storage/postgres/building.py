"""What statements are built with and compiled by: parameters with their types, and text for each schema."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Text, bindparam, literal_column, quoted_name
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.sql.expression import ClauseElement

from durable.storage import Status
from durable_storage.postgres.tables import process
from durable_storage.schema import STATUS_NUMBERS

_DIALECT: Final = dialect.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Statement:
    """Text with ``$1``, ``$2``, … and the names of the parameters in that order."""

    text: str
    parameters: tuple[str, ...]

    def values(self, **given: Any) -> list[Any]:
        """The parameters in order."""
        return [given[name] for name in self.parameters]


def compiled(statement: ClauseElement, schema: str) -> Statement:
    """*statement* for the tables in *schema*."""
    text = statement.compile(
        dialect=_DIALECT,
        schema_translate_map={None: quoted_name(schema, quote=True)},  # it may be a word of SQL
        render_schema_translate=True,
        compile_kwargs={"render_postcompile": True},
    )
    return Statement(str(text), tuple(getattr(text, "positiontup", None) or ()))


class Statements:
    """The statements for one schema: ``statements[RENEW]`` is compiled when it is asked for the first time."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._compiled: dict[int, tuple[ClauseElement, Statement]] = {}

    def __getitem__(self, statement: ClauseElement) -> Statement:
        # By identity: an SQL expression compares to another expression. The pair keeps it from being freed.
        known = self._compiled.get(id(statement))
        if known is None:
            known = self._compiled[id(statement)] = (statement, compiled(statement, self.schema))
        return known[1]


@cache
def statements_for(schema: str) -> Statements:
    """The statements for *schema*, shared by all stores of this OS process."""
    return Statements(schema)


def number(value: int) -> ColumnElement[Any]:
    return literal_column(str(value))


def big(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=BigInteger)


def bigs(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=ARRAY(BigInteger))


def texts(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=ARRAY(Text))


def has_status(status: Status) -> ColumnElement[bool]:
    """With the number in the text: a bound value would not match a partial index."""
    return process.c.status == number(STATUS_NUMBERS[status])
