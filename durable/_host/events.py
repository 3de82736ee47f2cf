"""What an event carries to a process: checked against its type and encoded, with errors that name the event."""

from __future__ import annotations

from typing import Any

from durable.codec import Codec, encode_of
from durable.event import Event


def check_payload(event: Event[Any], payload: Any) -> None:
    """
    Refuse a payload that is not of the event's type, as far as that is a class.

    Raises:
        TypeError: It is of another one.
    """
    expected = event.type
    if isinstance(expected, type) and not isinstance(payload, expected):
        if expected is float and isinstance(payload, int):
            return
        raise TypeError(
            f"Event {event.name!r} carries {expected.__qualname__}, and the payload is {type(payload).__qualname__}"
        )


def encode_event(codec: Codec, name: str, payload: Any, key: str | None) -> bytes:
    """
    Return the payload of an event and its de-duplication key as they are recorded.

    Raises:
        EncodeError: The payload cannot be restored exactly; its path is that of what the caller gave.
    """
    return encode_of(codec, [(f"The payload of event {name!r}", payload)], (payload, key))
