"""All the ways there are, in the order in which to try them, and which of them were bad lately.

Chromium's rules, because PAC files are written for browsers: the next route is tried when a proxy cannot be
reached or does not work as one, not when it says no; a proxy that failed goes to the END of the list for
five minutes and is not dropped; straight to the destination only where the list says DIRECT.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import trio

from proxy_adapters.auth.login import Login
from proxy_adapters.errors import TunnelError
from proxy_adapters.network import my_addresses
from proxy_adapters.no_proxy import match_no_proxy
from proxy_adapters.route import Hop, Route, environment_route
from proxy_adapters.url import normal_host

BAD_SECONDS = 300

#: So long the route that carried a tunnel is the first choice for its destination; then the list's order is tried.
STICKY_SECONDS = 600

MAXIMUM_DESTINATIONS = 1000


class RouteSource(Protocol):
    """What a PAC file is to a router (`pac.PAC`)."""

    async def routes(self, host: str, port: int, scheme: str) -> list[Route]: ...

    def distrust(self) -> None: ...


class Router:
    """Decides; `open_tunnel(host, port, route=router)` goes. One per process, or per set of settings.

    `routes` what was configured explicitly, best first (a Route, or text for `Route.parse`) · `pac` who is
    asked if there are none · `no_proxy` what goes straight nevertheless · `environ` where HTTPS_PROXY and the
    like are looked up: the process's environment, a mapping in its place, or None for nowhere · `default` what
    hops of any source get where they say nothing themselves (login, TLS, headers) · `login_hosts` if given, the
    only proxies that get the default's login. A proxy that only a PAC file over plain http names, which may be
    anybody's, gets neither login nor headers unless it is one of them · `on_refusal` "next":
    move on to the next route also when a proxy refuses or wants another login. Raises ValueError for routes that
    cannot be read.
    """

    def __init__(
        self,
        routes: Sequence[Route | str] = (),
        *,
        no_proxy: str = "",
        pac: RouteSource | None = None,
        environ: Mapping[str, str] | Literal["process"] | None = "process",
        default: Hop | None = None,
        login_hosts: Collection[str] = (),
        on_refusal: str = "stop",
    ) -> None:
        if on_refusal not in ("stop", "next"):
            raise ValueError(f'on_refusal is "stop" or "next", not {on_refusal!r}')
        self._routes = [Route.parse(route) if isinstance(route, str) else route for route in routes]
        self._no_proxy = no_proxy
        self._pac = pac
        self._environ = os.environ if environ == "process" else environ
        self._default = default
        self._login_hosts = {normal_host(name) for name in login_hosts}
        self._on_refusal = on_refusal
        self._bad_until: dict[str, float] = {}
        self._carried: dict[tuple[str, int], tuple[str, float]] = {}  # destination: route, until when it stays first
        self._network = my_addresses()

    async def routes_to(self, host: str, port: int, *, scheme: str = "https") -> list[Route]:
        """The ways to `host:port`, best first, never empty. `scheme` is the destination's: https, http, wss
        or ws.
        """
        routes = await self._choose(host, port, scheme)
        routes = [
            replace(route, hops=tuple(hop.or_else(self._default_for(hop, route)) for hop in route.hops))
            for route in routes
        ]
        network = my_addresses()
        if network != self._network:  # the laptop has moved: what was bad there may be good here
            self._bad_until.clear()
            self._carried.clear()
            self._network = network
        now = trio.current_time()
        carried, until = self._carried.get((host, port), ("", 0.0))

        def rank(route: Route) -> int:
            if self._bad_until.get(str(route), 0) > now:
                return 2
            return 0 if str(route) == carried and until > now else 1

        return sorted(routes, key=rank)  # stable

    def _default_for(self, hop: Hop, route: Route) -> Hop | None:
        default, host = self._default, normal_host(hop.url.host)
        if host in self._login_hosts:
            return default
        if route.untrusted:
            # Not only what was configured: the machine's own Kerberos ticket is for nobody's asking either.
            why = f"only a PAC file that came over plain http names it: get that by https, or add {host} to login_hosts"
            default = default or Hop(hop.url)
            login = default.login or Login()
            unsaid = bool(default.headers or login.user or login.has_secrets)
            return replace(default, login=replace(login, withheld=why), headers=(), unsaid=unsaid)
        if self._login_hosts and default is not None:
            return replace(default, login=None)
        return default

    async def _choose(self, host: str, port: int, scheme: str) -> list[Route]:
        if self._no_proxy and (entry := match_no_proxy(host, port, self._no_proxy)):
            return [Route((), f"no_proxy entry {entry!r}")]
        if self._routes:
            return self._routes
        if self._pac is not None:
            if _near(host):  # as browsers do it: scripts do not expect to be asked about these
                return [Route((), "this machine's own address")]
            return await self._pac.routes(host, port, scheme)
        if self._environ is not None:
            found = environment_route(host, port, scheme=scheme, environ=self._environ)
            if found is not None:
                return [found]
        return [Route()]

    def went(self, route: Route, error: TunnelError | None, *, to: tuple[str, int] | None = None) -> bool:
        """Learn how a route went (`to` a destination); True if the next one should be tried."""
        name, now = str(route), trio.current_time()
        if error is None:
            self._bad_until.pop(name, None)
            if to is not None:
                carried, until = self._carried.get(to, ("", 0.0))
                if carried != name or until <= now:
                    if len(self._carried) >= MAXIMUM_DESTINATIONS:
                        self._carried.clear()
                    self._carried[to] = name, now + STICKY_SECONDS
            return False
        if error.tries_next and error.position <= len(route.hops):
            self._bad_until[name] = now + BAD_SECONDS
            return True
        return self._on_refusal == "next"

    def all_failed(self) -> None:
        """No route led there: ask a PAC file anew the next time."""
        if self._pac is not None:
            self._pac.distrust()


def _near(host: str) -> bool:
    name = normal_host(host)
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return address.is_loopback or address.is_link_local
