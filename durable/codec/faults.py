"""
Says which part of a value cannot be encoded, and why.

Runs only after an encoding has failed, so that the codecs need not keep track of where they are. Looks for the first
part, in the order of encoding, that has no form, refuses to be taken apart, contains itself or lies too deep. It keeps
its own stack: values that are nested too deep are among what it is made for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from durable.codec.forms import form_of
from durable.codec.protocol import Codec
from durable.errors import EncodeError

_LEAVES = frozenset({type(None), bool, int, float, bytes, bytearray})
_PATH_LIMIT = 200


class _Place(NamedTuple):
    value: Any
    label: str
    above: _Place | None
    depth: int

    @property
    def path(self) -> str:
        labels, place = [self.label], self.above
        while place is not None:
            labels.append(place.label)
            place = place.above
        path = "".join(reversed(labels))
        return path if len(path) <= _PATH_LIMIT else f"{path[:_PATH_LIMIT]}…"

    def contains_itself(self) -> bool:
        seen, place = {id(self.value)}, self.above
        while place is not None:
            if id(place.value) in seen:
                return True
            seen.add(id(place.value))
            place = place.above
        return False


def explain(value: Any, error: BaseException, depth: int) -> EncodeError:
    """
    Return the error to raise for *value*, whose encoding failed with *error*.

    Args:
        value: What was to be encoded.
        error: Why it failed; used if the walk finds nothing.
        depth: How many levels the codec allows at most.
    """
    waiting = [_Place(value, "value", None, 0)]
    while waiting:
        place = waiting.pop()
        if place.depth > depth:
            reason = "it contains itself" if place.contains_itself() else f"it is nested more than {depth} levels deep"
            return _fault(place, EncodeError(reason, fix="flatten it, or keep references by name or id"))
        try:
            children = _children(place.value)
        except EncodeError as reason:
            return _fault(place, reason)
        except Exception as reason:
            return _fault(place, EncodeError(f"reading it failed with {reason!r:.200}"))
        below = [_Place(child, label, place, place.depth + 1) for label, child in children]
        waiting.extend(reversed(below))
    if isinstance(error, ValueError | RecursionError):  # what the formats raise; they count an object as more than one
        error = EncodeError("it is nested too deep", fix="flatten it")
    elif not isinstance(error, EncodeError):
        error = EncodeError(f"encoding it failed with {error!r:.200}")
    return _fault(_Place(value, "value", None, 0), error)


def encode_of(codec: Codec, parts: Iterable[tuple[str, Any]], whole: Any) -> bytes:
    """
    Return *whole* as bytes, which was put together of *parts*, each with the name its writer knows it by.

    Raises:
        EncodeError: A part cannot be restored exactly; the error names it, and its path begins there.
    """
    try:
        return codec.encode(whole)
    except EncodeError:
        for name, part in parts:
            try:
                codec.encode(part)
            except EncodeError as error:
                raise EncodeError(f"{name}: {error.args[0]}", fix=error.fix, **error.facts) from None
        raise


def _children(value: Any) -> Iterable[tuple[str, Any]]:
    kind = type(value)
    if kind in _LEAVES:
        return ()
    if kind is str:
        _check_text(value)
        return ()
    if kind is list:
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if kind is dict:
        keys = [(f" key {_shown(key)}", key) for key in value]
        return keys + [(f"[{_shown(key)}]", part) for key, part in value.items()]
    form = form_of(kind)
    part = form.take(value)
    if isinstance(part, str):
        _check_text(part)
        return ()
    return form.children(part)


def _shown(key: Any) -> str:
    try:
        return f"{key!r:.40}"
    except Exception:  # a user's __repr__, or an int with more digits than the interpreter prints
        return f"<{type(key).__name__}>"


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"a str with a lone surrogate ({text[error.start]!a} at {error.start}) has no UTF-8 form",
            fix="use bytes, or `text.encode(errors='surrogateescape')`",
        ) from None


def _fault(place: _Place, reason: EncodeError) -> EncodeError:
    kind = type(place.value)
    return EncodeError(
        f"Cannot encode {place.path}: {reason.args[0]}",
        fix=reason.fix,
        path=place.path,
        type=f"{kind.__module__}.{kind.__qualname__}",
    )
