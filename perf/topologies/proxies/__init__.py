"""Forward proxies to put in the path: one small file each, named in `PROGRAMS`.

A proxy's name is its program, or program and scheme: `squid`, `pproxy:socks5`. Without a scheme it is the
first of the program's.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from perf.errors import LabError
from perf.topologies.processes import Ground, free_port
from perf.topologies.proxies.dante import start_dante
from perf.topologies.proxies.microsocks import start_microsocks
from perf.topologies.proxies.pproxy import start_pproxy, start_pproxy_tls
from perf.topologies.proxies.squid import start_squid, start_squid_tls
from perf.topologies.proxies.ssh import start_ssh
from perf.topologies.proxies.tinyproxy import start_tinyproxy

Start = Callable[[Ground, str, int], Awaitable[None]]  # (ground, leg, port): returns when it answers

PROGRAMS: Mapping[str, Mapping[str, Start]] = MappingProxyType(
    {
        "pproxy": {"http": start_pproxy, "socks5": start_pproxy, "socks4": start_pproxy, "https": start_pproxy_tls},
        "squid": {"http": start_squid, "https": start_squid_tls},
        "tinyproxy": {"http": start_tinyproxy},
        "dante": {"socks5": start_dante, "socks4": start_dante},
        "microsocks": {"socks5": start_microsocks},
        "ssh": {"socks5": start_ssh, "socks4a": start_ssh, "socks4": start_ssh},
    }
)


def parse_proxy(name: str) -> tuple[Start, str]:
    """How to start a proxy by its name, and its scheme. Raises LabError."""
    program, _, scheme = name.partition(":")
    starts = PROGRAMS.get(program)
    if starts is None:
        raise LabError(f"no proxy program is called {program}: there are {', '.join(PROGRAMS)}")
    scheme = scheme or next(iter(starts))
    if scheme not in starts:
        raise LabError(f"{program} does not speak {scheme} here: it speaks {', '.join(starts)}")
    return starts[scheme], scheme


async def start_proxies(ground: Ground, names: tuple[str, ...]) -> tuple[str, ...]:
    """Start the proxies of a chain and return their URLs, first hop first."""
    urls = []
    for number, name in enumerate(names):
        start, scheme = parse_proxy(name)
        port = free_port()
        await start(ground, "proxy" if len(names) == 1 else f"proxy{number + 1}", port)
        urls.append(f"{scheme}://127.0.0.1:{port}")
    return tuple(urls)
