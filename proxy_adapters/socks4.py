"""SOCKS4 and 4a (no RFC: the texts by Ying-Da Lee): one request, one answer of eight bytes.

Version 4 knows IPv4 only, so a name is resolved here; 4a sends the impossible address 0.0.0.1 and the name
behind the user id, and the proxy resolves. Not everyone does 4a: dante really connects to 0.0.0.1.
"""

from __future__ import annotations

import ipaddress

from proxy_adapters.errors import PROXY_ADMIN, YOU, HopUnreachable, NotAProxy, TunnelRefused
from proxy_adapters.handshake import Hear, Leg, Say, Script, exactly
from proxy_adapters.url import normal_host

_REFUSALS = {
    91: ("the request was rejected or the destination could not be reached", PROXY_ADMIN),
    92: ("it wants an identd on this machine to answer and found none", YOU),
    93: ("identd here named another user than we did", YOU),
}


def socks4(host: str, port: int, *, user: str = "") -> Script[None]:
    """Ask a SOCKS4 proxy for `host:port`. A name in place of an IPv4 address makes it SOCKS4a."""
    yield Leg("proxy-request")
    name = normal_host(host)
    try:
        address, tail = ipaddress.IPv4Address(name).packed, b""
    except ValueError:
        if ":" in name:
            raise TunnelRefused(
                f"SOCKS4 cannot carry the IPv6 address {name}", advice="use socks5h://", who=YOU
            ) from None
        address, tail = b"\x00\x00\x00\x01", name.encode("ascii") + b"\x00"
    user_id = user.encode("utf-8")
    if len(user_id) > 255 or b"\x00" in user_id:
        raise TunnelRefused("a SOCKS4 user id has at most 255 bytes and no NUL", who=YOU)
    yield Say(b"\x04\x01" + port.to_bytes(2, "big") + address + user_id + b"\x00" + tail)
    try:
        version, code = (yield Hear(exactly(8)))[:2]
    except HopUnreachable as error:
        raise HopUnreachable(
            "it closed the connection without an answer",
            advice="either it speaks no SOCKS4 (try socks5h://), or it could not reach the destination",
        ) from error
    if version not in (0, 4):
        raise NotAProxy(f"expected a SOCKS4 answer (version 0), got {version}", advice="try socks5h:// or http://")
    if code != 90:
        fact, who = _REFUSALS.get(code, (f"unknown SOCKS4 code {code:#04x}", PROXY_ADMIN))
        advice = "if the proxy does SOCKS4 without the 'a', it cannot resolve names: try socks5h://" if tail else ""
        raise TunnelRefused(fact, status=code, who=who, retryable=code == 91, advice=advice)
