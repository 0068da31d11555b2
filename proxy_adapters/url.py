"""Names of hosts and proxies: what a person writes, made exact once, and never shown with its password.

A proxy URL is `scheme://user:password@host:port`. It is not quite RFC 3986: people paste passwords raw, so
the userinfo ends at the LAST '@', a '%' without two hex digits stays a '%', and '\\' (DOMAIN\\user) is
welcome. The port is required: curl takes 1080 where none is written, Chromium 80, squid listens on 3128,
and a guess costs an hour of somebody's day.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import idna

SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def normal_host(host: str) -> str:
    """`host` as protocols want it: an IP address in its shortest form without brackets and zone, or a
    lower-case A-label (IDNA 2008 after UTS 46) without a trailing dot. Raises ValueError for what cannot be
    a host.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare.partition("%")[0]))
    except ValueError:
        pass
    name = bare.rstrip(".").lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise ValueError(f"no host name: {host!r} ({error})") from error
    # Not only what DNS allows (names with '_' exist), but nothing that could end a header field or a URL.
    if not re.fullmatch(r"[a-z0-9_*+!$&'~-][a-z0-9._*+!$&'~-]{0,254}", name):
        raise ValueError(f"no host name: {host!r}")
    return name


def authority(host: str, port: int) -> str:
    """`host:port` in authority-form (RFC 9112, 3.2.3): the port always, IPv6 in brackets."""
    name = normal_host(host)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


@dataclass(frozen=True, slots=True, repr=False)
class ProxyURL:
    """One proxy: where it listens, what it speaks, who we are to it. `str` and `repr` never show the
    userinfo.

    `tls` says that TLS comes before anything else (`https://`, or any `socks…+tls://`).
    """

    scheme: str
    host: str
    port: int
    user: str | None = field(default=None, compare=True)
    password: str | None = field(default=None, compare=True)
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> ProxyURL:
        """Read what a person wrote. Raises ValueError with a sentence that repeats no secret."""
        text = text.strip()
        if re.search(r"[\x00-\x20\x7f]", text):
            raise ValueError("a proxy URL has no blanks and no control characters (write them as %20 …)")
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        scheme = scheme.lower()
        plain_scheme = scheme.removesuffix("+tls")
        if plain_scheme == "socks":
            plain_scheme = "socks5h"
        if plain_scheme not in SCHEMES or (scheme.endswith("+tls") and plain_scheme.startswith("http")):
            raise ValueError(f"proxy scheme {scheme!r}: it must be one of {', '.join(SCHEMES)}")
        userinfo, at, place = rest.rpartition("@")
        place = place.rstrip("/")
        match = re.fullmatch(r"(\[[^\]/@]+\]|[^:/?#\[\]]+)(?::([0-9]{1,5}))?", place)
        if match is None:
            raise ValueError(f"proxy URL with host {place!r}: expected scheme://user:password@host:port")
        host, port = match[1], int(match[2] or 0)
        if match[2] and not 1 <= port <= 65535:
            raise ValueError(f"port {port} of the proxy: it must be from 1 to 65535")
        if not port:
            raise ValueError(
                f"name the port of the proxy: {scheme}://{host}:PORT (3128 and 8080 are common, SOCKS 1080)"
            )
        normal_host(host)
        user, colon, password = userinfo.partition(":")
        return cls(
            plain_scheme,
            host.strip("[]"),
            port,
            _decoded(user) if at else None,
            _decoded(password) if colon else None,
            tls=scheme == "https" or scheme.endswith("+tls"),
        )

    @property
    def place(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        suffix = "+tls" if self.tls and self.scheme != "https" else ""
        return f"{self.scheme}{suffix}://{self.place}"

    def __repr__(self) -> str:
        return f"<ProxyURL {self}{' with user' if self.user is not None else ''}>"


def _decoded(text: str) -> str:
    raw = unquote_to_bytes(text)
    try:
        decoded = raw.decode("utf-8")
    except UnicodeDecodeError:
        decoded = raw.decode("latin-1")
    if re.search(r"[\x00-\x1f\x7f]", decoded):
        raise ValueError("control characters in the user or password of a proxy URL")
    return decoded
