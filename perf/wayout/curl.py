"""curl, as itself: fresh connections, timed by its own clock.

Its options come on standard input, so that no password stands in an argv. What it takes to start is measured with
the smallest errand of the kind and taken off its processor time; its seconds begin after that anyway.
"""

import statistics
from functools import cached_property
from pathlib import Path

import msgspec

from perf.errors import LoadFailed
from perf.topologies.processes import find_program, version_said
from perf.wayout.client import Ended, run
from perf.wayout.way import DIRECT, HOST, Errand, Handshakes, Spent, Transfer, Way

SECONDS = 60
STARTS = 3  # whose median counts


class Curl:
    """curl remembers nothing of a proxy from one tunnel to the next; in place of that it can be told the scheme, which
    is what it does with `remembered`.
    """

    def __init__(self) -> None:
        self._starts: dict[tuple[bytes, Errand], float] = {}

    @cached_property
    def program(self) -> Path:
        """Raises MissingProgram."""
        return find_program("curl")

    def version(self) -> str:
        return " ".join(version_said(self.program, "--version").split()[:2])

    async def spend(self, way: Way, errand: Errand) -> Spent:
        match errand:
            case Handshakes():
                ended = await self._run(way, _handshake_lines(way, errand))
                seconds = [float(line) for line in ended.output.split()[errand.unmeasured :]]
                least: Errand = msgspec.structs.replace(errand, tunnels=0)
                counts = errand.unmeasured > 0
            case Transfer():
                ended = await self._run(way, _transfer_lines(way, errand))
                from_request, to_end = (float(word) for word in ended.output.split())
                seconds = [to_end - from_request]
                least = msgspec.structs.replace(errand, size=1, upload="")
                counts = True
        return Spent(seconds, ended.cpu_seconds - (await self._start_seconds(way, least) if counts else 0.0))

    async def _start_seconds(self, way: Way, least: Errand) -> float:
        key = msgspec.json.encode(way), least
        if key not in self._starts:
            lines = _handshake_lines(way, least) if isinstance(least, Handshakes) else _transfer_lines(way, least)
            self._starts[key] = statistics.median([(await self._run(way, lines)).cpu_seconds for _ in range(STARTS)])
        return self._starts[key]

    async def _run(self, way: Way, lines: list[str]) -> Ended:
        """Raises LoadFailed in curl's words."""
        lines = ["silent", "show-error", "fail-early", 'output = "/dev/null"', f"max-time = {SECONDS}", *lines]
        ended = await run([self.program, "--disable", "--config", "-"], "\n".join(lines).encode(), way.environment)
        if ended.code:
            raise LoadFailed(ended.last_words)
        return ended


def _handshake_lines(way: Way, errand: Handshakes) -> list[str]:
    lines = _proxy_lines(way, told=errand.remembered)
    if not errand.remembered:
        lines.append("no-sessionid")
    last = errand.unmeasured + errand.tunnels - 1
    lines += [f'url = "http://{HOST}:{errand.port}/128?[0-{last}]"', 'header = "Connection: close"']
    # From the start of the transfer to the moment before its request: connected, and through the proxy.
    return [*lines, r'write-out = "%{time_pretransfer}\n"']


def _transfer_lines(way: Way, errand: Transfer) -> list[str]:
    lines = _proxy_lines(way, told=True)
    lines += [f'header = "{line}"' for line in errand.headers]
    lines.append(f'url = "{"https" if errand.tls else "http"}://{HOST}:{errand.port}{errand.path}"')
    if errand.upload:
        lines += [f'upload-file = "{errand.upload}"', 'request = "POST"', 'header = "Expect:"']
    else:
        lines.append(f'range = "0-{errand.size - 1}"')
    return [*lines, r'write-out = "%{time_pretransfer} %{time_total}\n"']


def _proxy_lines(way: Way, *, told: bool) -> list[str]:
    if way == DIRECT:
        return []
    lines = ["proxytunnel"]
    host = HOST
    if way.principal:
        # Its name decides for which service a ticket is asked; looking the name up is no part of the handshake.
        host = way.principal.rpartition("/")[2]
        lines.append(f'resolve = "{host}:{way.port}:{HOST}"')
    lines.append(f'proxy = "{way.scheme}://{host}:{way.port}"')
    if way.authority:
        lines += [f'cacert = "{way.authority}"', f'proxy-cacert = "{way.authority}"']
    if way.curl_scheme:
        lines.append(f"proxy-{way.curl_scheme}" if told else "proxy-anyauth")
    if way.user or way.principal:
        account = f"{way.user}:{way.password}".replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'proxy-user = "{account}"')
    return lines
