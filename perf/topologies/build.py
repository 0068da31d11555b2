"""From a shape to running processes: service first, then what leads to it, ready when the first answer came
through.
"""

import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from perf.errors import LabError, MissingProgram
from perf.loads.target import Target
from perf.topologies.processes import Ground, Started, free_port, open_ground
from perf.topologies.proxies import start_proxies
from perf.topologies.services.nginx import start_nginx, write_files
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels import Tunnel

READY_SECONDS = 20.0
SMALL_PATH = "/128"


class Topology:
    """A running topology: where to aim, and the processes in the path by their legs. `service` is the same service
    by the proxies alone.
    """

    def __init__(
        self, shape: Shape, target: Target, started: Sequence[Started] = (), service: Target | None = None
    ) -> None:
        self.shape = shape
        self.target = target
        self.service = service
        self._started = started

    @property
    def pids(self) -> dict[str, int]:
        return {started.leg: started.pid for started in self._started}

    def commands(self) -> dict[str, str]:
        return {started.leg: started.command for started in self._started}

    def said(self, leg: str) -> str:
        """All that a process of the path has said so far."""
        return "".join(started.output.read_text() for started in self._started if started.leg == leg)

    def check(self) -> None:
        """Raise LabError if a process of the path has ended."""
        for started in self._started:
            started.check()

    def last_words(self) -> str:
        """What the two ends of a tunnel said last, in brackets."""
        ends = [started for started in self._started if started.leg in ("node", "agent")]
        return f" ({'; '.join(f'{end.leg}: {end.last_words()}' for end in ends)})" if ends else ""

    async def answers(self) -> bool:
        """Whether the service answers through everything, as a user would try."""
        return await trio.to_thread.run_sync(_answers, self)


@asynccontextmanager
async def topology(shape: Shape, tunnel: Tunnel | None) -> AsyncIterator[Topology]:
    """Own a topology. Raises LabError if a program is missing, ends early or never lets an answer through."""
    with tempfile.TemporaryDirectory(prefix="trioduct-perf-", dir=memory_directory()) as files:
        write_files(Path(files))
        async with open_ground() as ground:
            port = await _start_service(ground, shape, Path(files))
            via = await start_proxies(ground, shape.proxies)
            service = Target("127.0.0.1", port, via=via)
            if shape.route in (Route.TUNNEL, Route.FORWARD):
                if tunnel is None:
                    raise LabError(f"the topology {shape.name} needs a tunnel program")
                target = await tunnel.start(ground, shape, port, via)
            else:
                target = service
            running = Topology(shape, target if shape.listeners else target.at(SMALL_PATH), ground.started, service)
            await _wait_answer(running)
            yield running


async def _start_service(ground: Ground, shape: Shape, files: Path) -> int:
    if shape.service == Service.WEB:
        try:
            return (await start_nginx(ground, files))[1]
        except MissingProgram:
            pass  # ours is faster than any tunnel too
    module = "raw" if shape.service == Service.RAW else "own"
    port = free_port()
    argv = [sys.executable, "-m", f"perf.topologies.services.{module}", "--port", str(port)]
    started: Started = await ground.start("service", [*argv, *shape.service_options])
    await started.answers_at(port)
    return port


def memory_directory() -> str | None:
    """Where a file is memory; None is the ordinary place, where reading holes fills the page cache."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


async def _wait_answer(running: Topology) -> None:
    with trio.move_on_after(READY_SECONDS):
        while not await running.answers():
            running.check()
            await trio.sleep(0.05)
        return
    raise LabError(f"{running.shape.name}: no answer came through within {READY_SECONDS:g} s{running.last_words()}")


def _answers(running: Topology) -> bool:
    target = running.target
    try:
        with closing(socket.create_connection((target.host, target.port), timeout=2)) as connection:
            if running.shape.service == Service.RAW:
                connection.sendall(b"E?")
                return connection.recv(1) == b"?"
            connection.sendall(target.request("GET", None, ("Connection", "close")))
            answer = b""
            while data := connection.recv(1 << 16):
                answer += data
    except OSError:
        return False
    if running.shape.listeners:
        # The status page names every endpoint that has registered.
        return answer.count(b"idle-") >= running.shape.listeners
    return answer.startswith(b"HTTP/1.1 200")
