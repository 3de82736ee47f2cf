"""
How much of what a process says fits into a record, and what becomes of what does not.

A value that is too large is an error at its checkpoint. An error that is too large is cut until it fits: a failure must
be recorded, or its action would run again after every restart.
"""

from __future__ import annotations

from typing import Any

from durable._kernel.commands import End, Restart
from durable.codec import Codec, describe_error
from durable.errors import DurableError, PayloadTooLarge
from durable.journal import Kind

_TEXTS = ("type", "message", "arguments", "traceback")  # what a failure is told by; the rest restores it
_LENGTHS = (4000, 1000, 250, 60, 15)  # characters of each text, until it fits


class Payloads:
    """
    Encodes what goes into journals.

    Args:
        limit: Longest payload in bytes.
    """

    def __init__(self, codec: Codec, limit: int) -> None:
        self._codec = codec
        self._limit = limit

    def encode(self, value: Any, process_id: str, checkpoint: str) -> bytes:
        """A payload, or the error that says which checkpoint of which process could not be recorded."""
        try:
            payload = self._codec.encode(value)
        except DurableError as error:
            error.facts = {"process": repr(process_id), "checkpoint": repr(checkpoint), **error.facts}
            raise
        if len(payload) > self._limit:  # asked here too: this is the way of every step, and seldom has to say so
            self.check(payload, f"Checkpoint {checkpoint!r} of process {process_id!r}")
        return payload

    def check(self, payload: bytes, what: str) -> None:
        """Raise `PayloadTooLarge` if *payload* is longer than the limit; *what* names it in the error."""
        if len(payload) > self._limit:
            raise PayloadTooLarge(
                f"{what}: {len(payload)} bytes are more than the limit of {self._limit}",
                fix="keep large data in a file or object store and record its name, or raise `payload_limit`",
            )

    def encode_error(self, error: BaseException, *before: Any) -> bytes:
        """A failure, behind the values *before* it if there are any; cut until it fits."""
        return self._encode_failure(describe_error(self._codec, error), before)

    def within_limit(self, end: End | Restart, process_id: str) -> End | Restart:
        """*end* itself, or the failure to record what is too large, or its error cut until it fits."""
        if len(end.payload) <= self._limit or (isinstance(end, End) and end.kind not in (Kind.COMPLETED, Kind.ERRED)):
            return end
        if isinstance(end, End) and end.kind is Kind.ERRED:
            failure, _ = self._codec.decode(end.payload)
        else:
            failure = describe_error(self._codec, self._refusal(end, process_id))
        return End(Kind.ERRED, self._encode_failure(failure, (), list(end.notes)), end.notes)

    def _refusal(self, end: End | Restart, process_id: str) -> Exception:
        what = "The result" if isinstance(end, End) else "The arguments for the next life"
        try:
            self.check(end.payload, f"{what} of process {process_id!r}")
        except PayloadTooLarge as error:
            return error
        raise AssertionError("it fits")

    def _encode_failure(self, failure: dict[str, Any], before: tuple[Any, ...], *after: Any) -> bytes:
        def encode(facts: dict[str, Any]) -> bytes:
            return self._codec.encode((*before, facts, *after) if before or after else facts)

        payload = whole = encode(failure)
        for length in _LENGTHS:
            if len(payload) <= self._limit:
                break
            facts = {name: _shortened(failure[name], length) for name in _TEXTS}
            payload = encode({**facts, "reason": f"its {len(whole)} bytes are more than the limit of this host"})
        return payload


def _shortened(text: str, length: int) -> str:
    """The beginning and the end, where a traceback and a message say most."""
    return text if len(text) <= length else f"{text[: length // 3]} … {text[-(length - length // 3) :]}"
