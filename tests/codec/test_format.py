"""The bytes of every type, as journals hold them: a change of the format breaks old journals, and this test first."""

# ruff: noqa: E501  (a row of the table is a row)

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

from durable.codec import CompressedCodec, JsonCodec, MessagePackCodec, decode_error
from durable.codec.form import Tag
from tests.codec.samples import Access, Address, Color, Order, Parcel, Person, Point, Registered, same

PERSON = Person.model_validate_json('{"name": "n", "born": "2026-01-01T00:00:00Z"}')
FAULT = ValueError("no", 3)
FAULT.__cause__ = OSError(2, "gone", "file")

# name, value, MessagePack in hexadecimal, JSON
GOLDEN: list[tuple[str, Any, str, str]] = [
    ("none", None,
     "c0",
     'null'),
    ("int", [1, -1, 2**63],
     "9301ffcf8000000000000000",
     '[1, -1, 9223372036854775808]'),
    ("big int", -(2**64),
     "c712012d3130303030303030303030303030303030",
     '-18446744073709551616'),
    ("float", [0.5, float("inf")],
     "92cb3fe0000000000000cb7ff0000000000000",
     '[0.5, {"$float": "inf"}]'),
    ("str", "ä",
     "a2c3a4",
     '"ä"'),
    ("bytes", b"\xff",
     "c401ff",
     '{"$bytes": "/w=="}'),
    ("bytearray", bytearray(b"\xff"),
     "d402ff",
     '{"$bytearray": "/w=="}'),
    ("list", [[], [None, True]],
     "929092c0c3",
     '[[], [null, true]]'),
    ("dict", {"b": 1, "a": {2: b""}},
     "82a16201a1618102c400",
     '{"b": 1, "a": {"$dict": [[2, {"$bytes": ""}]]}}'),
    ("dict like a tag", {"$int": 1},
     "81a424696e7401",
     '{"$dict": [["$int", 1]]}'),
    ("tuple", (1, ("a",)),
     "93c700030192c70003a161",
     '{"$tuple": [1, {"$tuple": ["a"]}]}'),
    ("set", {"b", "a"},
     "93c70004a161a162",
     '{"$set": ["a", "b"]}'),
    ("frozenset", frozenset({2, 1}),
     "93c700050102",
     '{"$frozenset": [1, 2]}'),
    ("date", date(2026, 3, 1),
     "c70a06323032362d30332d3031",
     '{"$date": "2026-03-01"}'),
    ("time", time(12, 30, 0, 5),
     "c70f0731323a33303a30302e303030303035",
     '{"$time": "12:30:00.000005"}'),
    ("time in a zone", time(12, tzinfo=ZoneInfo("UTC"), fold=1),
     "94c70007a831323a30303a3030c7030c55544301",
     '{"$time": ["12:00:00", {"$zone": "UTC"}, 1]}'),
    ("datetime", datetime(2026, 3, 1, 12, tzinfo=UTC),
     "c71908323032362d30332d30315431323a30303a30302b30303a3030",
     '{"$datetime": "2026-03-01T12:00:00+00:00"}'),
    ("naive datetime", datetime(2026, 3, 1, 12, 0, 0, 1),
     "c71a08323032362d30332d30315431323a30303a30302e303030303031",
     '{"$datetime": "2026-03-01T12:00:00.000001"}'),
    ("datetime in a zone", datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
     "94c70008b3323032362d31302d32355430323a33303a3030c70d0c4575726f70652f4265726c696e01",
     '{"$datetime": ["2026-10-25T02:30:00", {"$zone": "Europe/Berlin"}, 1]}'),
    ("timedelta", timedelta(-1, 2, 3),
     "c706092d3120322033",
     '{"$timedelta": "-1 2 3"}'),
    ("Decimal", Decimal("1.50"),
     "d60a312e3530",
     '{"$decimal": "1.50"}'),
    ("UUID", UUID(int=1),
     "c7240b30303030303030302d303030302d303030302d303030302d303030303030303030303031",
     '{"$uuid": "00000000-0000-0000-0000-000000000001"}'),
    ("ZoneInfo", ZoneInfo("UTC"),
     "c7030c555443",
     '{"$zone": "UTC"}'),
    ("timezone", timezone(timedelta(hours=1), "CET"),
     "93c7000dd7093020333630302030a3434554",
     '{"$offset": [{"$timedelta": "0 3600 0"}, "CET"]}'),
    ("path", PurePosixPath("a/b"),
     "c7110e50757265506f736978506174683a612f62",
     '{"$path": "PurePosixPath:a/b"}'),
    ("enum", Color.GREEN,
     "92c7192074657374732e636f6465632e73616d706c65733a436f6c6f72a5475245454e",
     '{"$enum": ["tests.codec.samples:Color", "GREEN"]}'),
    ("flags", Access.READ | Access.WRITE,
     "92c71a2074657374732e636f6465632e73616d706c65733a41636365737303",
     '{"$enum": ["tests.codec.samples:Access", 3]}'),
    ("dataclass", Order("a", Decimal(1)),
     "92c7192174657374732e636f6465632e73616d706c65733a4f7264657285a26964a161a57072696365d40a31a56974656d7390a46e6f7465c0a6636865636b7301",
     '{"$object": ["tests.codec.samples:Order", {"id": "a", "price": {"$decimal": "1"}, "items": [], "note": null, "checks": 1}]}'),
    ("attrs", Parcel(1),
     "92c71a2174657374732e636f6465632e73616d706c65733a50617263656c83a47461677390a5747769636502a677656967687401",
     '{"$object": ["tests.codec.samples:Parcel", {"tags": [], "twice": 2, "weight": 1}]}'),
    ("named tuple", Point(1),
     "92c7192274657374732e636f6465632e73616d706c65733a506f696e7482a17801a17905",
     '{"$named_tuple": ["tests.codec.samples:Point", {"x": 1, "y": 5}]}'),
    ("registered", Registered(5),
     "93c71e2374657374732e636f6465632e73616d706c65733a526567697374657265640580",
     '{"$subclass": ["tests.codec.samples:Registered", 5, {}]}'),
    ("exception", FAULT,
     "95c713246275696c74696e733a56616c75654572726f7293c70003a26e6f03808095c71a246275696c74696e733a46696c654e6f74466f756e644572726f7293c7000302a4676f6e658083a56572726e6f02a87374726572726f72a4676f6e65a866696c656e616d65a466696c65c0",
     '{"$exception": ["builtins:ValueError", {"$tuple": ["no", 3]}, {}, {}, {"$exception": ["builtins:FileNotFoundError", {"$tuple": [2, "gone"]}, {}, {"errno": 2, "strerror": "gone", "filename": "file"}, null]}]}'),
    ("pydantic", Address(street="s"),
     "92c71b2574657374732e636f6465632e73616d706c65733a4164647265737384a85f5f646963745f5f82a6737472656574a173a66e756d62657201b25f5f707964616e7469635f65787472615f5fc0b75f5f707964616e7469635f6669656c64735f7365745f5f92c70004a6737472656574b45f5f707964616e7469635f707269766174655f5fc0",
     '{"$pydantic": ["tests.codec.samples:Address", {"__dict__": {"street": "s", "number": 1}, "__pydantic_extra__": null, "__pydantic_fields_set__": {"$set": ["street"]}, "__pydantic_private__": null}]}'),
    ("pydantic zone", [PERSON.born],
     "9194c70008b3323032362d30312d30315430303a30303a303092c72326707964616e7469635f636f72652e5f707964616e7469635f636f72653a547a496e666f0000",
     '[{"$datetime": ["2026-01-01T00:00:00", {"$pydantic_zone": ["pydantic_core._pydantic_core:TzInfo", 0]}, 0]}]'),
    ("protobuf", Timestamp(seconds=1),
     "92c72727676f6f676c652e70726f746f6275662e74696d657374616d705f7062323a54696d657374616d70c4020801",
     '{"$protobuf": ["google.protobuf.timestamp_pb2:Timestamp", {"$bytes": "CAE="}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("value", "packed", "text"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_golden_bytes(value: Any, packed: str, text: str) -> None:
    """Each type is written as the first version wrote it, and what that wrote is read back."""
    for codec, data in ((MessagePackCodec(), bytes.fromhex(packed)), (JsonCodec(), text.encode())):
        assert codec.encode(value) == data
        again = codec.decode(data)
        assert same(value, again) or (isinstance(value, Exception) and repr(again) == repr(value))


def test_every_tag_has_golden_bytes() -> None:
    """No extension type is without an example above."""
    shown = {text.split('"')[1] for _, _, _, text in GOLDEN if text.startswith('{"$')}
    inside = {tag.label for tag in Tag if any(f'"{tag.label}"' in text for _, _, _, text in GOLDEN)}
    assert shown | inside >= {tag.label for tag in Tag}


def test_golden_wrapper() -> None:
    """The frame of compressed bytes is what the first version wrote."""
    codec = CompressedCodec(MessagePackCodec(), threshold=4)
    assert codec.encode("a") == b"\0\xa1a"
    assert codec.decode(bytes.fromhex("01789c5b950807001c300475")) == "a" * 10


def test_golden_failure() -> None:
    """A failure that the first version journaled is still restored."""
    error = decode_error(
        JsonCodec(),
        b'{"type": "builtins:ValueError", "message": "no", "arguments": "(\'no\',)", "traceback": "ValueError: no", '
        b'"sealed": "{\\"class\\": \\"builtins:ValueError\\", \\"args\\": {\\"$tuple\\": [\\"no\\"]}, '
        b'\\"state\\": {\\"extra\\": 1}, \\"fields\\": {}}"}',
    )
    assert type(error) is ValueError
    assert error.args == ("no",)
    assert vars(error)["extra"] == 1
