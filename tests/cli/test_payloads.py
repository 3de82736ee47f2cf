"""Payloads without their classes: the same structure that `JsonCodec` writes, whatever codec wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable import CompressedCodec, EncryptedCodec, JsonCodec, MessagePackCodec
from durable.codec import describe_error, reader_for
from durable.insight import in_words
from tests.codec.samples import Order, values

_KEY = "mG4dT1Bq4y8Zk0kQvSxS9mYw4dD0W5rXo0m1r0uG0nE="


def form(value: Any) -> Any:
    """What `JsonCodec` writes for *value*."""
    return json.loads(JsonCodec().encode(value))


def without_order(form: Any) -> Any:
    """*form* with its sets in one order: each codec sorts what does not compare by its own bytes."""
    if isinstance(form, list):
        return [without_order(part) for part in form]
    if not isinstance(form, dict):
        return form
    plain = {label: without_order(part) for label, part in form.items()}
    for label in plain.keys() & {"$set", "$frozenset"}:
        if isinstance(plain[label], list):
            plain[label].sort(key=repr)
    return plain


@given(values)
@example({"$tuple": [1]})
@example({1: {(1,): bytearray(b"x")}})
@example([float("nan"), float("-inf"), b"", 2**70, 2**3000])
def test_messagepack_is_read_as_json_codec_would_write_it(value: Any) -> None:
    """For every value the structure is exactly that of the readable codec; no class was looked up for it."""
    read = reader_for(MessagePackCodec())(MessagePackCodec().encode(value))
    assert repr(without_order(read)) == repr(without_order(form(value)))


@pytest.mark.parametrize(
    "codec",
    [
        JsonCodec(),
        CompressedCodec(MessagePackCodec(), threshold=1),
        CompressedCodec(JsonCodec(), threshold=1),
        EncryptedCodec(CompressedCodec(MessagePackCodec()), _KEY),
    ],
    ids=["json", "compressed", "compressed json", "encrypted"],
)
def test_wrapped_codecs_are_unwrapped(codec: Any) -> None:
    """Compressed and encrypted payloads are read through, and the codec itself is as it was."""
    value = {"order": [Order("7", 1)], "long": "x" * 2000}  # type: ignore[arg-type]
    payload = codec.encode(value)
    assert reader_for(codec)(payload) == form(value)
    assert codec.decode(payload) == value


def test_a_codec_nobody_knows() -> None:
    """A codec of your own is asked for its values, which are shown in the same form."""

    class Own:
        def encode(self, value: Any) -> bytes:
            return repr(value).encode()

        def decode(self, data: bytes) -> Any:
            return eval(data)

    assert reader_for(Own())(b"(1, {2})") == {"$tuple": [1, {"$set": [2]}]}


@given(st.binary(min_size=1, max_size=30))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    """Damage is an answer of its own, never an exception, and always something JSON can hold."""
    for codec in (MessagePackCodec(), JsonCodec(), EncryptedCodec(MessagePackCodec(), _KEY)):
        json.dumps(reader_for(codec)(data), allow_nan=True)


def test_nothing_is_nothing() -> None:
    """Records without a payload have no value."""
    assert reader_for(MessagePackCodec())(b"") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        ("a'b", '"a\'b"'),
        ((1,), "(1,)"),
        ([(1, "x"), {2}], "[(1, 'x'), {2}]"),
        (set(), "set()"),
        ({(1, 2): b"ab"}, "{(1, 2): b'ab'}"),
        ({"plain": True}, "{'plain': True}"),
        (Order("7", 1), "Order(id='7', price=1, items=[], note=None, checks=1)"),  # type: ignore[arg-type]
    ],
)
def test_in_words(value: Any, words: str) -> None:
    """A form for people reads as the value would in Python, as far as one line allows."""
    assert in_words(form(value)) == words


@given(values)
def test_every_value_has_words(value: Any) -> None:
    """There is a line for every value."""
    assert in_words(form(value))


def test_a_failure_in_words() -> None:
    """A recorded failure is the last line of its traceback."""
    assert in_words(describe_error(MessagePackCodec(), ValueError("no"))) == "ValueError: no"
    assert in_words(describe_error(MessagePackCodec(), KeyError())) == "KeyError"
