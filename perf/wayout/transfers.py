"""Bytes through squid, and what a second layer of TLS costs: one body a round, down or up."""

import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from perf.contender import Contender
from perf.errors import LoadFailed, Unsupported
from perf.loads.bulk import Upload
from perf.loads.load import Load
from perf.record import Figure, Goal, Plan, Sample
from perf.rows import Heard, Opened, Reach, apply, planned
from perf.topologies.build import Topology, memory_directory
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, free_port, open_ground
from perf.topologies.proxies.squid import start_squid, start_squid_tls
from perf.topologies.services.nginx import BULK_BYTES, start_nginx, write_files
from perf.topologies.shape import Service, Shape
from perf.wayout.client import Client
from perf.wayout.shared import Shared, blank_if_missing
from perf.wayout.way import DIRECT, Transfer, Way

SPEED, PER_CPU = "MB/s", "MB/CPU s"
ONE, TWO, KEPT = f"{PER_CPU}, TLS", f"{PER_CPU}, TLS in TLS", "TLS in TLS / TLS"
WITHIN_TEN_PERCENT, WITHIN_A_QUARTER = Goal(0.9), Goal(0.75, absolute=True)
PREFIX = "trioduct-perf-"
BYTES_PER_SECOND = 400_000_000  # what a round of a second moves
LEAST_BYTES = 32_000_000

SECURED = """
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        root {files};
        location = /sink {{
            proxy_pass http://127.0.0.1:{sink};
            proxy_http_version 1.1;
            proxy_request_buffering off;
            client_max_body_size 0;
        }}
    }}
"""


class Bed(NamedTuple):
    """The same service by two squids: nginx, which has the bodies, and a sink for uploads."""

    ground: Ground
    files: Path
    http: Way
    https: Way
    web: int
    web_tls: int
    sink: int

    def errand(self, plan: Plan, *, upload: bool, tls: bool = False, detached: bool = False) -> Transfer:
        port = self.web_tls if tls else self.sink if upload else self.web
        return msgspec.structs.replace(_body(plan, self.files, upload=upload), port=port, tls=tls, detached=detached)

    def commands(self) -> dict[str, str]:
        return {started.leg: started.command for started in self.ground.started}


@asynccontextmanager
async def _bed() -> AsyncIterator[Bed]:
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=memory_directory()) as name:
        files = Path(name)
        write_files(files)
        async with open_ground() as ground:
            certificates = write_certificates(ground.directory)
            sink, web_tls, http, https = free_port(), free_port(), free_port(), free_port()
            module = [sys.executable, "-m", "perf.topologies.services.own"]
            await (await ground.start("sink", [*module, "--port", str(sink)])).answers_at(sink)
            chain, key, authority = certificates.chain, certificates.key, str(certificates.authority)
            more = SECURED.format(port=web_tls, chain=chain, key=key, files=files, sink=sink)
            _, web = await start_nginx(ground, files, more)
            await start_squid(ground, "squid", http)
            await start_squid_tls(ground, "squid in TLS", https)
            plain = Way(scheme="http", port=http, authority=authority)
            yield Bed(
                ground, files, plain, msgspec.structs.replace(plain, scheme="https", port=https), web, web_tls, sink
            )


def _body(plan: Plan, files: Path, *, upload: bool) -> Transfer:
    """What a round moves, to be aimed at a port. What is sent is a file in `files`, with a length and no blocks."""
    size = max(LEAST_BYTES, min(BULK_BYTES, int(plan.seconds * BYTES_PER_SECOND)))
    if not upload:
        return Transfer(0, "/bulk", size)
    path = files / f"body-{size}"
    with path.open("wb") as file:
        file.truncate(size)
    return Transfer(0, "/sink", size, upload=str(path))


class SquidRow:
    """A body through squid by CONNECT. Ours reads the tunnel as the stream that it is, or takes its socket as the
    engine does (`detached`).
    """

    most_rounds = None
    figures = (Figure(SPEED, goal=WITHIN_TEN_PERCENT), Figure(PER_CPU))

    def __init__(
        self, name: str, title: str, clients: Mapping[str, Client], *, upload: bool, detached: bool = False
    ) -> None:
        self.name, self.title = name, title
        self._clients, self._upload, self._detached = clients, upload, detached
        self._bed = Shared(_bed)

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        client = self._clients[contender.name]
        async with self._bed.joined() as bed:
            errand = bed.errand(plan, upload=self._upload, detached=self._detached)

            async def measure(heard: Heard) -> Sample:
                spent = await client.spend(bed.http, errand)
                rates = errand.size / sum(spent.seconds), errand.size / spent.cpu_seconds
                return Sample({SPEED: rates[0] / 1e6, PER_CPU: rates[1] / 1e6})

            yield Opened(measure, bed.commands())


class ProductRow:
    """The whole product behind squid, client -> node ~ squid ~ agent -> service, against squid alone. curl is the
    client of both, so that it costs both the same.
    """

    most_rounds = None
    figures = (Figure(SPEED),)

    def __init__(self, name: str, title: str, product: Contender, curl: Client, *, upload: bool) -> None:
        self.name, self.title = name, title
        self._product, self._curl, self._upload = product, curl, upload

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        shape = Shape(service=Service.OWN if self._upload else Service.WEB, proxies=("squid",))
        with blank_if_missing(), tempfile.TemporaryDirectory(prefix=PREFIX, dir=memory_directory()) as files:
            async with reach(shape, self._product) as running:
                target = running.target if contender.name == self._product.name else running.service
                assert target is not None  # a topology that was started has a service
                (way,) = [Way(scheme="http", port=int(url.rpartition(":")[2])) for url in target.via] or [DIRECT]
                headers = tuple(f"{name}: {value}" for name, value in target.headers)
                body = _body(plan, Path(files), upload=self._upload)
                errand = msgspec.structs.replace(body, port=target.port, headers=headers)

                async def measure(heard: Heard) -> Sample:
                    running.check()
                    spent = await self._curl.spend(way, errand)
                    return Sample({SPEED: errand.size / sum(spent.seconds) / 1e6})

                yield Opened(measure, running.commands())


class LayersRow:
    """TLS with the service inside TLS with the proxy, against TLS with the service through a plain proxy."""

    most_rounds = None
    figures = (Figure(ONE), Figure(TWO), Figure(KEPT, goal=WITHIN_A_QUARTER))

    def __init__(self, name: str, title: str, clients: Mapping[str, Client], *, upload: bool) -> None:
        self.name, self.title = name, title
        self._clients, self._upload = clients, upload
        self._bed = Shared(_bed)

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        client = self._clients[contender.name]
        async with self._bed.joined() as bed:
            errand = bed.errand(plan, upload=self._upload, tls=True)

            async def measure(heard: Heard) -> Sample:
                one = await client.spend(bed.http, errand)
                two = await client.spend(bed.https, errand)
                return _kept(errand.size / one.cpu_seconds, errand.size / two.cpu_seconds)

            yield Opened(measure, bed.commands())


class AgentLayersRow:
    """The same, in the agent of the product: its session with the node is TLS, and the proxy's TLS is around it."""

    most_rounds = None
    figures = LayersRow.figures

    def __init__(self, name: str, title: str, product: Contender, load: Load) -> None:
        self.name, self.title = name, title
        self._product, self._load = product, load

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        if contender.name != self._product.name:
            raise Unsupported(f"{contender.name} is no agent")
        load = planned(self._load, plan)
        service = Service.OWN if isinstance(load, Upload) else Service.WEB
        shapes = [Shape(service=service, secure=True, proxies=(proxy,)) for proxy in ("squid", "squid:https")]
        with blank_if_missing():
            async with reach(shapes[0], self._product) as one, reach(shapes[1], self._product) as two:

                async def bytes_per_cpu(running: Topology, heard: Heard) -> float:
                    outcome, legs = await apply(load, running, heard)
                    moved, cpu_seconds = outcome.bytes_down + outcome.bytes_up, legs["agent"].cpu_seconds
                    if not moved or not cpu_seconds:
                        raise LoadFailed("; ".join(outcome.doubts()) or "nothing went through the agent")
                    return moved / cpu_seconds

                async def measure(heard: Heard) -> Sample:
                    return _kept(await bytes_per_cpu(one, heard), await bytes_per_cpu(two, heard))

                yield Opened(measure, two.commands())


def _kept(one: float, two: float) -> Sample:
    """Of bytes per second of the client's processor time."""
    return Sample({ONE: one / 1e6, TWO: two / 1e6, KEPT: two / one})
