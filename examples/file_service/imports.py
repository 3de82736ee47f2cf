"""The second task: an uploaded CSV file becomes rows of a table, all of them, or none and a list of what is wrong."""

import asyncio
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Column, Integer, MetaData, Numeric, String, Table, bindparam, delete, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from durable import Process, Retry, current_step, process
from examples.file_service import settings
from examples.file_service.bucket import Bucket, Stored
from examples.file_service.tasks import PATIENT, FileName, places_of
from examples.file_service.webhooks import Url, webhooks
from examples.zip_pipeline import stop_if_cancelled
from examples.zipping.objects import TROUBLE

_MOST_ERRORS = 100
_BATCH = 1000
_LONGEST_ROW = 50_000  # characters, in all its lines: so much of a file is in memory at a time

products = Table(
    "products",
    MetaData(),
    Column("sku", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("price", Numeric(12, 2), nullable=False),
    Column("stock", Integer, nullable=False),
)


_Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]  # PostgreSQL keeps no NUL


class Product(BaseModel):
    """One row of the file."""

    sku: Annotated[_Text, Field(max_length=40)]
    name: Annotated[_Text, Field(max_length=200)]
    price: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
    stock: Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class RowError:
    """What is wrong with a row."""

    line: int
    column: str
    problem: str


@dataclass(frozen=True)
class Imported:
    """What came of an import: rows, or errors (the first of them)."""

    rows: int
    errors: list[RowError] = field(default_factory=list)


@process(queue=settings.QUEUE, timeout=settings.TIMEOUT)
@webhooks.notified(lambda file, webhook=None: webhook, event="task")
async def import_products(proc: Process, file: FileName, webhook: Url | None = None) -> Imported:
    """Import an uploaded CSV file with the columns of `Product`; a row replaces what there is under its SKU."""
    async with places_of(proc) as places:
        [source] = await proc.do(lambda: Bucket().find(places.uploads, [file]), "file found", retry=PATIENT)
        errors = await proc.do(lambda: check(source), "checked", retry=PATIENT)
        if errors:
            return Imported(0, errors)
        again = Retry(attempts=5, delay=settings.FIRST_PAUSE, on=(*TROUBLE, SQLAlchemyError))
        return Imported(await proc.do(lambda: load(source), "loaded", retry=again))


def check(source: Stored) -> list[RowError]:
    """The first errors of a file."""
    step = current_step()
    found, line = [], 0
    try:
        for line, row in rows(source):
            if line % _BATCH == 0:
                stop_if_cancelled(step)
                step.progress(line, None, f"checking line {line}")
            try:
                Product.model_validate(row)
            except ValidationError as error:
                found += [RowError(line, ".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
            if len(found) >= _MOST_ERRORS:
                break
    except csv.Error as error:  # where the next row would begin nobody knows
        found.append(RowError(line + 1, "", str(error)))
    return found[:_MOST_ERRORS]


async def load(source: Stored) -> int:
    """Write all rows in one transaction, so a second attempt changes nothing; the number of them."""
    lines, count = rows(source), 0
    engine = create_async_engine(settings.products())
    try:
        async with engine.begin() as connection:
            await connection.run_sync(products.metadata.create_all)
            # By SKU: of two rows of one product the later one counts.
            while batch := await asyncio.to_thread(_next_batch, lines):
                await connection.execute(delete(products).where(products.c.sku == bindparam("key")), _keys(batch))
                await connection.execute(insert(products), list(batch.values()))
                count += len(batch)
                current_step().progress(count, None, f"{count} rows loaded")
    finally:
        await engine.dispose()
    return count


def _next_batch(lines: Iterator[tuple[int, dict[str, str]]]) -> dict[str, dict[str, object]]:
    read = [Product.model_validate(row) for _, row in islice(lines, _BATCH)]
    return {product.sku: product.model_dump() for product in read}


def _keys(batch: dict[str, dict[str, object]]) -> list[dict[str, str]]:
    return [{"key": sku} for sku in batch]


def rows(source: Stored) -> Iterator[tuple[int, dict[str, str]]]:
    """
    The rows of a file with the numbers of their lines; what is missing in one is left out of it.

    What is not UTF-8 becomes lone surrogates, which no `Product` may have.

    Raises:
        csv.Error: This is no such file, or not from here on.
    """
    left = _LONGEST_ROW

    def lines() -> Iterator[str]:
        nonlocal left
        while line := text.readline(left + 1):
            left -= len(line)
            if left < 0:
                raise csv.Error(f"a row has at most {_LONGEST_ROW} characters")
            yield line

    with io.TextIOWrapper(Bucket().open(source.path), "utf-8-sig", "surrogateescape", newline="") as text:
        reader = csv.reader(lines())
        names = next(reader, [])
        if missing := [name for name in Product.model_fields if name not in names]:
            raise csv.Error(f"the first line does not name {', '.join(missing)}")
        for values in reader:
            left = _LONGEST_ROW  # an empty line is a row, too, though none of the table
            if values:
                yield reader.line_num, {name: value for name, value in zip(names, values, strict=False) if name}
