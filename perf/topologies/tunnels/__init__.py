"""Programs that lead from a public address to a service: one file each, and `tunnel_named` to find them.

A tunnel starts its processes on the given ground and says where a load finds the service.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

from perf.errors import LabError
from perf.loads.target import Target
from perf.topologies.processes import Ground
from perf.topologies.shape import Shape
from perf.topologies.tunnels.chisel import Chisel
from perf.topologies.tunnels.commit import program_at
from perf.topologies.tunnels.frp import Frp
from perf.topologies.tunnels.haproxy import HAProxy
from perf.topologies.tunnels.piko import PikoLike
from perf.topologies.tunnels.rathole import Rathole


class Tunnel(Protocol):
    """A program, or a pair of them, that can carry a load to a service."""

    @property
    def name(self) -> str: ...

    def version(self) -> str:
        """What the program says of itself. Raises MissingProgram."""
        ...

    async def start(self, ground: Ground, shape: Shape, service_port: int, via: tuple[str, ...]) -> Target:
        """Start everything between the load and the service; `via` are forward proxies on the agent's way.

        The tunnel need not be ready: whoever aims a load at the target waits for its first answer. Raises
        Unsupported for a shape that this program cannot have.
        """
        ...


PEERS: Mapping[str, Callable[[], Tunnel]] = MappingProxyType(
    {
        "trioduct": partial(PikoLike, "trioduct", variable="TRIODUCT"),
        "piko": partial(PikoLike, "piko", variable="PIKO"),
        "frp": Frp,
        "frp:tcp": partial(Frp, by_name=False),
        "chisel": Chisel,
        "rathole": Rathole,
        "haproxy": HAProxy,
    }
)


def tunnel_named(name: str) -> Tunnel:
    """One of the `PEERS`, `git:REVISION`, or the path of a program with Piko's command line. Raises LabError."""
    match name:
        case _ if name in PEERS:
            return PEERS[name]()
        case _ if name.startswith("git:"):
            return PikoLike(name, path=program_at(name.removeprefix("git:")))
        case _ if "/" in name:
            return PikoLike(name)
    raise LabError(f"no tunnel program is called {name}: it is {', '.join(PEERS)}, git:REVISION or a path")
