"""Programs that lead from a public address to a service: one file each, and `tunnel_named` to find them.

A tunnel starts its processes on the given ground and says where a load finds the service.
"""

from typing import Protocol

from perf.errors import LabError
from perf.loads.target import Target
from perf.topologies.processes import Ground
from perf.topologies.shape import Shape


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
        LabError for a shape that this program cannot have.
        """
        ...


def tunnel_named(name: str) -> Tunnel:
    """`trioduct`, `piko`, `git:REVISION`, or the path of a program with their command line. Raises LabError."""
    # Imported here: each of these files names this one.
    from perf.topologies.tunnels.commit import program_at
    from perf.topologies.tunnels.piko import PikoLike

    match name:
        case "trioduct":
            return PikoLike("trioduct", variable="TRIODUCT")
        case "piko":
            return PikoLike("piko", variable="PIKO")
        case _ if name.startswith("git:"):
            return PikoLike(name, path=program_at(name.removeprefix("git:")))
        case _ if "/" in name:
            return PikoLike(name)
    raise LabError(f"no tunnel program is called {name}: it is trioduct, piko, git:REVISION or a path")
