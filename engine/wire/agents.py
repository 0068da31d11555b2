"""What an agent says of itself in its registration:

    x-trioduct-agent: 0.1.0 http,socks5h 9f86d081884c7d65

its version, its way out, and its name. The way is the kinds of the proxies that it leads through, the first one first,
or `direct`; no names of proxies: whose network it is may be nobody's business. The name is drawn at the agent's start,
and the same at each worker of a node and behind each loss, so that its sessions are known for those of one agent.
Whoever says nothing (Piko's agents) is somebody else each time.
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-agent"
DIRECT: Final = "direct"

_SAID: Final = re.compile(rb"([0-9A-Za-z.+-]{1,32}) ([0-9a-z,]{1,64}) ([0-9a-f]{16})").fullmatch


def new_name() -> str:
    return secrets.token_hex(8)


class About(NamedTuple):
    """An agent's version and its way out, both empty if it has not said them, and its name."""

    version: str
    way: str
    name: str

    def encode(self) -> bytes:
        return f"{self.version} {self.way or DIRECT} {self.name}".encode()


UNKNOWN: Final = About("", "", "")


def about_in(fields: Fields) -> About:
    """What a registration says; nothing, and a new name, for what cannot be read."""
    values = [value for name, value in fields if name.lower() == FIELD]
    found = _SAID(values[0]) if len(values) == 1 else None
    if found is None:
        return About("", "", new_name())
    version, way, name = (group.decode() for group in found.groups())
    return About(version, way, name)
