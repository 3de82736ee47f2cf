"""Classes that values of the codec tests are made of, strategies for values, and what "the same" means exactly."""

from __future__ import annotations

import enum
import math
from collections import namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel

from durable.codec import register

Item = TypeVar("Item")


class Color(enum.Enum):
    RED = 1
    GREEN = "green"
    CRIMSON = 1  # noqa: PIE796  (an alias of RED)


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    EXECUTE = 4


class Bits(enum.IntFlag, boundary=enum.KEEP):
    LOW = 1
    HIGH = 8


class Point(NamedTuple):
    x: int
    y: int = 5


Pair = namedtuple("Pair", "left right")


@dataclass
class Order:
    id: str
    price: Decimal
    items: list[Any] = field(default_factory=list)
    note: str | None = None
    checks: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.checks += 1  # running this again would show

    @cached_property
    def total(self) -> Decimal:
        return self.price * 2


@dataclass(frozen=True, slots=True, order=True)
class Slotted:
    x: int
    y: Any = None


@dataclass(frozen=True)
class Frozen:
    x: int
    seed: InitVar[int] = 3

    def __post_init__(self, seed: int) -> None:
        object.__setattr__(self, "derived", self.x * seed)


@dataclass
class Box(Generic[Item]):
    item: Item

    class Label(NamedTuple):
        text: str


@attrs.define
class Parcel:
    weight: int = attrs.field(converter=int)
    tags: list[str] = attrs.field(factory=list)
    twice: int = attrs.field(default=attrs.Factory(lambda self: self.weight * 2, takes_self=True))


@attrs.frozen(slots=False, cache_hash=True)
class Sealed:
    text: str


class Address(BaseModel):
    street: str
    number: int = 1


class Person(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    address: Address | None = None
    born: datetime | None = None
    _secret: int = PrivateAttr(default=7)


class Numbers(RootModel[list[int]]):
    pass


class Wrapper(BaseModel, Generic[Item]):
    item: Item


@register
class Registered(int):
    """A subclass of a built-in type that its author vouches for."""


# --- the same, exactly -------------------------------------------------------------------------------------


def same(left: Any, right: Any) -> bool:
    """Whether both have the same type and an equal value, all the way down, order of dicts included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, Decimal):
        return repr(left) == repr(right)
    if isinstance(left, datetime | time):
        zones = same(left.tzinfo, right.tzinfo)
        return zones and left.fold == right.fold and left.replace(tzinfo=None) == right.replace(tzinfo=None)
    if isinstance(left, timezone):
        return same((left.utcoffset(None), left.tzname(None)), (right.utcoffset(None), right.tzname(None)))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, set | frozenset):
        return len(left) == len(right) and all(any(same(one, other) for other in right) for one in left)
    if isinstance(left, Order | Slotted | Box):
        names = left.__dataclass_fields__
        return all(same(getattr(left, name), getattr(right, name)) for name in names)
    return bool(left == right)


# --- values ------------------------------------------------------------------------------------------------

_zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone),
    st.just(timezone(timedelta(hours=1), "CET")),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Asia/Kolkata"]).map(ZoneInfo),
)
_folds = st.sampled_from([0, 1])
_texts = st.text(st.characters(codec="utf-8"), max_size=20)

keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    _texts,
    st.binary(max_size=20),
    st.dates(),
    st.builds(lambda clock, zone, fold: clock.replace(tzinfo=zone, fold=fold), st.times(), _zones, _folds),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Color, *Size, *Mode, Access.READ | Access.WRITE, Access(0), Bits.LOW | Bits.HIGH, Bits(6)]),
    st.builds(Point, st.integers(), st.integers()),
    st.builds(PurePosixPath, _texts.filter(lambda text: "\0" not in text)),
)
leaves = st.one_of(
    keys,
    st.floats(),
    st.decimals(),
    st.binary(max_size=20).map(bytearray),
    st.builds(lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), _zones, _folds),
    st.sampled_from([PureWindowsPath("C:/a"), ZoneInfo("Europe/Berlin"), UTC, UUID(int=0)]),
)


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(st.sampled_from(["$tuple", "$dict", "$", "$bytes", "a"]), inner, max_size=2),
        st.sets(keys, max_size=4),
        st.frozensets(st.one_of(keys, st.tuples(keys, keys)), max_size=4),
        st.builds(Order, _texts, st.decimals(allow_nan=False), st.lists(inner, max_size=2)),
        st.builds(Slotted, st.integers(), inner),
        st.builds(Box, inner),
        st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
    )


values = st.recursive(leaves, _compound, max_leaves=12)
