"""
Codecs around codecs: `EncryptedCodec` and `CompressedCodec`.

To have both, compress inside and encrypt outside, since what is encrypted does not compress:
``EncryptedCodec(CompressedCodec(MessagePackCodec()), key)``.
"""

from __future__ import annotations

import zlib
from typing import Any

from durable.codec.protocol import Codec
from durable.errors import DecodeError, needing_extra

_AS_IS, _ZLIB = b"\0", b"\1"  # the first byte of what CompressedCodec writes


class EncryptedCodec:
    """
    Encrypts what another codec writes, with Fernet of the package `cryptography` (AES-128-CBC and HMAC-SHA256).

    Fernet and not AES-GCM, because a journal is many small messages under one long-lived key: a random 96-bit nonce
    should not be used for more than four billion of them, and a repeated one breaks AES-GCM.

    Args:
        inner: The codec that makes the bytes to encrypt.
        keys: One or more keys made by ``cryptography.fernet.Fernet.generate_key()``. The first encrypts, all decrypt:
            to rotate, put the new key first and keep the old ones for as long as journals written with them exist.

    Durability: Only values, errors and progress are encrypted. What a store looks at stands there as plain text: names
        and ids (of processes, definitions, queues, checkpoints, events, and keys that de-duplicate events), times, and
        why a process was cancelled or terminated or is stalled, which may quote an error. Put no secret into these.
    Raises:
        MissingExtra: The extra ``encryption`` is not installed.
        ValueError: No key, or not a Fernet key.
    Source: https://github.com/fernet/spec  .. versionadded:: 0.1
    """

    def __init__(self, inner: Codec, *keys: str | bytes) -> None:
        with needing_extra("encryption", "EncryptedCodec"):
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet  # here, because it is an extra
        if not keys:
            raise ValueError("EncryptedCodec needs at least one key\n  fix: make one with Fernet.generate_key()")
        self.inner = inner
        self._count = len(keys)
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._invalid = InvalidToken

    def encode(self, value: Any) -> bytes:
        """Return *value* as encrypted bytes; see `Codec.encode`."""
        return self._fernet.encrypt(self.inner.encode(value))

    def decode(self, data: bytes) -> Any:
        """Return the value in *data*; see `Codec.decode`."""
        try:
            plain = self._fernet.decrypt(bytes(data))
        except self._invalid:
            raise self._unreadable(bytes(data)) from None
        return self.inner.decode(plain)

    def _unreadable(self, data: bytes) -> DecodeError:
        if not data.startswith(b"gAAAA"):  # version 0x80 and the upper half of a 64-bit time, in base64
            return DecodeError(
                "These bytes were not written by EncryptedCodec",
                fix="read this journal with the codec it was written with",
            )
        return DecodeError(
            f"These bytes cannot be decrypted: wrong key (none of the {self._count} given fits), or damage",
            fix="give the key they were written with as a further key of EncryptedCodec",
        )


class CompressedCodec:
    """
    Compresses what another codec writes (zlib), where that makes it smaller.

    Args:
        inner: The codec that makes the bytes to compress.
        threshold: Length in bytes below which they are left as they are, 0 or more.
    """

    def __init__(self, inner: Codec, threshold: int = 1024) -> None:
        self.inner = inner
        self._threshold = threshold

    def encode(self, value: Any) -> bytes:
        """Return *value* as bytes, compressed if that pays; see `Codec.encode`."""
        data = self.inner.encode(value)
        if len(data) >= self._threshold:
            small = zlib.compress(data)
            if len(small) < len(data):
                return _ZLIB + small
        return _AS_IS + data

    def decode(self, data: bytes) -> Any:
        """Return the value in *data*; see `Codec.decode`."""
        mark, rest = bytes(data[:1]), data[1:]
        if mark == _AS_IS:
            return self.inner.decode(rest)
        if mark != _ZLIB:
            raise DecodeError(
                "These bytes were not written by CompressedCodec",
                fix="read this journal with the codec it was written with",
            )
        try:
            plain = zlib.decompress(rest)
        except Exception as error:
            raise DecodeError(f"Compressed bytes are damaged ({error})") from error
        return self.inner.decode(plain)
