"""
One process as text: what `durable.transfer` writes into a file, and beside each payload what it says.

The payload stays as it is, in base64, and is the truth. ``value`` is for people: the payload in readable form, left out
where the codec keeps it from being read. A process cut out of an archive is a file that can be imported.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from durable.codec import Codec, CompressedCodec, JsonCodec, MessagePackCodec, Reader, reader_for
from durable.transfer import entries, text
from durable.transfer.snapshot import Snapshot

_LEVELS = 100
_OPEN_CODECS = frozenset({MessagePackCodec, JsonCodec, CompressedCodec})


def dump(snapshot: Snapshot, read: Reader | None) -> bytes:
    """*snapshot* as lines of JSON with a seal; *read* makes payloads readable, None leaves them alone."""
    return text.dump(snapshot) if read is None else text.dump(snapshot, partial(_readable_line, read))


def reader_of(codec: Codec) -> Reader | None:
    """
    What makes payloads of *codec* readable, or None if that could tell a secret.

    Only codecs that are known to hide nothing are read: what was encrypted in the store stays so in the archive, and
    of a codec we know nothing of it is not known what it is for.
    """
    layer: Any = codec
    while layer is not None:
        if type(layer) not in _OPEN_CODECS:  # a subclass may do anything
            return None
        layer = getattr(layer, "inner", None)
    return reader_for(codec)


def _readable_line(read: Reader, entry: dict[str, Any]) -> bytes:
    payload = entry.get("payload")
    if not payload:
        return text.line(entry)
    value = read(entries.to_bytes(payload))
    if _is_deep(value) or (isinstance(value, dict) and "$unreadable" in value):
        return text.line(entry)
    try:
        return text.line({**entry, "value": value})
    except UnicodeEncodeError:  # a lone surrogate, which some other codec has let through
        return text.line(entry)


def _is_deep(value: Any) -> bool:
    """Whether *value* has more levels than every reader of JSON can be trusted with."""
    level = [value]
    for _ in range(_LEVELS):
        lists = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not lists:
            return False
        level = [part for parts in lists for part in parts]
    return True
