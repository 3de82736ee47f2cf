"""How classes are named and found: moved, changed, local and registered ones, and those of ``__main__``."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import attrs
import pytest
from pydantic import BaseModel, Field

from durable.codec import Codec, JsonCodec, MessagePackCodec, decode_error, encode_error, names, register
from durable.errors import DecodeError, EncodeError, StepError, UnknownClass

CODECS: list[Codec] = [MessagePackCodec(), JsonCodec()]
codecs = pytest.mark.parametrize("codec", CODECS, ids=["messagepack", "json"])


@pytest.fixture(autouse=True)
def registrations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(names, "_registered", dict(names._registered))
    yield
    monkeypatch.undo()
    register(Account)  # which also forgets the forms of classes met so far


class Code(ModuleType):
    """A module of user code that can be deployed anew."""

    def deploy(self, **classes: type) -> None:
        """Replace what the module holds by *classes*, as a new start of the interpreter would."""
        for name in [name for name in vars(self) if not name.startswith("__")]:
            delattr(self, name)
        for name, kind in classes.items():
            kind.__module__, kind.__qualname__ = self.__name__, name
            setattr(self, name, kind)


@pytest.fixture
def code() -> Iterator[Code]:
    """An empty module named ``shop``, loaded while the test runs."""
    module = Code("shop")
    sys.modules["shop"] = module
    yield module
    del sys.modules["shop"]


@codecs
def test_a_class_that_is_gone(codec: Codec, code: Code) -> None:
    """A value of a class that is not loaded raises `UnknownClass` with its name; once it is loaded, it is read."""
    kind = make_dataclass("Gone", ["x"])
    code.deploy(Gone=kind)
    data = codec.encode(kind(1))
    code.deploy()
    with pytest.raises(UnknownClass) as caught:
        codec.decode(data)
    assert caught.value.name == "shop:Gone"
    code.deploy(Gone=kind)
    assert codec.decode(data) == kind(1)


@codecs
@pytest.mark.parametrize("old", ["shop.Before", "shop:Before"])
def test_a_class_that_has_moved(codec: Codec, code: Code, old: str) -> None:
    """``register(cls, old=…)`` restores what was journaled under the old name as the new class."""
    before, after = make_dataclass("Before", ["x"]), make_dataclass("After", ["x"])
    code.deploy(Before=before)
    data = codec.encode([before(1)])
    code.deploy(After=after)
    assert register(after, old=old) is after
    assert codec.decode(data) == [after(1)]
    assert b"After" in codec.encode(after(1))


@codecs
def test_fields_may_come_and_go(codec: Codec, code: Code) -> None:
    """A field with a default may be added, a field may go, and their order may change while a value is journaled."""

    class First(NamedTuple):
        a: int
        b: int

    class FirstModel(BaseModel):
        a: int

    class Second(NamedTuple):
        c: int = 3
        b: int = 0

    class SecondModel(BaseModel):
        a: int
        c: list[int] = []
        d: int = Field(default_factory=lambda fields: fields["a"] + 1)

    @attrs.define
    class FirstParcel:
        a: int

    @attrs.define
    class SecondParcel:
        b: int = attrs.field(default=attrs.Factory(lambda self: self.a + 1, takes_self=True))
        a: int = 0

    code.deploy(
        Row=make_dataclass("Row", ["a", "b"]),
        Slots=make_dataclass("Slots", ["a", "b"], slots=True),
        Tuple=First,
        Model=FirstModel,
        Parcel=FirstParcel,
    )
    old: Any = code
    data = codec.encode([old.Row(1, 2), old.Slots(1, 2), old.Tuple(1, 2), old.Model(a=1), old.Parcel(1)])
    code.deploy(
        Row=make_dataclass("Row", ["b", ("c", list, field(default_factory=list)), ("d", int, 5)]),
        Slots=make_dataclass("Slots", [("c", int, 3), ("b", int, 4)], slots=True),
        Tuple=Second,
        Model=SecondModel,
        Parcel=SecondParcel,
    )
    new: Any = code
    assert codec.decode(data) == [new.Row(2, [], 5), new.Slots(3, 2), new.Tuple(3, 2), new.Model(a=1), new.Parcel(2, 1)]


@codecs
def test_a_new_field_needs_a_default(codec: Codec, code: Code) -> None:
    """A field that the journal lacks and that has no default is an error that names it, not a broken object."""

    class Model(BaseModel):
        a: int

    class LaterModel(BaseModel):
        a: int
        b: int

    class LaterTuple(NamedTuple):
        a: int
        b: int

    kinds: dict[str, Any] = {
        "Row": make_dataclass("Row", ["a"]),
        "Model": Model,
        "Tuple": NamedTuple("Tuple", [("a", int)]),
    }
    code.deploy(**kinds)
    journal = {name: codec.encode(kind(a=1)) for name, kind in kinds.items()}
    code.deploy(Row=make_dataclass("Row", ["a", "b"]), Model=LaterModel, Tuple=LaterTuple)
    for data in journal.values():
        with pytest.raises(DecodeError) as caught:
            codec.decode(data)
        assert caught.value.field == "b"


@codecs
def test_a_class_that_became_another_kind(codec: Codec, code: Code) -> None:
    """A dataclass may become an attrs class; what became an enum is an error that says so."""
    code.deploy(Thing=make_dataclass("Thing", ["a"]))
    old: Any = code
    data = codec.encode(old.Thing(1))
    code.deploy(Thing=attrs.make_class("Thing", ["a"]))
    assert codec.decode(data) == old.Thing(1)
    code.deploy(Thing=enum.Enum("Thing", ["a"]))  # type: ignore[arg-type]
    with pytest.raises(DecodeError, match="another kind"):
        codec.decode(data)


@codecs
def test_a_local_class(codec: Codec) -> None:
    """A class inside a function is refused until it is registered; the one registered last has the name."""

    def define() -> Any:
        @dataclass
        class Local:
            x: int

        return Local

    first, second = define(), define()
    with pytest.raises(EncodeError, match="inside a function"):
        codec.encode(first(1))
    register(first)
    assert codec.decode(codec.encode(first(1))) == first(1)
    register(second)
    assert codec.decode(codec.encode(second(1))) == second(1)
    with pytest.raises(EncodeError, match="one of two"):
        codec.encode(first(1))


@register
class Account:
    """A plain class that its author vouches for."""

    def __init__(self) -> None:
        self.balance = 5
        self.opened = type(self).openings = type(self).openings + 1

    openings = 0


@register(old="bank.Ledger")
class Ledger(dict[str, int]):
    """A dict with an attribute, whose methods are not to be trusted with its content."""

    owner = "nobody"

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def __setitem__(self, key: str, value: int) -> None:
        raise AssertionError


@register
class Tags(frozenset[str]):
    pass


@register
class Path2(list[int]):
    __slots__ = ("name",)
    name: str


@register
class Name(str):
    pass


@codecs
def test_registered_classes(codec: Codec) -> None:
    """Registered plain classes and subclasses of built-in types come back whole, without running their code."""
    account = Account()
    again = codec.decode(codec.encode(account))
    assert type(again) is Account
    assert vars(again) == vars(account)
    assert Account.openings == account.opened
    ledger = Ledger(a=1)
    ledger.owner = "ann"
    restored = codec.decode(codec.encode(ledger))
    assert type(restored) is Ledger
    assert (dict.__getitem__(restored, "a"), restored.owner) == (1, "ann")
    path = Path2([1, 2])
    path.name = "p"
    again = codec.decode(codec.encode([path, Tags("ab"), Name("n")]))
    assert [type(part) for part in again] == [Path2, Tags, Name]
    assert again == [path, Tags("ab"), Name("n")]
    assert again[0].name == "p"
    with pytest.raises(EncodeError, match="Counter"):
        codec.encode(Counter("aab"))
    register(Counter)
    assert codec.decode(codec.encode(Counter("aab"))) == Counter("aab")


def test_register_takes_classes() -> None:
    """Registering anything but a class is an error at that line."""
    with pytest.raises(TypeError, match="register takes a class"):
        register(5)  # type: ignore[call-overload]


# --- __main__ ----------------------------------------------------------------------------------------------

MODULE = """
import sys
from dataclasses import dataclass
from durable.codec import MessagePackCodec, encode_error, decode_error

@dataclass
class Order:
    id: int

class Refused(Exception):
    pass

def work():
    codec = MessagePackCodec()
    if sys.argv[1] == "write":
        print(codec.encode(Order(7)).hex(), encode_error(codec, Refused("no")).hex())
    else:
        value, error = codec.decode(bytes.fromhex(sys.argv[2])), decode_error(codec, bytes.fromhex(sys.argv[3]))
        print(value == Order(7), type(value) is Order, type(error) is Refused)

if __name__ == "__main__":
    work()
"""

WAYS = {
    "module": ["-m", "shop.orders"],
    "import": ["-c", "import shop.orders; shop.orders.work()"],
    "script": ["script.py"],
    "script imported": ["-c", "import script; script.work()"],
    "package": ["-m", "store"],
}
PAIRS = [("module", "import"), ("import", "module"), ("module", "module"), ("script", "script"),
         ("script", "script imported"), ("script imported", "script"), ("package", "package")]  # fmt: skip


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_main_is_named_as_others_import_it(writer: str, reader: str, tmp_path: Path) -> None:
    """A class of the module that is run is the class of the module that is imported, in both directions."""
    for name in ("shop/__init__.py", "store/__init__.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for name in ("shop/orders.py", "script.py", "store/__main__.py"):
        (tmp_path / name).write_text(MODULE)

    def run(way: str, *arguments: str) -> list[str]:
        command = [sys.executable, *WAYS[way], *arguments]
        path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=path)
        return done.stdout.split()

    assert run(reader, "read", *run(writer, "write")) == ["True", "True", "True"]


def test_main_loaded_twice(tmp_path: Path) -> None:
    """With the running module imported a second time, the class of ``__main__`` is restored and the other refused."""
    (tmp_path / "twice.py").write_text(
        "from dataclasses import dataclass\n"
        "from durable.codec import MessagePackCodec\n"
        "from durable.errors import EncodeError\n"
        "@dataclass\nclass Order:\n    id: int\n"
        "if __name__ == '__main__':\n"
        "    import twice\n"
        "    codec = MessagePackCodec()\n"
        "    print(type(codec.decode(codec.encode(Order(1)))) is Order)\n"
        "    try:\n        codec.encode(twice.Order(1))\n"
        "    except EncodeError as error:\n        print('one of two' in str(error))\n"
    )
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "twice.py")], capture_output=True, text=True, check=True, env=path
    )
    assert done.stdout.split() == ["True", "True"]


def test_a_failure_whose_class_is_gone(code: Code) -> None:
    """A failure whose class is not loaded is a `StepError` with its facts, and itself again once the class is back."""
    kind = type("Declined", (ValueError,), {})
    code.deploy(Declined=kind)
    codec = MessagePackCodec()
    data = encode_error(codec, kind("no", 3))
    code.deploy()
    error = decode_error(codec, data)
    assert type(error) is StepError
    assert (error.type_name, error.arguments) == ("shop.Declined", "('no', 3)")
    assert "not loaded" in error.reason
    code.deploy(Declined=kind)
    assert type(decode_error(codec, data)) is kind
