"""
Names of classes in journals: ``module:qualified.name``, and how a class is found by one without importing anything.

A name is looked up among registered classes, then in the modules that are loaded, step by step through the real
attributes of modules and classes: nothing is called, no ``__getattr__`` runs, so a name in a journal can do nothing
but name. Whether a found class may be restored at all is decided by its form.

The module that was started as ``__main__`` is named as others would import it: by its ``__spec__`` (``python -m
pkg.mod``), else by its file (``python script.py`` is ``script``). While both are loaded, ``__main__`` comes first; a
class of the other copy is then another class, and encoding it is an error instead of a mix-up.
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from types import ModuleType
from typing import Any

from durable.errors import EncodeError, UnknownClass

_MAIN = ("__main__", "__mp_main__")  # the second is what multiprocessing calls the module in a spawned process

_registered: dict[
    str, type
] = {}  # by full name with dots only, since a user's old name does not say where a module ends
_main_name: tuple[Any, str] = (None, "__main__")


def main_name() -> str:
    """The name under which others would import the module that runs as ``__main__``."""
    global _main_name
    main = sys.modules.get("__main__")
    if main is not _main_name[0]:
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        name = spec.name if spec is not None else PurePath(file).stem if file else "__main__"
        _main_name = (main, name)
    return _main_name[1]


def name_of(kind: type) -> str:
    """The name of class *kind* in journals."""
    module = kind.__module__
    if module in _MAIN:
        module = main_name()
    return f"{module}:{kind.__qualname__}"


def check_name(kind: type, name: str) -> None:
    """
    Make sure that *name*, by which class *kind* is journaled, leads back to it.

    Raises:
        EncodeError: It would be found as another class, or not at all.
    """
    try:
        found = find_class(name)
    except UnknownClass:
        raise EncodeError(
            f"class {name} is not found by its name{' (a class inside a function never is)' * ('<locals>' in name)}",
            fix="define it at the top of a module, or `register` it before it is encoded or decoded",
        ) from None
    if found is not kind:
        raise EncodeError(
            f"its class is one of two that are loaded as {name}",
            fix="load the module once (do not import the one that runs as __main__), or `register` the class to use",
        )


def find_class(name: str) -> type:
    """
    Return the class that journals call *name*, without importing or calling anything.

    Raises:
        UnknownClass: No registered or loaded class has this name.
    """
    if _registered:
        found = _registered.get(name.replace(":", "."))
        if found is not None:
            return found
    module, _, path = name.partition(":")
    if module == main_name():
        found = _walk("__main__", path)
        if found is not None:
            return found
    found = _walk(module, path)
    if found is not None:
        return found
    raise UnknownClass(
        f"Class {name!r} is not loaded",
        fix="import its module before the host starts, or `register` the class that took its place under this old name",
        name=name,
    )


def remember(kind: type, name: str) -> None:
    """Find *kind* by *name* from now on, before any loaded class of that name."""
    _registered[name.replace(":", ".")] = kind


def is_registered(kind: type) -> bool:
    """Whether *kind* itself was registered, under its own name."""
    return _registered.get(name_of(kind).replace(":", ".")) is kind


def _walk(module_name: str, path: str) -> type | None:
    module = sys.modules.get(module_name)
    if not issubclass(type(module), ModuleType):  # anything may sit in sys.modules; isinstance would ask __class__
        return None
    members = object.__getattribute__(module, "__dict__")  # a lazy module would import itself on plain access
    whole = members.get(path)  # pydantic puts `Box[pkg.Item]` into its module under that very name
    if whole is not None:
        return whole if isinstance(whole, type) else None
    found: Any = None
    for step in path.split("."):
        found = members.get(step)
        if not issubclass(type(found), type):
            return None
        members = type.__dict__["__dict__"].__get__(found)
    return found  # type: ignore[no-any-return]
