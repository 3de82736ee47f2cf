"""Damaged and hostile bytes: a value or a clear error, nothing is imported, called or leaked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable.codec import (
    Codec,
    CompressedCodec,
    EncryptedCodec,
    JsonCodec,
    MessagePackCodec,
    decode_error,
    encode_error,
)
from durable.errors import DecodeError, UnknownClass
from tests.codec.samples import values

CODECS: list[Codec] = [MessagePackCodec(), JsonCodec(), CompressedCodec(MessagePackCodec(), threshold=0)]
codecs = pytest.mark.parametrize("codec", CODECS, ids=["messagepack", "json", "compressed"])
slow_is_fine = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Pieces that look like what the codecs write, so that random bytes get past the first check.
_names = [b"tests.codec.samples:Order", b"tests.codec.samples:Color", b"builtins:OSError", b"os:system", b"x:y", b":"]
_packed_pieces = st.one_of(
    st.binary(max_size=3),
    st.builds(
        lambda code, payload: b"\xc7" + bytes([len(payload), code]) + payload,
        st.integers(0, 255),
        st.one_of(st.sampled_from(_names), st.just(b""), st.binary(max_size=5)),
    ),
    st.integers(0x80, 0x9F).map(lambda first: bytes([first])),
)
packed = st.lists(_packed_pieces, max_size=8).map(b"".join)
_labels = st.sampled_from(
    ["$tuple", "$set", "$datetime", "$object", "$enum", "$exception", "$dict", "$bytes", "$float", "$nope", "$path"]
)
texts = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=4), st.sampled_from([name.decode() for name in _names])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_labels, inner, max_size=2)),
    max_leaves=6,
)


def check(codec: Codec, data: bytes) -> None:
    """Decode *data* both ways; only `DecodeError` may come out of it."""
    try:
        value = codec.decode(data)
    except DecodeError:
        pass
    else:
        assert not holds_a_mark(value)
    with suppress(DecodeError):
        assert isinstance(decode_error(codec, data), Exception)


def holds_a_mark(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(holds_a_mark, value)) or any(map(holds_a_mark, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(holds_a_mark, value))
    return callable(value)


@slow_is_fine
@given(data=st.one_of(st.binary(max_size=40), packed))
def test_any_bytes(data: bytes) -> None:
    """Any bytes decode to a value or raise `DecodeError`, and no inner mark gets out."""
    for codec in CODECS:
        check(codec, data)


@slow_is_fine
@given(value=texts)
def test_any_json(value: Any) -> None:
    """Any JSON, with our labels in wrong places, decodes to a value or raises `DecodeError`."""
    check(JsonCodec(), json.dumps(value).encode())


@codecs
@slow_is_fine
@given(value=values, position=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_bytes(codec: Codec, value: Any, position: int, byte: int, cut: bool) -> None:
    """A value with one byte changed or its end cut off decodes to a value or raises `DecodeError`."""
    data = bytearray(codec.encode(value))
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] = byte
    check(codec, bytes(data))


@codecs
@slow_is_fine
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_damaged_failures(codec: Codec, position: int, byte: int) -> None:
    """A failure with one byte changed is an exception, or raises `DecodeError`."""
    error = OSError(2, "gone", "file")
    error.__cause__ = ExceptionGroup("two", [ValueError(1), KeyError("k")])
    data = bytearray(encode_error(codec, error))
    data[position % len(data)] = byte
    check(codec, bytes(data))


@pytest.mark.parametrize("around", ["{}", "9201{}", "81a16b{}", "81{}01", "93c7000301{}", "9291{}c70003"])
def test_a_mark_in_a_wrong_place(around: str) -> None:
    """A mark that does not lead an array (alone, later in one, in a dict, in a tuple) raises `DecodeError`."""
    with pytest.raises(DecodeError):
        MessagePackCodec().decode(bytes.fromhex(around.format("c70003")))


@pytest.mark.parametrize("depth", [1100, 100_000])
def test_hostile_nesting(depth: int) -> None:
    """Bytes that open more arrays than the stack holds raise `DecodeError`."""
    for codec, opening in ((MessagePackCodec(), b"\x91"), (JsonCodec(), b"[")):
        with pytest.raises(DecodeError):
            codec.decode(opening * depth)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("wave:Wave_read", UnknownClass),
        ("os:system", UnknownClass),
        ("os:path.join", UnknownClass),
        ("subprocess:Popen", DecodeError),
        ("builtins:dict", DecodeError),
        ("builtins:eval", UnknownClass),
        ("collections:Counter", DecodeError),
        ("tests.codec.test_damage:trap", UnknownClass),
        ("tests.codec.test_damage:Trap.anything", UnknownClass),
        ("tests.codec.samples:Color", DecodeError),
        ("", UnknownClass),
        ("x", UnknownClass),
    ],
)
def test_names_do_nothing_but_name(name: str, error: type[DecodeError]) -> None:
    """A name that is no restorable class of the right kind is an error, and nothing is imported or called."""
    assert "wave" not in sys.modules
    before = set(sys.modules)
    packed = b"\x92\xc7" + bytes([len(name), 33]) + name.encode() + b"\x80"
    for codec, data in ((MessagePackCodec(), packed), (JsonCodec(), f'{{"$object": ["{name}", {{}}]}}'.encode())):
        with pytest.raises(error):
            codec.decode(data)
    assert set(sys.modules) == before
    assert not sprung


sprung: list[str] = []


def __getattr__(name: str) -> Any:
    if name == "trap":
        sprung.append(name)
    raise AttributeError(name)


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "anything":
            sprung.append(name)
        return super().__getattribute__(name)


class Trap(metaclass=_Meta):
    """A class that notices being asked for an attribute."""


def test_a_lazy_module_stays_asleep() -> None:
    """Looking into a module that would load itself on first use does not load it."""
    script = """
import importlib.util, sys
from durable.codec import JsonCodec
from durable.errors import UnknownClass
spec = importlib.util.find_spec("wave")
loader = importlib.util.LazyLoader(spec.loader)
spec.loader = loader
module = importlib.util.module_from_spec(spec)
sys.modules["wave"] = module
loader.exec_module(module)
try:
    JsonCodec().decode(b'{"$object": ["wave:Wave_read", {}]}')
except UnknownClass:
    print("refused", "Wave_read" in object.__getattribute__(module, "__dict__"))
"""
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.split() == ["refused", "False"]


def test_a_module_that_is_no_module() -> None:
    """What is not a module but sits among the loaded ones is not looked into."""

    class Fake:
        def __getattribute__(self, name: str) -> Any:
            sprung.append(name)
            raise AssertionError(name)

    sys.modules["fake_module"] = Fake()  # type: ignore[assignment]
    try:
        with pytest.raises(UnknownClass):
            JsonCodec().decode(b'{"$object": ["fake_module:Class", {}]}')
    finally:
        del sys.modules["fake_module"]
    assert not sprung


def test_the_wrong_codec() -> None:
    """Bytes of another codec or another key raise `DecodeError` that says so."""
    value = {"a": (1, 2)}
    key, other = Fernet.generate_key(), Fernet.generate_key()
    encrypted = EncryptedCodec(MessagePackCodec(), key)
    with pytest.raises(DecodeError, match="wrong key"):
        EncryptedCodec(MessagePackCodec(), other).decode(encrypted.encode(value))
    for data in (MessagePackCodec().encode(value), b"", b"\xff"):
        with pytest.raises(DecodeError, match="not written by EncryptedCodec"):
            encrypted.decode(data)
    with pytest.raises(DecodeError, match="JsonCodec"):
        JsonCodec().decode(MessagePackCodec().encode(value))
    with pytest.raises(DecodeError, match="MessagePackCodec"):
        MessagePackCodec().decode(JsonCodec().encode(value))
    with pytest.raises(DecodeError, match="CompressedCodec"):
        CompressedCodec(MessagePackCodec()).decode(MessagePackCodec().encode(value))
    with pytest.raises(DecodeError, match="damaged"):
        CompressedCodec(MessagePackCodec()).decode(b"\x01nonsense")
