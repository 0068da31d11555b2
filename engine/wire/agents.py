"""What an agent says of itself in its registration, for people who look at the node:

    x-trioduct-agent: 0.1.0 http,socks5h

its version, and its way out: the kinds of the proxies that it leads through, the first one first, or `direct`. No names
of proxies: whose network it is may be nobody's business. Whoever says nothing (Piko's agents) is nobody in particular.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-agent"
DIRECT: Final = "direct"

_SAID: Final = re.compile(rb"([0-9A-Za-z.+-]{1,32}) ([0-9a-z,]{1,64})").fullmatch


class About(NamedTuple):
    """An agent's version and its way out; empty if it has not said them."""

    version: str = ""
    way: str = ""

    def encode(self) -> bytes:
        return f"{self.version} {self.way or DIRECT}".encode()


UNKNOWN: Final = About()


def about_in(fields: Fields) -> About:
    """What a registration says; UNKNOWN for what cannot be read, for nothing depends on it."""
    values = [value for name, value in fields if name.lower() == FIELD]
    found = _SAID(values[0]) if len(values) == 1 else None
    return About(found[1].decode(), found[2].decode()) if found is not None else UNKNOWN
