"""Exceptions through the journal: themselves where that is faithful, a `StepError` with their facts where not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import sqlite3
import subprocess
import traceback
import urllib.error
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import attrs
import pytest
import sqlalchemy
import sqlalchemy.exc
from cryptography.fernet import Fernet
from pydantic import BaseModel, ValidationError

from durable.codec import (
    Codec,
    CompressedCodec,
    EncryptedCodec,
    JsonCodec,
    MessagePackCodec,
    decode_error,
    encode_error,
)
from durable.codec.failures import EXCEPTIONS_LIMIT, SEALED_LIMIT, TEXT_LIMIT, TRACEBACK_LIMIT
from durable.errors import DecodeError, DurableError, EncodeError, ProcessNotFound, StepError

CODECS: list[Codec] = [
    MessagePackCodec(),
    JsonCodec(),
    EncryptedCodec(CompressedCodec(MessagePackCodec()), Fernet.generate_key()),
]
codecs = pytest.mark.parametrize("codec", CODECS, ids=["messagepack", "json", "wrapped"])


class Declined(Exception):
    """An error with a keyword-only argument and a text of its own."""

    def __init__(self, *, amount: int) -> None:
        super().__init__(f"declined {amount}")
        self.amount = amount

    def __str__(self) -> str:
        return f"{self.amount} was declined"


class Slotted(Exception):
    __slots__ = ("place", "unset")

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place


class Picky(ValueError):
    def __new__(cls, one: int, two: int) -> Picky:
        return super().__new__(cls, one, two)

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one + two)


class MissingFile(FileNotFoundError):
    def __init__(self, name: str) -> None:
        super().__init__(2, "no such thing", name)
        self.name = name


@dataclass
class Structured(Exception):
    code: int
    details: list[int]


@attrs.define(auto_exc=True)
class AttrsError(Exception):
    code: int


class Batch(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Any:
        return Batch(self.message, excs)


def raised(error: BaseException, cause: BaseException | None = None) -> Any:
    """*error* after it was raised and caught."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def caught_from(function: Any, *arguments: Any) -> Any:
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def no_such_column() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("SELECT nope")


def integrity_error() -> Any:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE t (id INTEGER PRIMARY KEY)"))
        connection.execute(sqlalchemy.text("INSERT INTO t VALUES (1)"))
        try:
            return caught_from(connection.execute, sqlalchemy.text("INSERT INTO t VALUES (:id)"), {"id": 1})
        finally:
            connection.close()
            engine.dispose()


def with_note() -> Exception:
    error = ValueError("x")
    error.add_note("mine")
    error.extra = (1, 2)  # type: ignore[attr-defined]
    return error


FAITHFUL: dict[str, BaseException] = {
    "plain": ValueError("no", 3),
    "empty": Exception(),
    "key": KeyError("k"),
    "notes": with_note(),
    "os": caught_from(open, "/nowhere/at all"),
    "os of path": caught_from(os.stat, __import__("pathlib").Path("/nowhere")),
    "os two files": OSError(18, "cross-device", "a", None, "b"),
    "blocking": BlockingIOError(11, "again", 5),
    "timeout": TimeoutError("slow"),
    "unicode decode": caught_from(b"a\xff".decode),
    "unicode encode": caught_from("aä".encode, "ascii"),
    "attribute": caught_from(getattr, object(), "nope"),
    "import": caught_from(__import__, "no_such_module"),
    "syntax": caught_from(compile, "a b", "file.py", "exec"),
    "json": caught_from(json.loads, "{"),
    "process": subprocess.CalledProcessError(3, ["ls"], b"out", b"err"),
    "sqlite": caught_from(no_such_column),
    "sqlalchemy": integrity_error(),
    "futures": concurrent.futures.CancelledError("x"),
    "keyword only": Declined(amount=5),
    "slots": Slotted("here"),
    "own new": Picky(1, 2),
    "own os": MissingFile("f"),
    "dataclass": Structured(1, [2]),
    "attrs": AttrsError(5),
    "durable": DurableError("what", fix="this", process_id="a", record=3),
    "durable lookup": ProcessNotFound("No process 'a'", process_id="a"),
    "step": StepError("x", type_name="a.B", arguments="()", traceback_text="…"),
    "nested in args": RuntimeError("outer", ValueError("inner")),
}


@codecs
@pytest.mark.parametrize("name", FAITHFUL)
def test_faithful_exceptions(codec: Codec, name: str) -> None:
    """Type, args, attributes, notes, text and built-in fields come back, each time in a new object."""
    error = FAITHFUL[name]
    data = encode_error(codec, raised(error))
    again = decode_error(codec, data)
    assert again is not decode_error(codec, data)
    assert type(again) is type(error)
    assert repr(again.args) == repr(error.args)
    assert str(again) == str(error)
    own = {key: value for key, value in vars(error).items() if key != "__notes__"}
    assert repr({key: value for key, value in vars(again).items() if key != "__notes__"}) == repr(own)
    *notes, last = again.__notes__
    assert notes == getattr(error, "__notes__", [])
    assert last.startswith("Traceback from the journal:\nTraceback (most recent call last):\n")
    assert "raise error from cause" in last
    for field in ("errno", "filename", "filename2", "characters_written", "start", "object", "name", "lineno", "place"):
        assert getattr(again, field, None) == getattr(error, field, None)


class Model(BaseModel):
    x: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit

    def __repr__(self) -> str:
        raise RuntimeError


class Volatile(Exception):
    """An error whose text depends on what is not in it."""

    count = 0

    def __str__(self) -> str:
        Volatile.count += 1
        return str(Volatile.count)


def local_error() -> Exception:
    class Hidden(Exception):
        pass

    return Hidden("x")


UNFAITHFUL: dict[str, tuple[BaseException, str]] = {
    "unencodable args": (ValueError(print), "['args'][0]"),
    "unencodable attribute": (urllib.error.HTTPError("http://x", 500, "bad", None, None), ""),  # type: ignore[arg-type]
    "rust": (caught_from(Model.model_validate, {"x": "a"}), "made again"),
    "unprintable": (Unprintable("x"), ""),
    "volatile": (Volatile("x"), "does not say the same"),
    "local": (local_error(), "inside a function"),
    "surrogate": (ValueError("\udcff"), "surrogate"),
    "large": (ValueError("x" * (SEALED_LIMIT + 1)), "more than"),
    "stop": (StopIteration(3), "signal"),
    "async stop": (StopAsyncIteration(), "signal"),
    "cancelled": (asyncio.CancelledError("x"), "signal"),
    "generator": (GeneratorExit(), "signal"),
    "keyboard": (KeyboardInterrupt(), "signal"),
    "exit": (SystemExit(3), "signal"),
    "base": (BaseException("x"), "signal"),
    "base group": (BaseExceptionGroup("g", [KeyboardInterrupt()]), "signal"),
}


@codecs
@pytest.mark.parametrize("name", UNFAITHFUL)
def test_unfaithful_exceptions(codec: Codec, name: str) -> None:
    """What would not come back as it was is a `StepError` with type, arguments, traceback and the reason."""
    error, reason = UNFAITHFUL[name]
    again = decode_error(codec, encode_error(codec, raised(error)))
    assert type(again) is StepError
    assert again.type_name.endswith(type(error).__qualname__)
    assert again.type_name == type(error).__name__ or again.type_name.startswith(type(error).__module__)
    assert reason in again.reason
    assert "raise error from cause" in again.traceback_text
    assert again.traceback_text in str(again)
    assert repr(decode_error(codec, encode_error(codec, again)).args) == repr(again.args)


class Restless(StopIteration):
    """A signal of a user's own."""


@codecs
def test_signals_never_come_out(codec: Codec) -> None:
    """Bytes that claim to restore a signal become a `StepError`, whoever wrote them."""
    inner = codec.inner.inner if isinstance(codec, EncryptedCodec) else codec  # type: ignore[attr-defined]
    for name in (
        "builtins:StopIteration",
        "builtins:KeyboardInterrupt",
        "asyncio.exceptions:CancelledError",
        "tests.codec.test_failures:Restless",
    ):
        sealed = inner.encode({"class": name, "args": (), "state": {}, "fields": {}})
        facts = {"type": name, "message": "", "arguments": "()", "traceback": "", "sealed": sealed}
        assert type(decode_error(codec, codec.encode(facts))) is StepError


@codecs
def test_causes(codec: Codec) -> None:
    """A chain of causes comes back link by link, each as itself or as a `StepError`; a loop of causes ends."""
    error = decode_error(codec, encode_error(codec, raised(KeyError("a"), raised(ValueError(print), TypeError("c")))))
    assert type(error) is KeyError
    assert type(error.__cause__) is StepError
    assert type(error.__cause__.__cause__) is TypeError
    one, other = ValueError(1), ValueError(2)
    one.__cause__, other.__cause__ = other, one
    again = decode_error(codec, encode_error(codec, one))
    assert again.__cause__ is not None
    assert again.__cause__.args == (2,)
    assert again.__cause__.__cause__ is None


@codecs
def test_context_is_in_the_traceback(codec: Codec) -> None:
    """What an exception was raised during is kept as text."""
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904
    except ValueError as error:
        again = decode_error(codec, encode_error(codec, error))
    assert again.__context__ is None
    assert "KeyError: 'first'" in again.__notes__[-1]


@codecs
def test_groups(codec: Codec) -> None:
    """Exception groups come back with their members, each restored or not for itself, so ``except*`` still works."""
    group = Batch(
        "three", [ValueError(1), ExceptionGroup("inner", [raised(KeyError("k"), TypeError())]), TypeError(print)]
    )
    again = decode_error(codec, encode_error(codec, raised(group)))
    assert type(again) is Batch
    assert again.message == "three"
    assert str(again) == str(group)
    first, inner, last = again.exceptions
    assert (type(first), first.args) == (ValueError, (1,))
    assert isinstance(inner, ExceptionGroup)
    assert type(inner.exceptions[0]) is KeyError
    assert type(inner.exceptions[0].__cause__) is TypeError
    assert type(last) is StepError
    assert again.split(KeyError)[0] is not None


@codecs
def test_the_note_does_not_pile_up(codec: Codec) -> None:
    """An exception that passes through several journals has its own notes and one traceback note."""
    error: BaseException = with_note()
    for _ in range(4):
        error = raised(decode_error(codec, encode_error(codec, raised(error))))
        assert len(error.__notes__) == 2
        assert error.__notes__[0] == "mine"
    assert "raise error from cause" in "".join(traceback.format_exception(error))


def recurse(depth: int) -> None:
    if depth:
        recurse(depth - 1)
    raise ValueError("deep")


class Broken(Exception):
    """An error that fails in every way it can."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError

    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __getattribute__(self, name: str) -> Any:
        if name in ("__cause__", "__notes__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


class LyingText(str):
    def encode(self, *_: Any, **__: Any) -> bytes:
        raise RuntimeError

    __getitem__ = __len__ = encode  # type: ignore[assignment]


class LyingMessage(Exception):
    def __str__(self) -> str:
        return LyingText("text")


@codecs
def test_encoding_never_fails_and_is_bounded(codec: Codec) -> None:
    """However broken, deep, wide or large an exception is, it is encoded, within the stated sizes."""
    chain: BaseException = ValueError(0)
    for number in range(1000):
        error = ValueError(number)
        error.__cause__ = chain
        chain = error
    nested: Exception = ValueError("in")
    for _ in range(400):
        nested = ExceptionGroup("g", [nested])
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    bad_notes = ValueError("x")
    bad_notes.__notes__ = 5  # type: ignore[assignment]
    large = [ValueError("x" * (SEALED_LIMIT // 3)) for _ in range(8)]
    monsters: list[BaseException] = [
        Broken("x"),
        Unprintable(),
        LyingMessage(),
        chain,
        nested,
        ExceptionGroup("wide", [ValueError(number) for number in range(1000)]),
        ExceptionGroup("large", large),
        ValueError(cyclic),
        bad_notes,
        caught_from(recurse, 900),
        ValueError("\ud800" * 10),
        RuntimeError("x" * 10_000_000),
    ]
    most = EXCEPTIONS_LIMIT * (TRACEBACK_LIMIT + 3 * TEXT_LIMIT) + 2 * SEALED_LIMIT
    for monster in monsters:
        data = encode_error(codec, raised(monster) if not isinstance(monster, Broken) else monster)
        assert len(data) < most * 2
        assert isinstance(decode_error(codec, data), Exception)


def test_the_middle_of_a_long_traceback_is_left_out() -> None:
    """A traceback over the limit keeps its start and its end, and says how much is missing."""
    codec = JsonCodec()
    error = decode_error(codec, encode_error(codec, raised(RuntimeError("start " + "x" * 100_000 + " end"))))
    note = error.__notes__[-1]
    assert len(note) < TRACEBACK_LIMIT + 200
    assert "characters left out" in note
    assert note.endswith(" end")


def test_a_value_is_not_a_failure() -> None:
    """Bytes that hold something else raise `DecodeError`."""
    codec = MessagePackCodec()
    values: list[Any] = [None, 5, [], {}, {"type": 3}, {"type": "a:B"}]
    for value in values:
        with pytest.raises(DecodeError, match="not a failure"):
            decode_error(codec, codec.encode(value))


@codecs
def test_exceptions_as_values(codec: Codec) -> None:
    """An exception can be a value, with its cause; one that would not come back as it was is refused."""
    results = [1, raised(ValueError("x"), KeyError("k"))]
    again = codec.decode(codec.encode(results))
    assert repr(again) == repr(results)
    assert repr(again[1].__cause__) == "KeyError('k')"
    with pytest.raises(EncodeError, match="made again"):
        codec.encode(caught_from(Model.model_validate, {"x": "a"}))
    assert issubclass(ValidationError, ValueError)


def test_a_failure_in_json_is_readable() -> None:
    """With the JSON codec a failure is text throughout, what restores it included."""
    text = encode_error(JsonCodec(), Declined(amount=5)).decode()
    facts = json.loads(text)
    assert facts["message"] == "5 was declined"
    assert json.loads(facts["sealed"])["state"] == {"amount": 5}
