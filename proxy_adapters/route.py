"""Which way to a destination: what somebody said explicitly, else a PAC file, else the environment, else
straight.

A *hop* is one proxy with everything that concerns it alone. A *route* is a chain of hops, first to last,
none of them meaning straight, and it remembers which source chose it: "why does it go through that proxy?"
is the question asked most often.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace

from proxy_adapters.auth.login import Login
from proxy_adapters.http_connect import check_field
from proxy_adapters.no_proxy import match_no_proxy
from proxy_adapters.secret import Hidden
from proxy_adapters.url import ProxyURL


@dataclass(frozen=True, slots=True)
class Hop:
    """One proxy of a route.

    `login` None: what the URL's userinfo says · `tls` None: the system's trust · `pin` SHA-256 of its
    certificate (hex) · `headers` extra fields of CONNECT · `proxy_protocol` 1 or 2: the PROXY protocol
    header to begin with, for balancers that expect it · `unsaid`: there is a login, or are headers, that it does not
    get (`Login.withheld` says why).
    """

    url: ProxyURL
    login: Login | None = None
    tls: ssl.SSLContext | None = None
    pin: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    proxy_protocol: int | None = None
    unsaid: bool = False

    def __post_init__(self) -> None:
        for name, value in self.headers:
            check_field(name, value)
        # Their values may be keys.
        object.__setattr__(self, "headers", tuple((name, Hidden(value)) for name, value in self.headers))
        if self.proxy_protocol not in (None, 1, 2):
            raise ValueError(f"PROXY protocol version {self.proxy_protocol}: it must be 1 or 2")

    def or_else(self, default: Hop | None) -> Hop:
        """This hop, with what it leaves open taken from `default` (whose URL does not count)."""
        if default is None:
            return self
        return replace(
            self,
            login=self.login or self._login_of(default),
            tls=self.tls or default.tls,
            pin=self.pin or default.pin,
            headers=self.headers or default.headers,
            proxy_protocol=self.proxy_protocol or default.proxy_protocol,
            unsaid=self.unsaid or default.unsaid,
        )

    def _login_of(self, default: Hop) -> Login | None:
        """Who is named in the URL stays who we are; a password, and what is allowed, may come from elsewhere."""
        if self.url.user is None or default.login is None:
            return default.login
        own = Login.of(self.url)
        if own.password is None:
            return replace(default.login, user=own.user)
        return replace(default.login, user=own.user, password=own.password, nt_hash=None)


@dataclass(frozen=True, slots=True)
class Route:
    """One way: the hops to pass, and the source that chose it (in words, for people).

    `untrusted`: anybody on the way may have written that source, for instance a PAC file that came over plain http.
    """

    hops: tuple[Hop, ...] = ()
    source: str = "direct"
    untrusted: bool = False

    @classmethod
    def parse(cls, text: str, *, source: str = "explicit") -> Route:
        """`direct`, one proxy URL, or a chain of them: `socks5h://a:1080 -> http://b:3128`. Raises
        ValueError.
        """
        if text.strip().lower() in ("direct", "direct://"):
            return cls((), source)
        return cls(tuple(Hop(ProxyURL.parse(part)) for part in text.split("->")), source)

    @property
    def direct(self) -> bool:
        return not self.hops

    def __str__(self) -> str:
        return " -> ".join(str(hop.url) for hop in self.hops) or "direct"


def environment_route(host: str, port: int, *, scheme: str, environ: Mapping[str, str]) -> Route | None:
    """What http_proxy and its family say; None if nothing. `scheme` is the destination's: https, http, wss,
    ws.

    Lower case comes first. HTTP_PROXY is not believed inside CGI, where a client sets it by a header
    (httpoxy). Raises ValueError, which names the variable, for a proxy URL that is none.
    """
    names = {
        "wss": ("wss_proxy", "socks_proxy", "https_proxy", "all_proxy"),  # RFC 6455, 4.1: SOCKS first
        "https": ("https_proxy", "all_proxy"),
        "ws": ("ws_proxy", "socks_proxy", "http_proxy", "all_proxy"),
        "http": ("http_proxy", "all_proxy"),
    }[scheme]
    for name in names:
        for variable in (name, name.upper()):
            value = environ.get(variable, "").strip()
            if not value or (variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
                continue
            no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            if entry := match_no_proxy(host, port, no_proxy):
                return Route((), f"environment: no_proxy entry {entry!r}")
            if name == "socks_proxy" and "://" not in value:
                value = f"socks5h://{value}"
            try:
                return Route.parse(value, source=f"environment: {variable}")
            except ValueError as error:
                raise ValueError(f"environment variable {variable}: {error}") from error
    return None
