"""Codecs as objects: limits, threads, calls from inside, wrappers, and what importing them loads."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.fernet import Fernet

from durable.codec import Codec, CompressedCodec, EncryptedCodec, JsonCodec, MessagePackCodec
from durable.errors import DecodeError, EncodeError
from tests.codec.samples import Box, Slotted

CODECS: list[Codec] = [MessagePackCodec(), JsonCodec()]
codecs = pytest.mark.parametrize("codec", CODECS, ids=["messagepack", "json"])


def cycles() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    inside: list[Any] = []
    inside.append((1, inside))
    box = Box[Any](None)
    box.item = [box]
    mutable: list[Any] = [bytearray(b"x")]
    mutable.append(mutable)
    error = ValueError("x")
    error.__cause__ = error
    return [items, mapping, inside, box, mutable, error, ({"a": [mapping]},)]


@codecs
@pytest.mark.parametrize("value", cycles(), ids=["list", "dict", "tuple", "object", "bytearray", "cause", "inner"])
def test_a_cycle_is_refused(codec: Codec, value: Any) -> None:
    """A value that contains itself is an `EncodeError` that says so, never a `RecursionError`."""
    with pytest.raises(EncodeError, match="contains itself"):
        codec.encode(value)


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS: dict[str, Any] = {
    "list": lambda inner: [inner],
    "dict": lambda inner: {"k": inner},
    "tuple": lambda inner: (inner,),
    "object": Box,
    "slots": lambda inner: Slotted(1, inner),
    "set": lambda inner: frozenset([inner]),
    "bytearray": lambda inner: [bytearray(b"x"), inner],
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_within_and_beyond_the_limit(wrap: Any) -> None:
    """What is nested less than the limit is encoded, decoded and equal; what is nested more is an `EncodeError`."""
    for codec, limit in ((MessagePackCodec(), 240), (JsonCodec(), 45)):
        value = nested(limit, wrap)
        assert codec.decode(codec.encode(value)) == value
        for depth in (1100, 20_000):
            with pytest.raises(EncodeError, match="nested"):
                codec.encode(nested(depth, wrap))


def test_shared_references_are_no_cycle() -> None:
    """An object that occurs in many places is encoded in each."""
    shared = [1]
    assert MessagePackCodec().decode(MessagePackCodec().encode([shared] * 600)) == [[1]] * 600


@codecs
def test_threads(codec: Codec) -> None:
    """One codec may be used from several threads at once."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number: int) -> bool:
        value = [(number, Slotted(number, {str(number)}), bytearray(b"x" * number))] * 20
        return all(codec.decode(codec.encode(value)) == value for _ in range(10))

    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(16)))
    finally:
        sys.setswitchinterval(switch)


CODEC = MessagePackCodec()


@dataclass
class Nosy:
    """Uses the codec while the codec is using it."""

    x: Any

    def __hash__(self) -> int:
        return hash(CODEC.decode(CODEC.encode((1, 2))))


def test_calls_from_inside() -> None:
    """A class whose methods call the codec, while it encodes or decodes, disturbs nothing."""
    value = {Nosy(1): {Nosy(2)}, "k": [Nosy((3,))]}
    assert CODEC.decode(CODEC.encode(value)) == value


@codecs
def test_a_refused_value_leaves_nothing_behind(codec: Codec) -> None:
    """After an error in the middle of a value the next one is encoded as if nothing had been."""
    expected = codec.encode([1, 2, (3,)])
    for bad in ([1, 2, (3, print)], [bytearray(b"x"), print], [1, "\ud800"]):
        with pytest.raises(EncodeError):
            codec.encode(bad)
        assert codec.encode([1, 2, (3,)]) == expected


def test_key_rotation() -> None:
    """The first key encrypts, every key decrypts, and a key taken away is missed with a clear error."""
    old, new = Fernet.generate_key(), Fernet.generate_key().decode()
    before, during = EncryptedCodec(JsonCodec(), old), EncryptedCodec(JsonCodec(), new, old)
    after = EncryptedCodec(JsonCodec(), new)
    assert during.decode(before.encode("secret")) == "secret"
    assert after.decode(during.encode("secret")) == "secret"
    with pytest.raises(DecodeError, match="none of the 1 given fits"):
        after.decode(before.encode("secret"))
    assert b"secret" not in before.encode("secret")
    assert before.encode("secret") != before.encode("secret")


def test_encryption_needs_keys() -> None:
    """No key and a malformed key are errors where the codec is made."""
    with pytest.raises(ValueError, match="at least one key"):
        EncryptedCodec(JsonCodec())
    with pytest.raises(ValueError, match="32 url-safe base64"):
        EncryptedCodec(JsonCodec(), b"short")


def test_encryption_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error names what to install."""
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[encryption\]'"):
        EncryptedCodec(JsonCodec(), b"key")


def test_compression_where_it_pays() -> None:
    """Long bytes get shorter, short ones and those that do not compress stay as they are but for one byte."""
    plain, codec = MessagePackCodec(), CompressedCodec(MessagePackCodec())
    noise = os.urandom(2000)
    for value, shorter in (("x" * 5000, True), ("x" * 500, False), (noise, False)):
        data = codec.encode(value)
        assert codec.decode(data) == value
        assert (len(data) < len(plain.encode(value)) // 10) if shorter else data == b"\0" + plain.encode(value)


def test_wrapped_errors_pass_through() -> None:
    """A wrapper reports an unencodable value as the inner codec does."""
    with pytest.raises(EncodeError, match=r"value\[0\]"):
        EncryptedCodec(CompressedCodec(MessagePackCodec()), Fernet.generate_key()).encode([print])


def test_importing_the_codec_loads_no_foreign_package() -> None:
    """Neither importing nor using the codec imports the packages whose classes it knows."""
    script = """
import sys
from durable.codec import JsonCodec, MessagePackCodec
for codec in (JsonCodec(), MessagePackCodec()):
    codec.decode(codec.encode([(1, {2}), ValueError("x")]))
print([name for name in ("pydantic", "attr", "google.protobuf", "cryptography") if name in sys.modules])
"""
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.strip() == "[]"


@codecs
def test_large_values(codec: Codec) -> None:
    """Values of many megabytes and many elements pass; what is too large is for the host to say."""
    value = {"text": "ä" * 3_000_000, "data": b"\xff" * 3_000_000, "items": list(range(200_000))}
    assert codec.decode(codec.encode(value)) == value
