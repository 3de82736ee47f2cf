"""
Exceptions on their way through the journal: `encode_error` and `decode_error`, or as a part of a value.

A failure is journaled as facts, which never fail to encode (type, message, arguments and traceback as text), and, if
the exception can be restored faithfully, sealed beside them what it takes to do so. Sealed means encoded on its own:
when the class is gone, the facts can still be read and become a `StepError`. Causes and the members of exception groups
are failures of their own, each restored or not for itself. ``__context__`` is kept only as traceback text.

Formatting a traceback reads source lines from disk; nothing else here does I/O.
"""

from __future__ import annotations

import asyncio
import reprlib
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from durable.codec.exceptions import TRACEBACK_NOTE, ExceptionForm, cause_of
from durable.codec.form import Tag
from durable.codec.forms import form_of, form_of_name
from durable.codec.names import name_of
from durable.codec.protocol import Codec
from durable.errors import DecodeError, DurableError, EncodeError, StepError

TRACEBACK_LIMIT = 16_384  # characters of one traceback; the middle is left out
TEXT_LIMIT = 2_000  # characters of a message or the arguments in the facts; a restored exception has them whole
SEALED_LIMIT = 262_144  # bytes of what is sealed in one failure, its causes and members included
EXCEPTIONS_LIMIT = 20  # exceptions in one failure: its causes and members, and theirs

# An exception of these types would be taken for a signal by the interpreter or by asyncio if it were raised again.
_SIGNALS = (StopIteration, StopAsyncIteration, asyncio.CancelledError)

_EXCEPTION = int(Tag.EXCEPTION)
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 4, 500, 500
_short.maxtuple = _short.maxlist = _short.maxdict = _short.maxset = 20


def encode_error(codec: Codec, error: BaseException) -> bytes:
    """
    Return *error* as bytes that `decode_error` reads. Never fails, whatever the exception is or does.

    The result is bounded: at most 20 exceptions (causes and members of groups), 16 384 characters of traceback and
    2 000 of message for each, and 256 KiB for what restores them. What is beyond that is a `StepError` when decoded; a
    cause beyond that is only in the traceback.
    """
    return codec.encode(describe_error(codec, error))


def describe_error(codec: Codec, error: BaseException) -> dict[str, Any]:
    """Return what `encode_error` encodes, to be part of a larger value; `restore_error` reads it."""
    return _Describer(codec).describe(error)


def decode_error(codec: Codec, data: bytes) -> Exception:
    """
    Return the exception in *data*, a new object each time, or a `StepError` with its facts.

    It has the type, ``args``, attributes, notes, message and cause it had, and one more note: the traceback of where it
    was raised. A note, since notes are what every traceback, log and debugger shows; encoding leaves it out again.

    Raises:
        DecodeError: *data* is not a failure written with this codec. (A class that is gone is a `StepError` instead.)
    """
    return restore_error(codec, codec.decode(data))


def restore_error(codec: Codec, facts: Any) -> Exception:
    """Return the exception that `describe_error` described; as `decode_error`."""
    try:
        return _restore(codec, facts)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise DecodeError(f"These bytes are a value, but not a failure ({error!r:.200})") from error


class _Describer:
    """Describes one failure with its causes and members, within the limits."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._described = 0
        self._sealed = 0

    def describe(self, error: BaseException, above: tuple[BaseException, ...] = ()) -> dict[str, Any]:
        """The facts of *error*, which is a cause or member of the exceptions *above*."""
        self._described += 1
        above = (*above, error)
        facts: dict[str, Any] = {
            "type": _text(lambda: name_of(type(error)), TEXT_LIMIT),
            "message": _text(lambda: str(error), TEXT_LIMIT),
            "arguments": _text(lambda: _short.repr(error.args), TEXT_LIMIT),
        }
        cause = cause_of(error)
        described = cause is not None and self._has_room_for([cause], above)
        if cause is not None and described:
            facts["cause"] = self.describe(cause, above)
        facts["traceback"] = _text(lambda: _traceback_of(error, chain=not described), TRACEBACK_LIMIT)
        try:
            self._add_sealed(error, facts, above)
        except BaseException as problem:  # the code of a user may have raised it
            facts["reason"] = _reason_of(problem)
        return facts

    def _add_sealed(self, error: BaseException, facts: dict[str, Any], above: tuple[BaseException, ...]) -> None:
        """Add what restores *error* to *facts*; any exception says why it cannot be restored."""
        if not isinstance(error, Exception) or isinstance(error, _SIGNALS):
            raise EncodeError("raised again, it would be taken for a signal")
        form = form_of(type(error))
        if not isinstance(form, ExceptionForm):
            raise EncodeError(f"{form.name} is not restored as an exception")
        args, state, fields = form.take_own(error)
        members: list[dict[str, Any]] | None = None
        if isinstance(error, ExceptionGroup):
            if not self._has_room_for(error.exceptions, above):
                raise EncodeError(f"more than {EXCEPTIONS_LIMIT} exceptions, or one that contains itself")
            members, args = [self.describe(member, above) for member in error.exceptions], args[:1]
        sealed = _innermost(self._codec).encode({"class": form.name, "args": args, "state": state, "fields": fields})
        self._sealed += len(sealed)
        if self._sealed > SEALED_LIMIT:
            raise EncodeError(f"its arguments and attributes take more than {SEALED_LIMIT} bytes")
        try:
            facts["sealed"] = sealed.decode()  # so that a readable codec stays readable
        except UnicodeDecodeError:
            facts["sealed"] = sealed
        if members is not None:
            facts["members"] = members

    def _has_room_for(self, errors: Sequence[BaseException], above: tuple[BaseException, ...]) -> bool:
        recursive = any(error is other for error in errors for other in above)
        return not recursive and self._described + len(errors) <= EXCEPTIONS_LIMIT


def _restore(codec: Codec, facts: Any) -> Exception:
    sealed, cause = facts.get("sealed"), facts.get("cause")
    error: Exception | None = None
    reason = facts.get("reason")
    if sealed is not None:
        try:
            error = _unseal(codec, sealed, facts.get("members"))
            BaseException.add_note(error, TRACEBACK_NOTE + facts["traceback"])
        except Exception as problem:
            error, reason = None, _reason_of(problem)
    if error is None:
        error = _step_error(facts, reason)
    if cause is not None:
        error.__cause__ = _restore(codec, cause)
    return error


def _unseal(codec: Codec, sealed: str | bytes, members: list[Any] | None) -> Exception:
    data = sealed.encode() if isinstance(sealed, str) else sealed
    own = _innermost(codec).decode(data)
    name, args = own["class"], own["args"]
    form = form_of_name(_EXCEPTION, name)
    if not isinstance(form, ExceptionForm):
        raise DecodeError(f"{name} is not restored as an exception")
    if members is not None:
        args = (*args, [_restore(codec, member) for member in members])
    error = form.make_own([args, own["state"], own["fields"]])
    if not isinstance(error, Exception) or isinstance(error, _SIGNALS):
        raise DecodeError(f"{name}, raised again, would be taken for a signal")
    return error


def _step_error(facts: dict[str, Any], reason: str | None) -> StepError:
    module, _, path = facts["type"].partition(":")
    type_name = path if module == "builtins" else f"{module}.{path}"
    return StepError(
        f"{type_name}: {facts['message']}",
        type_name=type_name,
        arguments=facts["arguments"],
        reason=reason,
        traceback_text=facts["traceback"],
    )


def _innermost(codec: Codec) -> Codec:
    """The codec inside all wrappers: what is sealed is wrapped once, with the facts around it."""
    while (inner := getattr(codec, "inner", None)) is not None:
        codec = inner
    return codec


def _reason_of(problem: BaseException) -> str:
    return _text(lambda: str(problem.args[0]) if isinstance(problem, DurableError) else repr(problem), TEXT_LIMIT)


def _traceback_of(error: BaseException, chain: bool) -> str:
    # A cause that is described on its own is left out; what only is the context would be lost if the text left it out.
    return "".join(traceback.format_exception(error, chain=chain)).rstrip("\n")


def _text(make: Callable[[], str], limit: int) -> str:
    """What *make* returns, whatever the user's code in it does, without lone surrogates, the middle left out."""
    try:
        text = str.__str__(make())
    except BaseException as error:  # as the traceback module does: a broken __str__ may raise anything
        text = f"<{type(error).__name__} while describing the exception>"
    if len(text) > limit:
        left_out = len(text) - limit
        text = f"{text[: limit // 4]}\n… {left_out} characters left out …\n{text[-(limit - limit // 4) :]}"
    return text.encode("utf-8", "backslashreplace").decode()
