"""
Forms of classes made with packages that this library does not depend on: pydantic and protobuf.

None of them is ever imported here: a value of such a class can only exist when its package is already loaded, so the
package is looked up among the loaded modules. (attrs classes need nothing but their attributes: see `objects`.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from durable.codec.form import Form, Tag, attributes
from durable.codec.objects import missing_field


class PydanticForm(Form):
    """A pydantic model as its own ``__getstate__`` gives it: fields, extras, which were set, private attributes."""

    def __init__(self, kind: Any, name: str) -> None:
        super().__init__(Tag.PYDANTIC, name)
        self._kind = kind
        self._names = frozenset(kind.model_fields)

    def take(self, value: Any) -> list[Any]:
        return [value.__getstate__()]

    def make(self, part: Any) -> Any:
        (state,) = part
        value = object.__new__(self._kind)
        fields = state["__dict__"]
        if not self._names <= fields.keys():
            self._fill(fields)
        value.__setstate__(state)
        return value

    def _fill(self, fields: dict[str, Any]) -> None:
        for name, field in self._kind.model_fields.items():
            if name not in fields:
                if field.is_required():
                    raise missing_field(self.name, name)
                takes_fields = getattr(field, "default_factory_takes_validated_data", False)  # from pydantic 2.10
                given = {"validated_data": fields} if takes_fields else {}
                fields[name] = field.get_default(call_default_factory=True, **given)

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        for group in parts[0].values():
            if type(group) is dict:
                yield from attributes(group)


class PydanticZoneForm(Form):
    """The fixed-offset zone that pydantic gives to datetimes it has parsed."""

    def __init__(self, kind: Any, name: str) -> None:
        super().__init__(Tag.PYDANTIC_ZONE, name)
        self._kind = kind

    def take(self, value: Any) -> list[Any]:
        return list(value.__reduce__()[1])

    def make(self, part: Any) -> Any:
        (seconds,) = part
        return self._kind(seconds)


class ProtobufForm(Form):
    """A protobuf message, in its own wire format."""

    def __init__(self, kind: Any, name: str) -> None:
        super().__init__(Tag.PROTOBUF, name)
        self._kind = kind

    def take(self, value: Any) -> list[Any]:
        return [value.SerializePartialToString(deterministic=True)]

    def make(self, part: Any) -> Any:
        (data,) = part
        return self._kind.FromString(data)


def foreign_form(kind: type, name: str) -> Form | None:
    """The form of *kind* if it comes from a foreign package this module knows, else None."""
    if _is_a(kind, "pydantic.main", "BaseModel"):
        return PydanticForm(kind, name)
    if _is_a(kind, "pydantic_core._pydantic_core", "TzInfo"):
        return PydanticZoneForm(kind, name)
    if _is_a(kind, "google.protobuf.message", "Message"):
        return ProtobufForm(kind, name)
    return None


def _is_a(kind: type, module: str, name: str) -> bool:
    base = getattr(sys.modules.get(module), name, None)
    return isinstance(base, type) and issubclass(kind, base)
