"""A tunnel through a proxy, by each scheme: microseconds, processor time, round trips.

`first`: nobody has said which scheme it is (curl gets `--proxy-anyauth`). `again`: it is known, because ours remembers
the tunnel before and curl was told (`--proxy-ntlm`, for instance). The time ends when the tunnel is open; the processor
time includes one small request through it.
"""

import statistics
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from perf.contender import Contender
from perf.errors import LoadFailed, Unsupported
from perf.record import Better, Figure, Plan, Sample
from perf.rows import Heard, Opened, Reach
from perf.topologies.processes import Ground, open_ground
from perf.topologies.services.nginx import start_nginx
from perf.wayout.beds import SCHEMES
from perf.wayout.client import Client, Ours
from perf.wayout.shared import Shared
from perf.wayout.trips import count_trips
from perf.wayout.way import Handshakes, Spent, Way

FIRST, AGAIN = "first", "again"
KINDS = (FIRST, AGAIN)
WALL, CPU, TRIPS = "µs", "CPU µs", "round trips"
FEWEST, MOST = 10, 1000  # tunnels in a round
UNMEASURED = 3


class HandshakeRow:
    """One scheme, one bed for both sides."""

    most_rounds = None
    figures = tuple(Figure(f"{kind} {what}", Better.LOWER) for what in (WALL, CPU, TRIPS) for kind in KINDS)

    def __init__(self, scheme: str, clients: Mapping[str, Client]) -> None:
        self.name = f"handshake-{scheme}"
        self.title, self._start = SCHEMES[scheme]
        self._clients = clients
        self._bed = Shared(self._make)

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        client = self._clients[contender.name]
        async with self._bed.joined() as (ground, way, port):
            try:
                trips = await _trips_of(client, way, port)
            except LoadFailed as error:
                if isinstance(client, Ours):
                    raise
                raise Unsupported(str(error)) from error  # curl cannot do every scheme; that ours can, is the point
            errands = {}
            for kind in KINDS:
                # The first tunnels also wake the proxy's helpers.
                warm = Handshakes(port, FEWEST, kind == AGAIN, UNMEASURED)
                seconds = statistics.median((await client.spend(way, warm)).seconds)
                tunnels = max(FEWEST, min(MOST, int(plan.seconds / seconds)))
                errands[kind] = msgspec.structs.replace(warm, tunnels=tunnels)

            async def measure(heard: Heard) -> Sample:
                figures: dict[str, float] = {}
                for kind, errand in errands.items():
                    for started in ground.started:
                        started.check()
                    spent = await client.spend(way, errand)
                    figures |= _figures(kind, spent, trips[kind])
                return Sample(figures)

            yield Opened(measure, {started.leg: started.command for started in ground.started})

    @asynccontextmanager
    async def _make(self) -> AsyncIterator[tuple[Ground, Way, int]]:
        async with open_ground() as ground:
            _, port = await start_nginx(ground, ground.directory)
            yield ground, await self._start(ground), port


def _figures(kind: str, spent: Spent, trips: int) -> dict[str, float]:
    each = spent.cpu_seconds / len(spent.seconds)
    values = {WALL: statistics.median(spent.seconds) * 1e6, CPU: each * 1e6, TRIPS: float(trips)}
    return {f"{kind} {what}": value for what, value in values.items()}


async def _trips_of(client: Client, way: Way, port: int) -> dict[str, int]:
    """Round trips until the tunnel is open: those of a tunnel, less the one of its request."""

    async def trips(*, remembered: bool, tunnels: int) -> int:
        errand = Handshakes(port, tunnels, remembered)
        return await count_trips(way.port, lambda near: client.spend(msgspec.structs.replace(way, port=near), errand))

    both = await trips(remembered=True, tunnels=2)
    return {
        FIRST: await trips(remembered=False, tunnels=1) - 1,
        AGAIN: both - await trips(remembered=True, tunnels=1) - 1,
    }
