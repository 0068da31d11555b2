"""The way as far as the node's port: one attempt, an agent's, told leg by leg while it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from engine.doctor.certificate import Certificate
from engine.doctor.report import Report, State, Step
from proxy_adapters import Deadlines, Route, Router, Seen, Tunnel, open_tunnel

# An agent does not wait so long, but squid says only after 60 s that it could not reach the destination.
DEADLINES = Deadlines(proxy_request=65.0, proxy_auth=65.0)


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


def _of_no_use(scheme: str, environ: Mapping[str, str]) -> str:
    """Which variable names a proxy, but not for such a URL (curl(1), ENVIRONMENT): set and not heeded, it puzzles."""
    if scheme in ("http", "ws"):
        for variable in ("https_proxy", "HTTPS_PROXY"):
            if environ.get(variable):
                return f" for {scheme}:// ({variable} is for https:// and wss:// only, http_proxy is for this)"
    return ""


class Way:
    """Goes to one node's port. `route` is the one gone last, if one was chosen; `local` our address on it."""

    def __init__(self, target: Target, report: Report) -> None:
        self.target = target
        self.local = ""
        self.route: Route | None = None
        self._report = report
        self._under_way: dict[tuple[str, int, str], tuple[Seen, ExitStack]] = {}
        self._logins: set[tuple[str, int]] = set()  # route, position: where a login was asked for
        self._told: set[tuple[str, str, str]] = set()
        self._failed = ""  # what the route before died of, until the next one is begun

    async def walk(self, router: Router) -> tuple[Route, Tunnel]:
        """A tunnel to the node, as an agent opens one. Raises TunnelError."""
        target = self.target
        try:
            tunnel = await open_tunnel(
                target.host, target.port, route=router, scheme=target.scheme, deadlines=DEADLINES, watch=self._see
            )
        finally:
            for _, waiting in self._under_way.values():
                waiting.close()
        assert self.route is not None
        return self.route, tunnel

    async def open(self, route: Route) -> Tunnel:
        """Another tunnel to the node by this route. Raises TunnelError."""
        return await open_tunnel(self.target.host, self.target.port, route=route)

    def _see(self, seen: Seen) -> None:
        """What `open_tunnel` tells."""
        key = str(seen.route), seen.position, seen.leg
        if seen.outcome == "begun":
            self._begin(key, seen)
            return
        if seen.outcome == "warning":
            self._report.add_note("warning", seen.text, seen.hop)
            return
        begun, waiting = self._under_way.pop(key, (seen, ExitStack()))
        waiting.close()
        self.route = seen.route or self.route
        if seen.outcome == "failed":
            self._failed = seen.text
        step = self._step(seen, begun)
        step.seconds = seen.seconds
        if (step.name, step.place, step.text) not in self._told:  # some proxies make us connect once more for a login
            self._report.add(step)
        self._told.add((step.name, step.place, step.text))

    def _begin(self, key: tuple[str, int, str], seen: Seen) -> None:
        if self._failed and seen.route != self.route:
            self._report.add_note("route", f"{self._failed}; so the next one: {seen.route}")
            self._failed = ""
        waiting = ExitStack()
        waiting.enter_context(self._report.waiting(f"{_name(seen)} {seen.hop} {seen.text}".rstrip()))
        self._under_way[key] = seen, waiting

    def _step(self, seen: Seen, begun: Seen) -> Step:
        step = Step(_name(seen), seen.hop, _STATES[seen.outcome], seen.text)
        asked = str(seen.route), seen.position
        match seen.leg.rpartition("-")[2]:
            case "route":
                step.place = self.target.place
                nothing = f"no proxy is configured{_of_no_use(self.target.scheme, os.environ)}"
                step.text = seen.text.replace("chosen by direct", nothing).replace("chosen by ", "")
            case "fetch" | "eval":
                step.place = self.target.place
            case "dns" if seen.outcome == "ok":
                step.place = _host(seen)
                step.text = ", ".join(seen.addresses)
                if not seen.addresses or seen.addresses == (step.place,):
                    step.state = "passed over"
            case "tcp" if seen.outcome == "ok":
                there, self.local = seen.addresses
                step.text = f"connected to {there} from {self.local}"
            case "tls" if seen.tls is not None:
                step.text = described(seen.tls.object.version(), seen.tls.object.getpeercert(binary_form=True))
            case "request" if seen.outcome == "next":
                self._logins.add(asked)
                step.state, step.text = "ok", f"it requires authentication: {seen.text}"
            case "request" if seen.outcome == "ok":
                step.state = "ok" if seen.text else "passed over"
                step.text += "" if asked in self._logins or step.name != "CONNECT" else ", without a login"
            case "auth":
                user = _user(seen)
                step.text = step.text.replace("accepted", f"accepted as {user}", 1) if user else step.text
                if seen.outcome == "ok" and not step.text:
                    step.text = f"{begun.text}: accepted{f' as {user}' if user else ''}"
                if seen.outcome == "failed" and asked in self._logins and not begun.text:
                    step.state = "passed over"  # each attempt was told
                self._logins.add(asked)
        if seen.outcome == "next" and seen.leg != "proxy-request" and seen.text == "given up":
            step.state = "passed over"
        return step


_STATES: dict[str, State] = {"ok": "ok", "next": "note", "failed": "failed"}


def _name(seen: Seen) -> str:
    kind = seen.leg.rpartition("-")[2]
    if kind == "request" and seen.route is not None:
        scheme = seen.route.hops[seen.position - 1].url.scheme
        return "CONNECT" if scheme in ("http", "https") else scheme.upper()
    return {"auth": "authentication", "fetch": "route", "eval": "route"}.get(kind, kind)


def _host(seen: Seen) -> str:
    """Whose name was resolved."""
    if seen.route is None or seen.leg.startswith("target"):
        return seen.hop.rpartition(":")[0].strip("[]")
    return seen.route.hops[seen.position - 1].url.host


def _user(seen: Seen) -> str:
    if seen.route is None:
        return ""
    hop = seen.route.hops[seen.position - 1]
    return (hop.login.user if hop.login else hop.url.user) or ""


def described(version: str | None, der: bytes | None) -> str:
    """What TLS with somebody came to."""
    certificate = Certificate.read(der)
    who = f", certificate of {certificate.subject} by {certificate.issuer}" if certificate else ""
    return f"{version}{who}"
