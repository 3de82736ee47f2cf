"""The worked example of a provider passes the whole contract, and its walk-through quotes what is really there."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from durable import Process, ProcessHost, process
from durable.storage import JournalStorage, open_storage
from durable.testing.storage_contract import Clock, StorageContract
from tests.storage import installing, minimal_batch, minimal_provider
from tests.storage.minimal_provider import MinimalStorage

SOURCES = [Path(module.__file__ or "") for module in (minimal_batch, minimal_provider, installing)] + [Path(__file__)]
WALK_THROUGH = Path(__file__).parents[2] / "docs" / "writing-a-provider.md"


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is installed for the scheme ``minimal``."""
    target = "tests.storage.minimal_provider:MinimalStorage"
    installing.install("minimal", target, tmp_path_factory.mktemp("installed"), monkeypatch)


class TestMinimal(StorageContract):
    KEEPS_FILES = True

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        return MinimalStorage(f"minimal://{place}/store", lease_clock=clock)

    def url(self, place: Path) -> str:
        return f"minimal://{place}/store"


def test_found_by_its_entry_point(tmp_path: Path) -> None:
    """Once installed the provider is found by the scheme of a URL."""
    assert isinstance(open_storage(f"minimal://{tmp_path}/store"), MinimalStorage)


async def test_a_host_runs_on_it(tmp_path: Path) -> None:
    """A host that was given the URL runs a process to its end, and the next host finds its result."""

    @process
    async def greet(proc: Process, name: str) -> str:
        return await proc.do(lambda: f"Hello {name}", "greeted")

    url = f"minimal://{tmp_path}/store"
    async with ProcessHost(url, [greet]) as host:
        handle = await host.start(greet("Ann"), id="greeting")
        assert await handle.result() == "Hello Ann"
    async with ProcessHost(url, [greet]) as host:
        assert await (await host.start(greet("Ann"), id="greeting")).result() == "Hello Ann"


def test_walk_through_quotes_the_example() -> None:
    """Each block of code in the walk-through stands in the example as it is quoted, indentation apart."""
    sources = [re.sub(r"^ +", "", path.read_text(), flags=re.MULTILINE) for path in SOURCES]
    blocks = re.findall(r"^```py\n(.*?)^```$", WALK_THROUGH.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        for part in block.split("    # …\n"):
            wanted = re.sub(r"^ +", "", dedent(part), flags=re.MULTILINE)
            assert any(wanted.strip() in source for source in sources), f"not in the example:\n{part}"
