"""
One chaos run from beginning to end: servers, proxies, hosts and senders start, the nemesis rages, the checker judges.

``python -m tests.chaos.run --store postgresql --seed 7 --processes 2000 --seconds 60`` runs one by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from durable.journal import Kind
from tests.chaos.checker import Violation, late_starts, violations
from tests.chaos.cluster import Cluster, names_of_users
from tests.chaos.database import DATABASE, Database
from tests.chaos.evidence import Evidence, gather_evidence
from tests.chaos.faults import DATABASE_FAULTS, HOST_FAULTS, NETWORK_FAULTS, Fault, Nemesis, make_schedule
from tests.chaos.plans import Setting
from tests.chaos.proxy import Proxy

HOSTS = 4
_PATIENCE = 5  # seconds that a call waits for the database: a few leases
_TO_RECOVER = 5.0  # seconds that a server may take to start again on a busy machine


@dataclass(frozen=True, slots=True)
class Chaos:
    """
    What a run is like.

    Attributes:
        store: "postgresql", or the scheme of a store in files of this machine.
        seconds: During which processes are started.
        nemeses: How many do faults at the same time, each on its own.
        count: How many faults of each.
        faults: Names of those to draw from; by default all that make sense for the store.
        wrapper: As for `Setting`.
        patience: Seconds after the last start and the last fault until what has not ended counts as lost.
    """

    store: str
    seed: int
    processes: int = 2000
    seconds: float = 60.0
    nemeses: int = 1
    count: int = 25
    lease: float = 1.5
    faults: Sequence[str] = ()
    wrapper: str = ""
    patience: float = 60.0

    def schedules(self) -> list[list[Fault]]:
        """The faults of each nemesis in their order."""
        possible = [*HOST_FAULTS, *(NETWORK_FAULTS + DATABASE_FAULTS if self.store == "postgresql" else ())]
        return [
            make_schedule(f"{self.seed} {nemesis}", self.faults or possible, self.count, HOSTS, self.lease)
            for nemesis in range(self.nemeses)
        ]

    def longest(self) -> float:
        """Seconds that a run may take."""
        faults = [fault for schedule in self.schedules() for fault in schedule]
        longest = max(sum(fault.seconds + fault.pause for fault in schedule) for schedule in self.schedules())
        longest += _TO_RECOVER * sum(fault.name in DATABASE_FAULTS for fault in faults)
        return max(self.seconds, longest) + self.patience


@dataclass(slots=True)
class Verdict:
    """What came of a run; as a string, all there is to say about it."""

    chaos: Chaos
    violations: list[Violation]
    evidence: Evidence
    took: float

    def rules(self) -> set[str]:
        """The rules that were broken."""
        return {violation.rule for violation in self.violations}

    def __str__(self) -> str:
        stories = self.evidence.stories.values()
        starts = sum(len(story.starts) for story in stories)
        recorded = sum(len(list(story.of(Kind.DONE, Kind.FAILED, Kind.ATTEMPT))) for story in stories)
        statuses = Counter(story.row.status.value for story in stories)
        by_rule = Counter(violation.rule for violation in self.violations)
        return "\n".join(
            [
                f"{self.chaos}",
                f"took {self.took:.1f} s; {dict(statuses)}; {starts} starts of actions for {recorded} ends, "
                f"{len(late_starts(self.evidence))} late; {len(self.evidence.sessions)} sessions",
                *(f"  {n}: {fault}" for n, schedule in enumerate(self.chaos.schedules()) for fault in schedule),
                f"violations: {dict(by_rule) or 'none'}",
                *(f"  {violation}" for violation in self.violations[:30]),
            ]
        )


async def run_chaos(chaos: Chaos, folder: Path) -> Verdict:
    """Run *chaos* in the empty *folder* and judge it."""
    begun = time.monotonic()
    async with _network(chaos, folder) as (urls, proxies, database):
        setting = Setting(
            chaos.seed, chaos.processes, str(folder), dict(urls), chaos.seconds, chaos.lease, chaos.wrapper
        )
        async with Cluster(setting, HOSTS) as cluster:
            await cluster.begin_to_send()
            nemesis = Nemesis(cluster, proxies, database)
            raging = asyncio.gather(*map(nemesis.run, chaos.schedules()))
            try:
                async with asyncio.timeout(chaos.longest()):
                    await asyncio.gather(cluster.all_is_sent(), raging)
                    await cluster.leave()
            except TimeoutError:
                cluster.failures.append("not everything ended in time")
            finally:
                raging.cancel()
                await asyncio.wait([raging])
        evidence = await gather_evidence(setting, urls["checker"], cluster.failures)
    return Verdict(chaos, violations(evidence), evidence, time.monotonic() - begun)


@asynccontextmanager
async def _network(
    chaos: Chaos, folder: Path
) -> AsyncIterator[tuple[Mapping[str, str], Mapping[str, Sequence[Proxy]], Database | None]]:
    """Where everybody finds the store, and what lies between."""
    users = names_of_users(HOSTS)
    if chaos.store != "postgresql":
        url = f"{chaos.store}:///{folder}/store"
        yield dict.fromkeys([*users, "checker"], url), {}, None
        return
    async with AsyncExitStack() as stack:
        # A short path of its own: that of a socket has 107 bytes at most.
        servers = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True))
        database = await stack.enter_async_context(Database(Path(servers)))
        proxies = {user: [await stack.enter_async_context(Proxy(port)) for port in database.ports] for user in users}
        urls = {user: _url(*(proxy.port for proxy in mine)) for user, mine in proxies.items()}
        yield {**urls, "checker": _url(*database.ports)}, proxies, database


def _url(*ports: int) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres@{hosts}/{DATABASE}?target_session_attrs=read-write&patience={_PATIENCE}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite", choices=["sqlite", "file", "postgresql"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--nemeses", type=int, default=1)
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--faults", nargs="*", default=())
    parser.add_argument("--wrapper", default="")
    parser.add_argument("--patience", type=float, default=60.0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    verdict = asyncio.run(run_chaos(Chaos(**vars(arguments)), folder))
    print(verdict)
    if verdict.violations:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
