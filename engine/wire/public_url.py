"""Where what a node serves is reached from outside: its public URL, as it is configured, told to an agent, and read.

A host that begins with `*.` stands for a wildcard record: the endpoint is the first label (`https://*.example.com`,
`https://shop.example.com`). Any other URL needs the field x-piko-endpoint beside it.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from engine.wire import piko
from engine.wire.http1 import Fields

MAX_BYTES: Final = 300
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NAME: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URL: Final = re.compile(
    rf"(https?)://(?:(\*\.)?({_NAME}(?:\.{_NAME})*)|\[([0-9a-f:.]+)\])(?::([0-9]{{1,5}}))?/?", re.ASCII
)
_label: Final = re.compile(_NAME, re.ASCII).fullmatch


class Reach(NamedTuple):
    """How an endpoint is reached: at `url`, and if `by_field` only with its name in the field x-piko-endpoint."""

    url: str
    by_field: bool


class PublicURL(NamedTuple):
    """The public URL of a node. `place` is host and port, without the `*.` of a wildcard."""

    scheme: str
    wildcard: bool
    place: str

    @classmethod
    def parse(cls, text: str) -> PublicURL:
        """Read `https://tunnel.example.com`, `http://*.example.com:8000` and the like; no path. Raises ValueError."""
        match = _URL.fullmatch(text.lower()) if text.isascii() and len(text) <= MAX_BYTES else None
        if match is None:
            raise ValueError("no public URL")
        scheme, wildcard, name, ipv6, digits = match.groups()
        port = int(digits) if digits else _DEFAULT_PORTS[scheme]
        if not 0 < port < 65536:
            raise ValueError("a port out of range")
        host = name or f"[{IPv6Address(ipv6)}]"
        return cls(scheme, bool(wildcard), host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}")

    def __str__(self) -> str:
        return f"{self.scheme}://{'*.' if self.wildcard else ''}{self.place}"

    def at(self, hosts: str) -> PublicURL:
        """The same with other hosts, as `*.example.com`. Raises ValueError."""
        port = re.search(r":[0-9]+$", self.place)
        return PublicURL.parse(f"{self.scheme}://{hosts}{port[0] if port else ''}")

    def reach(self, endpoint: str) -> Reach:
        """How `endpoint` is reached."""
        if not self.wildcard:
            return Reach(str(self), True)
        if _label(endpoint):
            return Reach(f"{self.scheme}://{endpoint}.{self.place}", False)
        return Reach(f"{self.scheme}://tunnel.{self.place}", True)  # any label will do, because the field wins


def told(fields: Fields) -> PublicURL | None:
    """The public URL that a node tells in its answer to a registration; None if it tells none that can be one.

    The node is believed no more than its connection is: what comes back is a URL of plain characters, whatever it said.
    """
    values = [value for name, value in fields if name.lower() == piko.PUBLIC_URL]
    return told_text(values[0].decode("latin-1")) if len(values) == 1 else None


def told_text(text: str) -> PublicURL | None:
    """The same, of a text."""
    try:
        return PublicURL.parse(text)
    except ValueError:
        return None
