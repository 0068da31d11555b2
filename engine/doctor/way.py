"""The way as far as the node's port: which route and why, then hop by hop, each with what it answers.

An agent opens a tunnel in one go and tries one authentication scheme after the other inside it. Here each of that is
asked for on its own, by the same code, so that it can be told how it went: first without any login (what does the
proxy want?), then scheme by scheme in the agent's own order, each on a connection of its own as there. No secret
goes where an agent would not send it: a scheme that is not on offer is not tried, and what was refused is kept in
the same memory, so that it is not sent again.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Final, NamedTuple

import trio

from engine.doctor.certificate import Certificate
from engine.doctor.report import Report
from proxy_adapters import AuthenticationFailed, Hop, Login, ProxyURL, Route, Router, Tunnel, TunnelError, open_tunnel
from proxy_adapters.tls import TLSLayer, default_proxy_context

NOBODY: Final = Login(schemes=())


class Target(NamedTuple):
    """The node's port."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def secure(self) -> bool:
        return self.scheme in ("https", "wss")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Way:
    """Walks routes to one node's port. `route` is the one gone last, if one was chosen; `local` our address on it."""

    def __init__(self, target: Target, report: Report) -> None:
        self.target = target
        self.local = ""
        self.route: Route | None = None
        self._report = report
        self._dialled: set[tuple[str, int]] = set()

    async def walk(self, router: Router) -> tuple[Route, Tunnel]:
        """A tunnel to the node by the first route that leads there. Raises TunnelError; the last one's."""
        target = self.target
        with self._report.step("route", target.place) as step:
            routes = await router.routes_to(target.host, target.port, scheme=target.scheme)
            others = "".join(f", else {route}" for route in routes[1:])
            why = "no proxy is configured" if routes[0].source == "direct" else routes[0].source
            step.text = f"{routes[0]}{others} ({why})"
        for index, route in enumerate(routes):
            self.route = route
            try:
                tunnel = await self.walk_route(route)
            except TunnelError as error:
                if not router.went(route, error) or index == len(routes) - 1:
                    raise
                self._report.add_note("route", f"{error.fact}; so the next one: {routes[index + 1]}")
            else:
                router.went(route, None)
                return route, tunnel
        raise AssertionError("there is always a route")

    async def walk_route(self, route: Route) -> Tunnel:
        """A tunnel to the node by this route, each hop examined on its own. Raises TunnelError."""
        hops = route.hops
        if not hops:
            return await self.open(route)
        for index, hop in enumerate(hops):
            before = replace(route, hops=hops[:index])
            await self._reach(before, hop, index + 1)
            following = hops[index + 1].url if index + 1 < len(hops) else self.target
            tunnel = await self._pass(before, hop, following)
            if index + 1 == len(hops):
                return tunnel
            await tunnel.aclose()
        raise AssertionError("a route without hops was handled above")

    async def open(self, route: Route) -> Tunnel:
        """A tunnel to the node, as an agent opens one. Raises TunnelError."""
        return await self._open(route, self.target.host, self.target.port)

    async def _reach(self, before: Route, hop: Hop, position: int) -> None:
        """TCP, and TLS if it wants that, with one proxy."""
        if (position > 1 and not hop.url.tls) or hop.proxy_protocol:
            return
        context = (hop.tls or default_proxy_context()) if hop.url.tls else False
        with self._report.step("tls", str(hop.url)) if hop.url.tls else nullcontext() as step:
            try:
                tunnel = await open_tunnel(
                    hop.url.host,
                    hop.url.port,
                    route=before,
                    tls=context,
                    server_hostname=hop.url.host,
                    dial=self._dial,
                )
            except TunnelError as error:
                if error.position == position:  # there it was a destination, here it is a proxy
                    error.hop, error.leg = str(hop.url), error.leg.replace("target", "proxy")
                raise
            if step is not None:
                step.text = described(tunnel.tls_layers[-1])
            await trio.aclose_forcefully(tunnel)

    async def _pass(self, before: Route, hop: Hop, following: ProxyURL | Target) -> Tunnel:
        """A tunnel through one proxy to what comes next."""
        name = "CONNECT" if hop.url.scheme in ("http", "https") else hop.url.scheme.upper()
        host, port = following.host, following.port
        if name != "CONNECT":
            with self._report.step(name, str(hop.url)) as step:
                tunnel = await self._open(_through(before, hop), host, port)
                step.text = f"a tunnel to {following.place}"
                return tunnel
        login = hop.login or Login.of(hop.url)
        with self._report.step(name, str(hop.url)) as step:
            try:
                tunnel = await self._open(_through(before, replace(hop, login=NOBODY)), host, port)
            except AuthenticationFailed as error:
                step.text = f"it wants to know who we are: {error.fact}"
                asked = error
            else:
                step.text = f"a tunnel to {following.place}, without a login"
                return tunnel
        attempts: list[str] = []
        for scheme in login.schemes:
            with self._report.step("authentication", str(hop.url)) as step:
                try:
                    tunnel = await self._open(
                        _through(before, replace(hop, login=replace(login, schemes=(scheme,)))), host, port
                    )
                except AuthenticationFailed as error:
                    attempts += error.attempts
                    step.text = "; ".join(error.attempts)
                    step.state = "note" if error.attempts else "passed over"  # which is: not on offer
                else:
                    who = f" as {login.user}" if login.user else ""
                    step.text = f"{scheme}: accepted{who}; a tunnel to {following.place}"
                    return tunnel
        raise _nobody(asked, login, attempts)

    async def _open(self, route: Route, host: str, port: int) -> Tunnel:
        return await open_tunnel(host, port, route=route, dial=self._dial)

    async def _dial(self, host: str, port: int) -> trio.SocketStream:
        """What open_tunnel dials with; the first time it is told how name and connection went."""
        if (host, port) in self._dialled:
            return await trio.open_tcp_stream(host, port)
        self._dialled.add((host, port))
        with self._report.step("dns", host) as step:
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
            step.text = ", ".join(addresses)
            step.state = "passed over" if addresses == [host] else "ok"
        with self._report.step("tcp", f"{host}:{port}") as step:
            stream = await trio.open_tcp_stream(host, port)
            self.local = str(stream.socket.getsockname()[0])
            step.text = f"connected to {stream.socket.getpeername()[0]} from {self.local}"
        return stream


def _through(before: Route, hop: Hop) -> Route:
    return replace(before, hops=(*before.hops, hop))


def described(layer: TLSLayer) -> str:
    """What TLS with somebody came to."""
    return described_object(layer.object.version(), layer.object.getpeercert(binary_form=True))


def described_object(version: str | None, der: bytes | None) -> str:
    certificate = Certificate.read(der)
    who = f", certificate of {certificate.subject} by {certificate.issuer}" if certificate else ""
    return f"{version}{who}"


def _nobody(asked: AuthenticationFailed, login: Login, attempts: list[str]) -> AuthenticationFailed:
    """What an agent would say after all of it."""
    fact = "; ".join([asked.fact, *attempts])
    advice = asked.advice  # which says what would have to be allowed
    if attempts:
        advice = "check user, password or ticket; what was refused is not sent again until it changes"
    error = AuthenticationFailed(fact, attempts=tuple(attempts), advice=advice, status=asked.status)
    error.hop, error.position, error.leg, error.heard = asked.hop, asked.position, "proxy-auth", asked.heard
    return error
