"""What an agent says of itself in its registration:

    x-trioduct-agent: 0.1.0 http,socks5h 9f86d081884c7d65 3

its version, its way out, its name, and, unless it is 1, its weight among the agents of the endpoint. The way is the
kinds of the proxies that it leads through, the first one first, or `direct`; no names of proxies: whose network it is
may be nobody's business. The name is drawn at the agent's start, and the same at each worker of a node and behind each
loss, so that its sessions are known for those of one agent. Whoever says nothing (Piko's agents) is somebody else each
time, of weight 1.
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-agent"
DIRECT: Final = "direct"

MAX_WEIGHT: Final = 256  # HAProxy's

_SAID: Final = re.compile(rb"([0-9A-Za-z.+-]{1,32}) ([0-9a-z,]{1,64}) ([0-9a-f]{16})(?: ([0-9]{1,3}))?").fullmatch


def new_name() -> str:
    return secrets.token_hex(8)


class About(NamedTuple):
    """An agent's version and its way out, both empty if it has not said them, its name, and its weight: its share of
    the clients, from 0 (a standby) to MAX_WEIGHT.
    """

    version: str
    way: str
    name: str
    weight: int = 1

    def encode(self) -> bytes:
        said = f"{self.version} {self.way or DIRECT} {self.name}"
        return (said if self.weight == 1 else f"{said} {self.weight}").encode()


UNKNOWN: Final = About("", "", "")


def about_in(fields: Fields) -> About:
    """What a registration says; nothing, and a new name, for what cannot be read."""
    values = [value for name, value in fields if name.lower() == FIELD]
    found = _SAID(values[0]) if len(values) == 1 else None
    if found is None or int(found[4] or 1) > MAX_WEIGHT:
        return About("", "", new_name())
    version, way, name = (group.decode() for group in found.group(1, 2, 3))
    return About(version, way, name, int(found[4] or 1))
