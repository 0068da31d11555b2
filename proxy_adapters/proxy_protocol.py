"""The PROXY protocol (haproxy's, versions 1 and 2): who is calling, said before anything else.

For balancers in front of a proxy that are set to expect it (`accept-proxy`). Nothing is answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def proxy_header(version: int, source: Sequence[Any] | None, destination: Sequence[Any] | None) -> bytes:
    """The header for a connection between two socket addresses (host, port …); None says nothing about
    them.
    """
    ends = _ends(source, destination)
    if version == 1:
        if ends is None:
            return b"PROXY UNKNOWN\r\n"
        (a, a_port), (b, b_port) = ends
        return f"PROXY TCP{a.version} {a} {b} {a_port} {b_port}\r\n".encode("ascii")
    if ends is None:
        return _SIGNATURE + b"\x20\x00\x00\x00"  # LOCAL: use the connection's own addresses
    (a, a_port), (b, b_port) = ends
    body = a.packed + b.packed + a_port.to_bytes(2, "big") + b_port.to_bytes(2, "big")
    return _SIGNATURE + b"\x21" + (b"\x11" if a.version == 4 else b"\x21") + len(body).to_bytes(2, "big") + body


_End = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def _ends(source: Sequence[Any] | None, destination: Sequence[Any] | None) -> tuple[_End, _End] | None:
    if source is None or destination is None:
        return None
    try:
        a, b = (ipaddress.ip_address(str(end[0]).partition("%")[0]) for end in (source, destination))
    except ValueError:
        return None
    return ((a, int(source[1])), (b, int(destination[1]))) if a.version == b.version else None
