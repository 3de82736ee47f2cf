"""The file service while S3 fails, or is slow, at each call in turn."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.examples.file_service_runs import SOON, Distributed, make_files
from tests.examples.s3_server import FAILURES, Calls, Fate, Hold, let_through

SMALL = [20_000, 10_000]
LARGE = [9_000_000, 10_000]  # the first is uploaded in parts

pytestmark = pytest.mark.slow


def count_calls(service: Distributed, task: str, sizes: list[int]) -> int:
    calls = service.proxy.decide = Calls()
    run(service, task, sizes)
    return len(calls.made)


def run(service: Distributed, task: str, sizes: list[int]) -> None:
    contents = make_files(task, sizes)
    service.zip(task, contents)
    answer = service.result(task)
    assert answer["status"] == "completed", answer
    assert service.archive(task) == contents
    assert service.left_of(task) == [f"results/{task}/files.zip"]


def fail_at_each(service: Distributed, name: str, sizes: list[int], kinds: tuple[Fate, ...]) -> None:
    count = count_calls(service, f"{name}-counted", sizes)
    for number in range(count):
        fate = kinds[number % len(kinds)]
        service.proxy.decide = Calls({number: fate})
        run(service, f"{name}-{number}", sizes)
    service.proxy.decide = let_through


def test_each_call_fails(distributed: Distributed) -> None:
    """Each call to S3 in turn is cut before it, cut after it, or refused: the archive is right, and nothing is left."""
    fail_at_each(distributed, "cut", SMALL, FAILURES)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fate", FAILURES, ids=lambda fate: fate.name)
def test_each_call_fails_in_each_way(distributed: Distributed, fate: Fate, sizes: list[int]) -> None:
    """The same, each call in each way, and with uploads in parts."""
    fail_at_each(distributed, f"{fate.name.lower()}-{len(sizes)}-{sizes[0]}", sizes, (fate,))


@pytest.mark.parametrize("sizes", [SMALL, pytest.param(LARGE, marks=pytest.mark.chaos)], ids=["small", "large"])
def test_cancelled_at_each_call(distributed: Distributed, sizes: list[int]) -> None:
    """Cancelled while the worker waits for S3, at each call in turn: it answers so, and nothing is left."""
    answers: list[str] = []
    while (answer := cancel_at(distributed, len(answers), sizes)) is not None:
        answers.append(answer)
    assert len(answers) > 10
    assert set(answers[:-1]) == {"cancelled"}  # at its last call a task may come to its end before it hears of it


def cancel_at(service: Distributed, number: int, sizes: list[int]) -> str | None:
    """Cancel a task while its worker makes call *number*; how it ended, or None if it did not make so many."""
    task = f"cancelled-at-{number}-of-{sizes[0]}"
    contents = make_files(task, sizes)
    service.put(task, dict(contents))
    hold = service.proxy.decide = Hold(lambda count, call: count == number)
    service.submit(task, files=list(contents))
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(service.result, task)
        while not hold.is_held.wait(0.01) and not ended.done():
            pass
        if hold.is_held.is_set():
            service.cancel(task)
        hold.let_go.set()
        status = str(ended.result()["status"])
    service.proxy.decide = let_through
    assert service.left_of(task) == ([f"results/{task}/files.zip"] if status == "completed" else [])
    return status if hold.is_held.is_set() else None


def test_s3_is_away_for_long(distributed: Distributed) -> None:
    """While S3 refuses everything a task fails at last, and says why as soon as it has removed what it had."""
    contents = make_files("away", SMALL)
    distributed.put("away", dict(contents))
    distributed.proxy.decide = lambda method, path: Fate.REFUSED
    distributed.submit("away", files=list(contents))
    until = time.monotonic() + SOON
    while not any("undone" in name for name in distributed.failed_attempts("away")):
        assert time.monotonic() < until, distributed.log()
        time.sleep(0.1)  # or it would be told that it asks too often
    distributed.proxy.decide = let_through
    answer = distributed.result("away")
    assert answer["status"] == "failed"
    assert answer["error"]["type"].startswith("obstore.exceptions.")
    assert distributed.failed_attempts("away").count("files found") == 4  # and the fifth was its last
    assert distributed.left_of("away") == []
