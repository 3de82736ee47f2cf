"""What makes a waiting process undroppable, and that looking for it calls no code of the user."""

from __future__ import annotations

import asyncio
import gc
import io
import tempfile
import weakref
from abc import ABCMeta
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from durable._host.freeing import letting_go, reachability
from durable._kernel.checkpoints import Ask
from durable._kernel.commands import RunAction
from tests.host.shapes import forever
from tests.host.waiting import Local, Waiting, Witness

Body = Callable[[], Coroutine[Any, Any, None]]


class Noticing:
    """An object whose finalizer would be noticed."""

    def __init__(self, ran: list[str]) -> None:
        self._ran = ran

    def __del__(self) -> None:
        self._ran.append("del")


class Node:
    """Refers to whatever it is given."""

    def __init__(self, **others: object) -> None:
        self.__dict__.update(others)


def numbers(witness: Witness) -> Generator[int, None, None]:
    with witness:
        yield 1


async def items(witness: Witness) -> AsyncGenerator[int, None]:
    with witness:
        yield 1


def test_finalizer_of_a_local_is_an_obstacle_that_says_where() -> None:
    """The sentence names the class, the variable, the function, the file and the line where it waits."""
    ran: list[str] = []

    async def order() -> None:
        service = Noticing(ran)
        await forever()
        del service

    waiting = Waiting(order)
    line = order.__code__.co_firstlineno + 2
    assert waiting.obstacle() == (
        "An object of tests.host.test_reachability.Noticing has a `__del__` that would run; "
        f"it is held by variable 'service' of {order.__qualname__} ({__file__}:{line})"
    )
    assert ran == []


def test_finalizer_is_found_however_deep_it_is_hidden() -> None:
    """On the value stack, in a cycle, in a closure, in a context variable, in a callback: it dies, so it is found."""

    variable: ContextVar[Noticing] = ContextVar("variable")

    async def on_the_stack() -> None:
        print(Noticing([]), await forever())

    async def in_a_cycle() -> None:
        node = Node(noticing=Noticing([]))
        node.__dict__["itself"] = Node(back=node)
        await forever()

    async def in_a_closure() -> None:
        noticing = Noticing([])
        await called_later(lambda: noticing)

    async def called_later(_function: Callable[[], object]) -> None:
        await forever()

    async def in_a_context_variable() -> None:
        variable.set(Noticing([]))
        await forever()

    async def in_a_callback() -> None:
        waited = forever()
        waited.add_done_callback(Node(noticing=Noticing([])).__dict__.__contains__)
        await waited

    async def in_a_timer() -> None:
        asyncio.get_running_loop().call_later(1, print, Noticing([]))
        await forever()

    async def in_an_exception() -> None:
        try:
            raise LookupError(Noticing([]))
        except LookupError:
            await forever()

    async def in_a_result() -> None:
        done = forever()
        done.set_result(Noticing([]))
        await forever()
        done.result()

    async def in_a_generator() -> None:
        def yields(noticing: Noticing) -> Generator[Noticing, None, None]:
            yield noticing

        for _ in map(type, yields(Noticing([]))):
            await forever()

    for body in (
        on_the_stack,
        in_a_cycle,
        in_a_closure,
        in_a_context_variable,
        in_a_callback,
        in_a_timer,
        in_an_exception,
        in_a_result,
        in_a_generator,
    ):
        assert "Noticing has a `__del__`" in str(Waiting(body).obstacle()), body.__name__


def test_what_others_hold_as_well_is_no_obstacle() -> None:
    """A shared service with a finalizer does not die with the process, however the process refers to it."""
    ran: list[str] = []
    service = Node(connection=Noticing(ran), cycle=Node())
    service.__dict__["cycle"].__dict__["service"] = service
    witness = Witness()

    async def order() -> None:
        connection = service.__dict__["connection"]
        with witness:
            await keeps(lambda: service, service.__dict__, connection)

    async def keeps(*_values: object) -> None:
        await forever()

    waiting = Waiting(order)
    assert waiting.obstacle() is None
    waiting.drop()
    waiting.give_up()
    gc.collect()
    assert ran == witness.ran == []
    assert service.__dict__["connection"] is not None


def test_callbacks_of_weak_references_are_obstacles() -> None:
    """A weak reference with a callback and `weakref.finalize` would notice; a weak reference alone would not."""

    async def with_callback() -> None:
        local = Local()
        reference = weakref.ref(local, print)
        await forever()
        del reference

    async def with_finalize() -> None:
        local = Local()
        weakref.finalize(local, print).atexit = False
        await forever()

    async def without() -> None:
        local = Local()
        known = (weakref.ref(local), weakref.WeakSet([local]), weakref.WeakKeyDictionary({local: 1}))
        await forever()
        del known

    callback = "An object of tests.host.waiting.Local has a weak reference whose callback would run, "
    assert str(Waiting(with_callback).obstacle()).startswith(callback + "builtins.builtin_function_or_method; ")
    assert str(Waiting(with_finalize).obstacle()).startswith(callback + "weakref.finalize; ")
    assert Waiting(without).obstacle() is None


@pytest.mark.parametrize("mode", [{"mode": "w"}, {"mode": "wb"}, {"mode": "wb", "buffering": 0}], ids=str)
def test_open_file_is_an_obstacle_until_it_is_closed(mode: dict[str, Any], tmp_path: Path) -> None:
    """Freeing an open file would flush half-written data; one already closed has nothing to flush."""
    futures: list[asyncio.Future[None]] = []

    async def writes() -> None:
        with (tmp_path / "report").open(**mode) as file:
            futures.append(forever())
            await futures[0]
        await forever()
        del file

    waiting = Waiting(writes)
    assert "is an open file; it is held by variable 'file' of" in str(waiting.obstacle())
    waiting.loop.step(futures[0].set_result, None)
    assert waiting.obstacle() is None
    waiting.drop()


@pytest.mark.parametrize("make", [io.BytesIO, io.StringIO, lambda: io.TextIOWrapper(io.BytesIO())])
def test_file_in_memory_is_no_obstacle(make: Callable[[], object]) -> None:
    """What is flushed into memory that dies too is not noticed."""

    async def writes() -> None:
        file = make()
        await forever()
        del file

    waiting = Waiting(writes)
    assert waiting.obstacle() is None
    waiting.drop()


def test_temporary_directory_is_an_obstacle(tmp_path: Path) -> None:
    """Freeing it would remove the directory; it knows by a callback of a weak reference."""
    futures: list[asyncio.Future[None]] = []

    async def writes() -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            futures.append(forever())
            await futures[0]

    waiting = Waiting(writes)
    assert "TemporaryDirectory has a weak reference whose callback would run" in str(waiting.obstacle())
    waiting.loop.step(futures[0].set_result, None)


def test_generator_that_somebody_outside_holds_is_an_obstacle() -> None:
    """What could be resumed from outside is never called finished; it is named instead."""
    witness = Witness()
    shared = SimpleNamespace(numbers=numbers(witness), items=items(witness), coroutine=None)

    async def over_numbers() -> None:
        for _ in shared.numbers:
            await forever()

    async def over_items() -> None:
        async for _ in shared.items:
            await forever()

    async def inner() -> None:
        with witness:
            await forever()

    async def over_coroutine() -> None:
        shared.coroutine = inner()
        await shared.coroutine

    begins = ("Generator numbers", "Async generator items", f"Coroutine {inner.__qualname__}")
    for body, begin in zip((over_numbers, over_items, over_coroutine), begins, strict=True):
        waiting = Waiting(body)
        found = waiting.obstacle()
        assert found is not None
        assert found.startswith(f"{begin} ({__file__}:")
        assert "is also held outside of the process, where it could be resumed" in found
        assert witness.ran == []
        waiting.tasks()[0].get_coro().close()
        witness.ran.clear()


def test_generator_inside_a_shared_service_is_no_obstacle() -> None:
    """A suspended generator that only a surviving object holds has nothing to do with the process."""
    witness = Witness()
    service = Node(numbers=numbers(witness))
    next(service.__dict__["numbers"])

    async def order() -> None:
        local = service
        await forever()
        del local

    waiting = Waiting(order)
    assert waiting.obstacle() is None
    waiting.drop()
    waiting.give_up()
    gc.collect()
    assert witness.ran == []
    service.__dict__["numbers"].close()


def test_variable_shared_with_an_action_that_the_host_holds() -> None:
    """The command of a checkpoint is the process's own: a generator its action uses is finished with it."""
    witness = Witness()
    commands: list[RunAction] = []

    async def order() -> None:
        used = numbers(witness)
        next(used)
        await ask(lambda: next(used))

    async def ask(action: Callable[[], object]) -> None:
        checkpoint = Ask(asyncio.get_running_loop(), "do", "count")  # type: ignore[arg-type]
        checkpoint.command = RunAction("count", action, None)
        commands.append(checkpoint.command)
        await checkpoint

    waiting = Waiting(order)
    assert waiting.obstacle() is None
    waiting.drop()
    waiting.give_up()
    commands.clear()
    gc.collect()
    assert witness.ran == []


def test_variable_shared_with_a_function_that_somebody_holds_is_an_obstacle() -> None:
    """A generator in a variable that a foreign holder of a lambda can reach could be resumed by it."""
    witness = Witness()
    callbacks: list[Callable[[], object]] = []

    async def order() -> None:
        used = numbers(witness)
        next(used)
        callbacks.append(lambda: next(used))
        await forever()

    waiting = Waiting(order)
    assert str(waiting.obstacle()).startswith("Generator numbers")
    callbacks.clear()
    assert waiting.obstacle() is None
    waiting.drop()


def test_process_that_is_running_is_not_dropped() -> None:
    """Asked from inside the process, the answer is that it is running."""
    found: list[str | None] = []

    async def asks() -> None:
        await forever_or_not(lambda: found.append(waiting.obstacle()))

    async def forever_or_not(ask: Callable[[], None]) -> None:
        ask()
        await forever()

    waiting = Waiting()
    waiting.loop.step(waiting._begin, asks)
    assert "is running at this moment" in str(found[0]) or "could be resumed" in str(found[0])
    assert found[0] is not None


def test_too_much_to_look_at() -> None:
    """A process that holds more objects than the limit stays resident instead of blocking the loop of the host."""

    async def order() -> None:
        lists: list[list[object]] = [[] for _ in range(reachability.LIMIT)]
        await forever()
        del lists

    assert Waiting(order).obstacle() == "The process holds more than 10000 objects, too much to look at"


def test_services_around_the_process_function_are_not_entered() -> None:
    """A process function written inside another one, over big services, costs no more than one of a module."""
    service = Node(connections=[Node() for _ in range(reachability.LIMIT)])

    async def order() -> None:
        alias = service
        await asked(lambda: service)
        del alias

    async def asked(_action: Callable[[], object]) -> None:
        await forever()

    waiting = Waiting(order)
    assert waiting.obstacle() is None
    found = reachability.reach(waiting.tasks(), waiting.generators(), waiting.alarms)
    assert len(found.dying) + len(found.surviving) < 20


def test_futures_of_other_loops_and_our_own_objects_are_not_entered() -> None:
    """The walk stops where the world of the host begins, so that a process near it costs no more than another."""

    async def order() -> None:
        foreign = Waiting(lambda: asyncio.sleep(1)).tasks()
        await forever()
        del foreign

    waiting = Waiting(order)
    found = reachability.reach(waiting.tasks(), waiting.generators(), waiting.alarms)
    assert len(found.dying) + len(found.surviving) < 20


def test_looking_calls_no_code_of_the_user() -> None:
    """Special methods, metaclasses, descriptors and `__subclasshook__` of the user are never asked anything."""
    ran: list[str] = []
    armed = False

    class Meta(ABCMeta):
        def __getattribute__(cls, name: str) -> Any:
            if armed:
                ran.append(f"Meta.{name}")
            return super().__getattribute__(name)

        def __instancecheck__(cls, instance: object) -> bool:
            ran.append("Meta.__instancecheck__")
            return False

        def __subclasscheck__(cls, subclass: type) -> bool:
            ran.append("Meta.__subclasscheck__")
            return False

    class Touchy(metaclass=Meta):
        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

        def __eq__(self, other: object) -> bool:
            ran.append("eq")
            return False

        def __hash__(self) -> int:
            if armed:
                ran.append("hash")
            return 1

        def __repr__(self) -> str:
            ran.append("repr")
            return "touchy"

        def __bool__(self) -> bool:
            ran.append("bool")
            return True

        def __len__(self) -> int:
            ran.append("len")
            return 1

    async def order() -> None:
        touchy = [Touchy(), {Touchy(): Touchy()}, {Touchy()}, Touchy]
        await forever()
        del touchy

    async def noticing() -> None:
        touchy = Touchy()
        reference = weakref.ref(touchy, lambda _reference: None)
        await forever()
        del reference

    plain, blocked = Waiting(order), Waiting(noticing)
    ran.clear()
    armed = True
    assert plain.obstacle() is None
    assert "Touchy has a weak reference" in str(blocked.obstacle())
    plain.drop()
    plain.give_up()
    assert ran == []


def test_explaining_an_obstacle_leaves_no_copy_of_the_variables_behind() -> None:
    """Naming the variable must not prolong the life of what was in it (frames before 3.13 keep such a copy)."""
    ran: list[str] = []
    futures: list[asyncio.Future[None]] = []

    async def order() -> None:
        service: object = Noticing(ran)
        futures.append(forever())
        await futures[0]
        service = None
        ran.append(f"replaced by {service}")
        await forever()

    waiting = Waiting(order)
    assert "variable 'service'" in str(waiting.obstacle())
    waiting.loop.step(futures[0].set_result, None)
    assert ran == ["del", "replaced by None"]


@pytest.mark.parametrize("collection", [list, tuple, weakref.WeakSet])
def test_collection_of_the_generators_is_not_mistaken_for_a_holder(collection: Callable[[Any], Any]) -> None:
    """However the host gathers the generators of a process, its own references to them do not count."""
    witness = Witness()

    async def order() -> None:
        async for _ in items(witness):
            await forever()

    waiting = Waiting(order)
    generators = collection(waiting.generators())
    assert letting_go.obstacle(waiting.tasks(), generators, waiting.alarms) is None
    letting_go.drop(waiting.tasks(), generators, waiting.alarms)
    waiting.give_up()
    del generators
    gc.collect()
    assert witness.ran == []
