"""
Values and errors to bytes and back, exactly: what a process sees live is what it sees on replay.

``form`` says how types are written (and numbers them), ``messagepack`` and ``readable`` are the two formats,
``failures`` carries exceptions, ``structure`` reads values without their classes. Nothing here imports a module because
a journal names it, and nothing unpickles.
"""

from durable.codec.failures import decode_error, describe_error, encode_error, restore_error
from durable.codec.faults import encode_of
from durable.codec.forms import register
from durable.codec.messagepack import MessagePackCodec
from durable.codec.protocol import Codec
from durable.codec.readable import JsonCodec
from durable.codec.structure import Reader, items_of, reader_for
from durable.codec.wrappers import CompressedCodec, EncryptedCodec

__all__ = [
    "Codec",
    "CompressedCodec",
    "EncryptedCodec",
    "JsonCodec",
    "MessagePackCodec",
    "Reader",
    "decode_error",
    "describe_error",
    "encode_error",
    "encode_of",
    "items_of",
    "reader_for",
    "register",
    "restore_error",
]
