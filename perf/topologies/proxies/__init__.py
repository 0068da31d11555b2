"""Forward proxies to put in the path: one small file each, named in `PROGRAMS`.

A proxy's name is its program, or program and scheme: `squid`, `pproxy:socks5`. Without a scheme it is the
first of the program's.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import msgspec

from perf.errors import LabError
from perf.topologies.processes import Ground, free_port
from perf.topologies.proxies.dante import start_dante
from perf.topologies.proxies.microsocks import start_microsocks
from perf.topologies.proxies.pproxy import start_pproxy
from perf.topologies.proxies.squid import start_squid
from perf.topologies.proxies.ssh import start_ssh
from perf.topologies.proxies.tinyproxy import start_tinyproxy

Start = Callable[[Ground, str, int], Awaitable[None]]  # (ground, leg, port): returns when it answers


class Program(msgspec.Struct, frozen=True):
    schemes: tuple[str, ...]
    start: Start


PROGRAMS: Mapping[str, Program] = MappingProxyType(
    {
        "pproxy": Program(("http", "socks5", "socks4"), start_pproxy),
        "squid": Program(("http",), start_squid),
        "tinyproxy": Program(("http",), start_tinyproxy),
        "dante": Program(("socks5", "socks4"), start_dante),
        "microsocks": Program(("socks5",), start_microsocks),
        "ssh": Program(("socks5", "socks4a", "socks4"), start_ssh),
    }
)


def parse_proxy(name: str) -> tuple[Program, str]:
    """The program and the scheme of a proxy's name. Raises LabError."""
    program_name, _, scheme = name.partition(":")
    program = PROGRAMS.get(program_name)
    if program is None:
        raise LabError(f"no proxy program is called {program_name}: there are {', '.join(PROGRAMS)}")
    scheme = scheme or program.schemes[0]
    if scheme not in program.schemes:
        raise LabError(f"{program_name} does not speak {scheme} here: it speaks {', '.join(program.schemes)}")
    return program, scheme


async def start_proxies(ground: Ground, names: tuple[str, ...]) -> tuple[str, ...]:
    """Start the proxies of a chain and return their URLs, first hop first."""
    urls = []
    for number, name in enumerate(names):
        program, scheme = parse_proxy(name)
        port = free_port()
        await program.start(ground, "proxy" if len(names) == 1 else f"proxy{number + 1}", port)
        urls.append(f"{scheme}://127.0.0.1:{port}")
    return tuple(urls)
