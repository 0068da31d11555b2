"""What lies between a node and its agent in every tunnel: perhaps a middlebox, a delay, forward proxies, and what a
program cannot do about them.
"""

import sys

from perf.errors import Unsupported
from perf.topologies.middlebox import start_middlebox
from perf.topologies.processes import Ground, free_port
from perf.topologies.shape import Shape


async def dialled_port(ground: Ground, shape: Shape, port: int) -> int:
    """The port that an agent is to dial so that it reaches `port` by the middlebox and after the delay of the shape."""
    if shape.middlebox:
        port = await start_middlebox(ground, shape.middlebox, port)
    if not shape.round_trip_seconds:
        return port
    near = free_port()
    argv = [sys.executable, "-m", "perf.topologies.delay", "--port", str(near)]
    argv += ["--to", str(port), "--round-trip-seconds", str(shape.round_trip_seconds)]
    await (await ground.start("delay", argv)).answers_at(near)
    return near


def the_proxy(name: str, via: tuple[str, ...], *schemes: str) -> str | None:
    """The one forward proxy on the way out, if there is any. Unsupported for a chain, or another scheme."""
    if not via:
        return None
    if not schemes:
        raise Unsupported(f"{name} is not put behind a forward proxy here")
    if len(via) > 1:
        raise Unsupported(f"{name} knows one forward proxy, not a chain of {len(via)}")
    if via[0].partition(":")[0] not in schemes:
        raise Unsupported(f"{name} speaks {' and '.join(schemes)} to a forward proxy, not {via[0].partition(':')[0]}")
    return via[0]


def refuse_unknown(name: str, shape: Shape, *, access_log: bool = False) -> None:
    """Raise Unsupported for many listeners, which only Piko's status page is asked for, and for access logs."""
    if shape.listeners:
        raise Unsupported(f"{name} is not asked here which of many listeners are there")
    if shape.access_log and not access_log:
        raise Unsupported(f"{name} has no access log")
