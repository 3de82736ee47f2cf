"""
What is named as ``module:attribute`` on the command line: definitions, and codecs that need a key.

Importing a module of an application also loads its classes, so that values of theirs can be decoded. Modules are found
from the working directory, as by ``python -m``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from durable.codec import Codec, JsonCodec, MessagePackCodec
from durable.errors import InvalidDefinition
from durable.invocation import AnyDefinition

_FORM = "write module:attribute, as in shop.orders:definitions"


def load(name: str) -> Any:
    """
    The object that *name* says: ``module:attribute``, or a module.

    Raises:
        InvalidDefinition: It cannot be imported, or is not there.
    """
    module_name, _, path = name.partition(":")
    if not module_name:
        raise InvalidDefinition(f"{name!r} names no module", fix=_FORM)
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        raise InvalidDefinition(
            f"Module {module_name!r} cannot be imported: {type(error).__name__}: {error}", fix=_FORM
        ) from error
    for attribute in filter(None, path.split(".")):
        if not hasattr(found, attribute):
            raise InvalidDefinition(f"{name!r} is not there: no attribute {attribute!r}", fix=_FORM)
        found = getattr(found, attribute)
    return found


def definitions(name: str) -> dict[str, AnyDefinition]:
    """
    The definitions that *name* says, by their names: one, a collection of them, or all of a module.

    Raises:
        InvalidDefinition: There are none, or something else is among them, or two have one name.
    """
    found = load(name)
    if isinstance(found, AnyDefinition):
        listed: Iterable[Any] = [found]
    elif isinstance(found, Mapping):
        listed = found.values()
    elif isinstance(found, Iterable) and not isinstance(found, str | bytes):
        listed = found
    else:  # a definition that was imported twice, under two names, is one
        listed = dict.fromkeys(value for value in vars(found).values() if isinstance(value, AnyDefinition))
    known: dict[str, AnyDefinition] = {}
    for definition in listed:
        if not isinstance(definition, AnyDefinition):
            raise InvalidDefinition(f"{name!r} has something that is not a process function: {definition!r:.80}")
        if known.setdefault(definition.name, definition) is not definition:
            raise InvalidDefinition(f"{name!r} has two definitions with the name {definition.name!r}")
    if not known:
        raise InvalidDefinition(f"{name!r} has no process functions", fix=_FORM)
    return known


def codec(name: str) -> Codec:
    """
    The codec that *name* says: "msgpack", "json", or ``module:attribute`` of one.

    Raises:
        InvalidDefinition: There is no such codec.
    """
    match name:
        case "msgpack":
            return MessagePackCodec()
        case "json":
            return JsonCodec()
    found = load(name) if ":" in name else None
    if not isinstance(found, Codec) or isinstance(found, type):
        raise InvalidDefinition(
            f"{name!r} is not a codec", fix="write msgpack, json, or module:attribute of a codec object"
        )
    return found
