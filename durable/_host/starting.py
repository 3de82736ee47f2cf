"""
From an invocation to the creation of a process: its key, its first record, and whether one that exists is the same.
"""

from __future__ import annotations

from typing import Any

from durable import times
from durable._host.clock import Clock
from durable._host.payloads import Payloads
from durable._kernel.started import Started, decode_started, encode_started
from durable.codec import Codec, reader_for
from durable.errors import DurableError
from durable.invocation import AnyDefinition, Invocation
from durable.journal import Kind, Record
from durable.storage import Creation

_SALT_BITS = 12


class Starting:
    """
    Makes creations.

    Args:
        payloads: Says how large they may be.
        salt: Tells apart those who create at the same microsecond; its lowest 12 bits count.
    """

    def __init__(self, codec: Codec, clock: Clock, payloads: Payloads, salt: int) -> None:
        self._codec = codec
        self._read = reader_for(codec)
        self._clock = clock
        self._payloads = payloads
        self._last_key = 0
        self.salt = salt

    def encode(self, invocation: Invocation[Any], id: str) -> bytes:
        """
        The payload of the first record.

        Raises:
            EncodeError, PayloadTooLarge: The arguments cannot be recorded.
        """
        try:
            payload = encode_started(self._codec, invocation.args, invocation.kwargs, invocation.timeout)
        except DurableError as error:
            place = f"arguments of {invocation.definition.name!r}"
            error.facts = {"process": repr(id), "checkpoint": place, **error.facts}
            raise
        self._payloads.check(payload, f"The arguments of process {id!r}")
        return payload

    def creation(self, invocation: Invocation[Any], id: str, payload: bytes, *, owned: bool) -> Creation:
        """A new process: owned by the session that creates it, or pending."""
        definition = invocation.definition
        now = self._clock.now()
        record = Record(1, Kind.STARTED, definition.name, payload, now)
        return Creation(self.new_key(), id, definition.name, definition.queue, owned, None if owned else now, record)

    def is_same(self, recorded: Record, definition: AnyDefinition, asked: bytes) -> bool:
        """
        Whether a process is what a call asks for: the same definition with equal arguments, however they are written.

        Of one that has restarted itself only the definition of its first life is compared: arguments have moved on.
        """
        if recorded.name == definition.name and recorded.payload == asked:
            return True
        # Decoded both, because what is equal need not be encoded alike (sets, encryption).
        first, other = decode_started(self._codec, recorded.payload), decode_started(self._codec, asked)
        if first.lineage.origin is not None:
            return first.lineage.origin == definition.name
        return recorded.name == definition.name and self._is_same_call(definition, first, other)

    def _is_same_call(self, definition: AnyDefinition, first: Started, other: Started) -> bool:
        try:
            recorded = definition.arguments(first.args, first.kwargs)
        except TypeError:  # of older code, with other parameters
            return False
        asked = definition.arguments(other.args, other.kwargs)
        return recorded.keys() == asked.keys() and all(self._are_equal(recorded[name], asked[name]) for name in asked)

    def _are_equal(self, one: Any, other: Any) -> bool:
        try:
            if one == other:
                return True
            # What has no `==` of its own is equal if it is written alike; not to the byte, which no cipher would do.
            return bool(self._read(self._codec.encode(one)) == self._read(self._codec.encode(other)))
        except Exception:  # out of a `==`, or an `encode`, of theirs
            return False

    def new_key(self) -> int:
        """A key nobody else makes."""
        # Time first, so that keys grow in the order of creation; below it what tells creators at the same time apart.
        salted = (times.now() << _SALT_BITS) | self.salt % (1 << _SALT_BITS)
        self._last_key = max(self._last_key + (1 << _SALT_BITS), salted)
        return self._last_key
