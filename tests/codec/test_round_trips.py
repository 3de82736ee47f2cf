"""Whatever a codec encodes comes back as the same type with the same value; what it cannot, it refuses."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from cryptography.fernet import Fernet
from google.protobuf.descriptor_pb2 import DescriptorProto  # type: ignore[import-untyped]
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings

from durable.codec import Codec, CompressedCodec, EncryptedCodec, JsonCodec, MessagePackCodec
from durable.errors import EncodeError
from tests.codec.samples import (
    Access,
    Address,
    Bits,
    Box,
    Color,
    Frozen,
    Mode,
    Numbers,
    Order,
    Pair,
    Parcel,
    Person,
    Point,
    Sealed,
    Size,
    Slotted,
    Wrapper,
    same,
    values,
)

CODECS: list[Codec] = [
    MessagePackCodec(),
    JsonCodec(),
    EncryptedCodec(CompressedCodec(JsonCodec(), threshold=0), Fernet.generate_key()),
]
codecs = pytest.mark.parametrize("codec", CODECS, ids=["messagepack", "json", "wrapped"])


def round_trip(codec: Codec, value: Any) -> Any:
    return codec.decode(codec.encode(value))


@pytest.mark.parametrize("codec", CODECS[:2], ids=["messagepack", "json"])
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=values)
def test_any_value(codec: Codec, value: Any) -> None:
    """Any value made of supported types comes back exactly."""
    assert same(value, round_trip(codec, value))


EXACT: list[Any] = [
    None, True, False, 0, -1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**700, -(10**5000),
    0.0, -0.0, 5e-324, float("inf"), float("-inf"), float("nan"), 1e308,
    "", "ä\0€😀", b"", b"\xff\0", bytearray(b""), bytearray(b"abc"), [bytearray(b"x"), {"k": bytearray(b"y")}],
    [], (), (1,), ((), [()]), set(), frozenset(), {1, "a", None, (2, 3)}, frozenset({frozenset({1})}),
    {}, {"b": 1, "a": 2}, {2: 2, "1": 3, (1, 2): 4, None: 5},
    {"$tuple": [1]}, {"$": 1}, {"$dict": {"$x": {}}}, {"$a": 1, "$b": 2}, {"a": {"$uuid": "x"}},
    datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, fold=1), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-7, microseconds=-1))),
    datetime(2026, 3, 1, tzinfo=timezone(timedelta(0), "Z")), time(1, 2, 3, 4), time(1, tzinfo=UTC), time(1, fold=1),
    time(1, tzinfo=timezone(timedelta(microseconds=1))),
    datetime(2026, 3, 1, tzinfo=timezone(timedelta(microseconds=-1))),
    time(1, tzinfo=ZoneInfo("Asia/Kolkata")), datetime(2026, 3, 1).date(),
    timedelta(-1, 1, 1), timedelta.max, timedelta.min,
    Decimal("1.50"), Decimal("-0"), Decimal("sNaN123"), Decimal("-Infinity"), Decimal("1E+999999"), uuid4(),
    Path("/a/ä b"), Path(), [Path("x")], ZoneInfo("UTC"), UTC, timezone(timedelta(hours=2), "x"),
    Color.RED, Color.CRIMSON, Color.GREEN, Size.LARGE, Mode.FAST, Access.READ | Access.EXECUTE, Access(0), Bits(6),
    Bits.LOW, {Color.RED: Size.SMALL}, {Point(1, 2): "at"}, Point(1), Pair([1], {2}), Box.Label("x"),
    Order("a", Decimal(1), [Point(1, 2)]), Slotted(1, (2,)), Frozen(2, 5), Box(Box(1)), Box[int](3), {Slotted(1)},
    Parcel("7"), Sealed("x"), {Sealed("x"): 1},
    Person(name="n"),
    Person.model_validate({"name": "n", "address": Address(street="s"), "more": [1]}),
    Numbers([1, 2]), Wrapper[int](item=3),
    Wrapper(item=(1,)), Person.model_validate_json('{"name": "n", "born": "2026-01-01T00:00:00Z"}'),
    Person.model_validate_json('{"name": "n", "born": "2026-01-01T00:00:00+01:30"}'),
]  # fmt: skip


@codecs
@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_exact_values(codec: Codec, value: Any) -> None:
    """The corners of every supported type come back exactly, alone and inside containers."""
    assert same(value, round_trip(codec, value))
    assert same([value, {"k": (value,)}], round_trip(codec, [value, {"k": (value,)}]))


@codecs
def test_a_value_is_new_each_time(codec: Codec) -> None:
    """Two decodings share no mutable object, and an object that occurs twice comes back as two."""
    inner: list[int] = []
    data = codec.encode([inner, inner])
    one, other = codec.decode(data), codec.decode(data)
    one[0].append(1)
    assert one[1] == []
    assert other == [[], []]


@codecs
def test_an_object_is_restored_without_running_its_code(codec: Codec) -> None:
    """Neither ``__post_init__`` nor validators run, and what is outside the fields comes back too."""
    order = Order("a", Decimal(2))
    assert order.total == 4
    order.extra = "kept"  # type: ignore[attr-defined]
    again = round_trip(codec, order)
    assert again.checks == 1
    assert vars(again) == vars(order)
    assert round_trip(codec, Frozen(2, 5)).derived == 10
    broken = Person.model_construct(name=5)
    assert round_trip(codec, broken).name == 5


@codecs
def test_pydantic_bookkeeping(codec: Codec) -> None:
    """A pydantic model keeps which fields were set, its extras and its private attributes."""
    person = Person.model_validate({"name": "n", "more": 1})
    person._secret = 8
    again = round_trip(codec, person)
    assert again == person
    assert again.model_fields_set == {"name", "more"}
    assert again.model_extra == {"more": 1}
    assert again._secret == 8


@codecs
def test_a_cached_hash_is_not_journaled(codec: Codec) -> None:
    """A hash that attrs keeps in the object is forgotten, since another interpreter hashes strings differently."""
    sealed = Sealed("x")
    hash(sealed)
    data = codec.encode(sealed)
    fresh = codec.encode(Sealed("x"))
    again = codec.decode(data)
    assert hash(again) == hash(sealed)
    assert isinstance(codec, EncryptedCodec) or data == fresh


@pytest.mark.parametrize("codec", CODECS[:2], ids=["messagepack", "json"])
def test_protobuf_message(codec: Codec) -> None:
    """A protobuf message comes back as its class, nested message types included."""
    for message in (Timestamp(seconds=5, nanos=7), DescriptorProto.ExtensionRange(start=1, end=2)):
        assert same(message, round_trip(codec, message))


@pytest.mark.parametrize("codec", CODECS[:2], ids=["messagepack", "json"])
def test_equal_sets_have_equal_bytes(codec: Codec) -> None:
    """The bytes of a set do not depend on the order in which it was filled, whatever it holds."""
    mixed: list[Any] = [0, 8, 16, None, "a", (1, 2), frozenset({0, 8}), frozenset({"x", "y"}), Color.RED, b"q"]
    for items in (mixed, [0, 8, 16], [str(number) for number in range(100)]):
        assert codec.encode(set(items)) == codec.encode(set(reversed(items)))  # noqa: C414  (they differ, see below)
    assert list({0, 8}) != list({8, 0})  # colliding hashes: the order of filling does show in the set itself


def test_json_is_one_readable_line() -> None:
    """JSON is what a person expects: plain types plain, others labelled, nothing escaped needlessly, one line."""
    codec = JsonCodec()
    value = {"name": "Zoë\n", "at": datetime(2026, 3, 1, 12, tzinfo=UTC), "ids": (1, 2), "color": Color.RED}
    assert codec.encode(value).decode() == (
        '{"name": "Zoë\\n", "at": {"$datetime": "2026-03-01T12:00:00+00:00"}, "ids": {"$tuple": [1, 2]}, '
        '"color": {"$enum": ["tests.codec.samples:Color", "RED"]}}'
    )


class UserZone(tzinfo):
    """A time zone of a user's own."""

    def utcoffset(self, _: Any) -> timedelta:
        return timedelta(0)

    def dst(self, _: Any) -> None:
        return None

    def tzname(self, _: Any) -> str:
        return "own"


class UserId(int):
    """A subclass of a built-in type that nobody registered."""


class Plain:
    """A class that is none of the supported kinds."""

    def __init__(self) -> None:
        self.x = 1


REFUSED: list[tuple[Any, str, str]] = [
    (lambda: None, "value", "function"),
    ({"items": [1, 2, 3, Box(Plain())]}, "value['items'][3].item", "Plain"),
    ([(1, {Slotted(1, print)})], "value[0][1]{…}.y", "builtin_function_or_method"),
    ({("a", 1j): 1}, "value key ('a', 1j)[1]", "complex"),
    (UserId(3), "value", "UserId"),
    ([UserId(3)], "value[0]", "UserId"),
    (memoryview(b"x"), "value", "memoryview"),
    ([{"k": memoryview(b"x")}], "value[0]['k']", "memoryview"),
    ({"t": "\ud800"}, "value['t']", "lone surrogate"),
    ({"\ud800": 1}, "value key '\\ud800'", "lone surrogate"),
    (Path("\udcff"), "value", "lone surrogate"),
    (datetime(2026, 1, 1, tzinfo=UserZone()), "value.tzinfo", "UserZone"),
    (Person.model_validate({"name": "n", "more": object()}), "value.more", "object"),
    (sys.float_info, "value", "float_info"),
    (int, "value", "type"),
    (ValueError(print), "value.args[0]", "builtin_function_or_method"),
]


@codecs
@pytest.mark.parametrize(("value", "path", "reason"), REFUSED, ids=[path for _, path, _ in REFUSED])
def test_what_cannot_be_exact_is_refused(codec: Codec, value: Any, path: str, reason: str) -> None:
    """A value that would not come back exactly is refused, naming the path to the part and what is wrong with it."""
    with pytest.raises(EncodeError) as caught:
        codec.encode(value)
    assert caught.value.path == path
    assert reason in str(caught.value)
    assert round_trip(codec, [1, (2,)]) == [1, (2,)]  # the codec is as good as new
