"""Which pages may open a connection that carries no credential of theirs: web origins (RFC 6454).

A browser lets any page of any site open a WebSocket to any host that the browser reaches, and says in the field Origin
where the page is from. No other program sends one. That Origin and Host agree proves nothing here: every service behind
a node has pages on the node's own hosts, and a page of a stranger can have its own name resolve to the node's address
(DNS rebinding). So pages are let in by name only.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from engine.wire.http1 import Fields

ANY: Final = "*"
_ORIGIN: Final = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", re.ASCII)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def origin(text: str) -> str:
    """An origin as browsers write it: `https://app.example.com`, without a port that is the scheme's; or `*`, for all
    pages. Raises ValueError.
    """
    if text == ANY:
        return text
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ValueError("no origin")
    scheme, host, port = match.groups()
    return (
        f"{scheme}://{host}"
        if port is None or int(port) == int(_DEFAULT_PORTS[scheme])
        else f"{scheme}://{host}:{port}"
    )


def may_open(fields: Fields, allowed: Collection[str]) -> bool:
    """May who sends these fields open a connection? Whoever is no page of a browser, and the pages that are allowed."""
    origins = [value for name, value in fields if name.lower() == b"origin"]
    return not origins or ANY in allowed or all(value.decode("latin-1").lower() in allowed for value in origins)
