"""
What a codec is: two pure methods between a value and bytes.

The library asks nothing more of a codec, so any object with these two methods will do, and codecs can be wrapped in
each other. A wrapper keeps what it wraps in ``inner``, so that errors are sealed once and not once per layer.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Codec(Protocol):
    """
    Turns values into bytes and back, exactly: same type, equal value.

    Both methods are pure and may be called from any thread. `decode` depends on nothing but its bytes and the classes
    that are loaded or registered, so what a process sees live is what it sees on replay. Shared references are not
    kept: an object that occurs twice comes back as two equal objects.
    """

    def encode(self, value: Any) -> bytes:
        """
        Return *value* as bytes.

        Raises:
            EncodeError: A part of *value* cannot be restored exactly; ``path`` names it (``value['items'][3].price``).
        """

    def decode(self, data: bytes) -> Any:
        """
        Return the value that was encoded as *data*, a new object each time.

        Raises:
            UnknownClass: *data* names a class that is not loaded.
            DecodeError: *data* was not written by this codec, or is damaged.
        """
