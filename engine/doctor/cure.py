"""Other settings, tried when those of the agent lead nowhere: which of them would?

Nothing that could be a secret is shown to anybody here: proxies are asked without a login and without configured
fields, and the node without its token. So a proxy that wants a login counts as found: it speaks what the setting says,
and the rest is up to the login.
"""

from __future__ import annotations

import os
import secrets
import shlex
import ssl
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import trio

from engine.config import ConnectConfig
from engine.doctor.node import Stopped, ask_for_upgrade, look, secure
from engine.doctor.report import Report, words
from engine.doctor.way import NOBODY, Target
from engine.transport.connection import Connection
from engine.transport.dial import Server
from proxy_adapters import AuthenticationFailed, ProxyURL, Route, Router, TunnelError, open_tunnel

# Who listens on a proxy's port may speak any of these; the second says whether TLS comes first.
KINDS = (("http", False), ("https", True), ("socks5h", False))

TRY_SECONDS = 10.0  # the first bytes tell what somebody speaks; a port that is silent is not worth more


class Cure(NamedTuple):
    """A setting by which the node is reached: what to change, by key, and what then came of it."""

    changes: dict[str, str]
    effect: str

    @property
    def flags(self) -> str:
        """Ready to paste into a command line."""
        return " ".join(
            f"--{key.replace('_', '-')}{f' {shlex.quote(value)}' if value else '='}"
            for key, value in self.changes.items()
        )

    @property
    def yaml(self) -> str:
        """Ready to paste into a file, which wins over flags."""
        import yaml

        tree: dict[str, Any] = {}
        for key, value in self.changes.items():
            section = tree
            *path, name = key.split(".")
            for step in path:
                section = section.setdefault(step, {})
            section[name] = value
        return str(yaml.safe_dump(tree, default_flow_style=True, sort_keys=False, width=1000)).strip()


class Candidate(NamedTuple):
    """A setting that might help: what it changes, in words what it is, and how the node would then be reached."""

    changes: dict[str, str]
    words: str
    route: Route
    target: Target
    context: ssl.SSLContext | None


async def find_cure(
    connect: ConnectConfig, target: Target, route: Route | None, problem: TunnelError | Stopped, report: Report
) -> Cure | None:
    """The first setting by which the node is reached; None if there is none. `route` is the one that failed."""
    for candidate in await _candidates(connect, target, route, problem):
        with report.step("another setting", candidate.words) as step:
            try:
                with trio.fail_after(TRY_SECONDS):
                    step.text = await _try(connect, candidate)
            except (TunnelError, Stopped, trio.TooSlowError) as error:
                step.state, step.text = "failed", words(error)
                continue
            return Cure(candidate.changes, step.text)
    return None


async def _try(connect: ConnectConfig, candidate: Candidate) -> str:
    route, target = candidate.route, candidate.target

    async def dial() -> Connection:
        tunnel = await open_tunnel(target.host, target.port, route=route, scheme=target.scheme)
        connection, _ = await secure(tunnel, candidate.context, connect.tls.server_name or target.host)
        return connection

    try:
        upgrade = await ask_for_upgrade(await dial(), dial, Server(target.url), f"doctor-{secrets.token_hex(4)}", [])
    except AuthenticationFailed as error:
        return f"the proxy answers, and wants a login: {error.fact}"
    except Stopped as stopped:
        if stopped.leg in ("tls", "upgrade") or stopped.cure:
            raise
        return f"the node answers: {stopped}"  # without a token that is no surprise
    return f"the node answers; an upgrade: {upgrade}"


async def _candidates(
    connect: ConnectConfig, target: Target, route: Route | None, problem: TunnelError | Stopped
) -> list[Candidate]:
    found: list[Candidate] = []
    context = connect.tls.client_context() if target.secure else None
    others: list[tuple[Route, str]] = []
    if isinstance(problem, TunnelError):
        others += _other_kinds(route, problem) if route else []
        found += await _other_authorities(connect, target, route, problem, context) if route else []
    elif route is not None:
        same = _bare(route)
        if problem.cure:
            other = target._replace(scheme=problem.cure)
            other_context = connect.tls.client_context() if other.secure else None
            what = f"{problem.cure} in place of {target.scheme}"
            found.append(Candidate({"connect.url": other.url}, what, same, other, other_context))
        if problem.certificate is not None and connect.tls.root_cas:
            system, what = _with_authorities(connect, ""), "the system's authorities"
            found.append(Candidate({"connect.tls.root_cas": ""}, what, same, target, system))
        if problem.certificate is not None and (path := problem.certificate.added):
            added, what = _with_authorities(connect, str(path)), "an authority of this machine"
            found.append(Candidate({"connect.tls.root_cas": str(path)}, what, same, target, added))
    if isinstance(problem, TunnelError) or (problem.leg in ("tls", "upgrade") and route and route.hops):
        others += await _other_sources(connect, target)
    for way, what in others:
        if str(way) != str(route):
            found.append(Candidate(_changes(connect, way), what, _bare(way), target, context))
    return found


async def _other_authorities(
    connect: ConnectConfig, target: Target, route: Route, error: TunnelError, context: ssl.SSLContext | None
) -> list[Candidate]:
    """The same proxies, the one whose certificate is not believed with authorities of this machine."""
    index = error.position - 1
    if not (0 <= index < len(route.hops) and isinstance(error.__cause__, ssl.SSLCertVerificationError)):
        return []
    url = route.hops[index].url
    try:
        tunnel = await open_tunnel(url.host, url.port, route=replace(route, hops=route.hops[:index]))
    except TunnelError:
        return []
    shown = await look(tunnel, url.host)
    key, files = "connect.proxy.tls.root_cas", [""] if connect.proxy.tls.root_cas else []
    files += [str(path)] if shown is not None and (path := shown.added) else []
    found = []
    for file in files:
        tls = msgspec.structs.replace(connect.proxy.tls, root_cas=file).client_context()
        hops = list(_bare(route).hops)
        hops[index] = replace(hops[index], tls=tls)
        what = "an authority of this machine, for the proxy" if file else "the system's authorities, for the proxy"
        found.append(Candidate({key: file}, what, Route(tuple(hops)), target, context))
    return found


def _changes(connect: ConnectConfig, route: Route) -> dict[str, str]:
    """What makes an agent take this route: by the key that is in use, without those that it may not stand beside."""
    text = " -> ".join(map(_with_user, (hop.url for hop in route.hops))) or "direct"
    changes = {"connect.proxy_url" if connect.proxy_url else "connect.proxy.url": text}
    changes |= {"connect.proxy.pac": ""} if connect.proxy.pac else {}
    return changes | ({"connect.proxy.no_proxy": ""} if connect.proxy.no_proxy and route.hops else {})


def _with_authorities(connect: ConnectConfig, root_cas: str) -> ssl.SSLContext:
    """The context for the node, with other authorities."""
    return msgspec.structs.replace(connect.tls, root_cas=root_cas).client_context()


def _other_kinds(route: Route, error: TunnelError) -> list[tuple[Route, str]]:
    """The same proxies, the one that failed spoken to in other ways; it has said no HTTP status, so it may be so."""
    index = error.position - 1
    if not 0 <= index < len(route.hops) or error.status is not None or error.leg.endswith(("dns", "tcp")):
        return []
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return []  # it speaks TLS
    hop = route.hops[index]
    others = []
    for scheme, tls in KINDS:
        if (scheme, tls) != (hop.url.scheme, hop.url.tls):
            changed = replace(hop, url=replace(hop.url, scheme=scheme, tls=tls))
            hops = (*route.hops[:index], changed, *route.hops[index + 1 :])
            others.append((Route(hops), f"{scheme} in place of {str(hop.url).partition(':')[0]}"))
    return others


async def _other_sources(connect: ConnectConfig, target: Target) -> list[tuple[Route, str]]:
    """What the environment says, what the configuration says without its exceptions, and straight."""
    without = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    routers = [(Router(environ=without), "the environment's proxy")]
    if connect.proxy.no_proxy:
        unlimited = msgspec.structs.replace(connect.proxy, no_proxy=[])
        routers.insert(0, (msgspec.structs.replace(connect, proxy=unlimited).router(), "the proxy, without no_proxy"))
    found = []
    for router, what in routers:
        try:
            routes = await router.routes_to(target.host, target.port, scheme=target.scheme)
        except (TunnelError, ValueError):  # nobody has asked for this source, so its own defects are beside the point
            continue
        found += [(route, what if route.hops else "straight") for route in routes]
    return [*found, (Route(()), "straight")] if all(route.hops for route, _ in found) else found


def _bare(route: Route) -> Route:
    """A route without anything that only a proxy we know may be told."""
    hops = []
    for hop in route.hops:
        hops.append(replace(hop, url=replace(hop.url, user=None, password=None), login=NOBODY, headers=()))
    return replace(route, hops=tuple(hops))


def _with_user(url: ProxyURL) -> str:
    """With the place of a password, but not the password."""
    if url.user is None:
        return str(url)
    scheme, _, place = str(url).partition("://")
    return f"{scheme}://{url.user}{':***' if url.password is not None else ''}@{place}"
