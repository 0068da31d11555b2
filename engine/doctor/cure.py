"""Other settings, tried when those of the agent lead nowhere: which of them would?

They are tried at once, for most of what leads nowhere is silent, and the first of their order that leads there is it.

No secret is shown to anybody who would not be shown it by the agent: the node is asked without its token, and only the
proxies that have led to the node, or refused to, get the login that they got from the agent. Others are asked without
one, and without configured fields; one that requires authentication, or whose certificate is not trusted, counts as
found: it speaks what the setting says, and the rest is said beside it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import ssl
from dataclasses import replace
from itertools import count, takewhile
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import trio

from engine.config import MASK, ConnectConfig, split_url
from engine.doctor.node import Stopped, ask_for_upgrade, look, secure
from engine.doctor.report import Report, Step, words
from engine.doctor.way import Target
from engine.loop.connection import Connection
from engine.loop.dial import Server
from proxy_adapters import (
    AuthenticationFailed,
    Deadlines,
    HopTLSError,
    Login,
    ProxyURL,
    Route,
    Router,
    TunnelError,
    open_tunnel,
)

# Who listens on a proxy's port may speak any of these; the second says whether TLS comes first.
KINDS = (("http", False), ("https", True), ("socks5h", False))

# Where proxies listen, and what they speak there, if nobody has changed it.
USUAL_PORTS = ((3128, "http"), (8080, "http"), (8888, "http"), (80, "http"), (443, "https"), (1080, "socks5h"))

NOBODY = Login(schemes=())

PASSWORD_VARIABLE = "TRIODUCT_PROXY_PASSWORD"  # for a password that a setting needs and does not show

TRY_SECONDS = 10.0  # the first bytes tell what somebody speaks; a port that is silent is not worth more
TCP_SECONDS = 4.0  # SYN goes out at 0, 1 and 3 s


class Cure(NamedTuple):
    """A setting by which the node is reached, or at least more of the way: what to change, by key, and the outcome."""

    changes: dict[str, str]
    effect: str
    reached: bool
    warning: str = ""  # what to do first, or to know

    @property
    def flags(self) -> str:
        """Ready to paste into a command line."""
        return " ".join(
            f"--{key.replace('_', '-')}{f' {shlex.quote(value)}' if value else '='}"
            for key, value in self.changes.items()
        )

    @property
    def yaml(self) -> str:
        """Lines of a file, which wins over flags."""
        import yaml

        tree: dict[str, Any] = {}
        for key, value in self.changes.items():
            section = tree
            *path, name = key.split(".")
            for step in path:
                section = section.setdefault(step, {})
            section[name] = value
        return str(yaml.safe_dump(tree, default_flow_style=False, sort_keys=False, width=1000)).strip()


class Candidate(NamedTuple):
    """A setting that might help: what it changes, in words what it is, and how the node would then be reached."""

    changes: dict[str, str]
    words: str
    route: Route
    target: Target
    context: ssl.SSLContext | None
    partial: bool = True  # whether a proxy that wants something more counts as found


async def find_cure(
    connect: ConnectConfig, target: Target, route: Route | None, problem: TunnelError | Stopped, report: Report
) -> Cure | None:
    """The first setting by which the node is reached, or one that gets further; None if there is none.

    `route` is the one that failed. Where a proxy requires authentication, or has refused it, the proxy is right
    and the credentials are not: no other setting is tried, least of all one that goes past the proxy.
    """
    if isinstance(problem, AuthenticationFailed):
        return None
    with report.waiting("other settings"):
        candidates = await _candidates(connect, target, route, problem, report)
        outcomes: dict[int, Cure | None] = {}
        async with trio.open_nursery() as nursery:

            async def attempt(index: int) -> None:
                outcomes[index] = await _attempt(connect, candidates[index], report)
                if any(outcomes[known] for known in takewhile(outcomes.__contains__, count())):
                    nursery.cancel_scope.cancel()  # for all that come before it in their order are known

            for index in range(len(candidates)):
                nursery.start_soon(attempt, index)
    found = next((cure for _, cure in sorted(outcomes.items()) if cure is not None), None)
    return found and found._replace(warning=_warning(connect, found.changes))


def _warning(connect: ConnectConfig, changes: dict[str, str]) -> str:
    """What a setting gives away, and what it needs that is not shown."""
    if changes.get("connect.url", "").startswith("http://") and split_url(connect.url).scheme in ("https", "wss"):
        token = ", the token of connect.token included" if connect.token or connect.token_file else ""
        return (
            f"Warning: everybody on the way can then read what passes{token}; it is better to have the node speak TLS"
            " (upstream.tls.cert and upstream.tls.key there)"
        )
    if user := changes.get("connect.proxy.user"):
        return f"Put the password of {user} into the environment variable {PASSWORD_VARIABLE} first"
    if any(f":{MASK}@" in value for value in changes.values()):
        return f"Write the passwords in the place of {MASK} first"
    return ""


async def _attempt(connect: ConnectConfig, candidate: Candidate, report: Report) -> Cure | None:
    step = Step("another setting", candidate.words)
    since = trio.current_time()
    cure = None
    try:
        with trio.fail_after(TRY_SECONDS):
            cure = await _try(connect, candidate)
    except (TunnelError, Stopped, trio.TooSlowError) as error:
        step.state, step.text = "failed", words(error)
    else:
        step.text = cure.effect
    step.seconds = trio.current_time() - since
    report.add(step)
    return cure


async def _try(connect: ConnectConfig, candidate: Candidate) -> Cure:
    changes, _, route, target, context, partial = candidate

    async def dial() -> Connection:
        deadlines = Deadlines(tcp=TCP_SECONDS)
        tunnel = await open_tunnel(target.host, target.port, route=route, scheme=target.scheme, deadlines=deadlines)
        connection, _ = await secure(tunnel, context, connect.tls.server_name or target.host)
        return connection

    try:
        upgrade = await ask_for_upgrade(await dial(), dial, Server(target.url), f"doctor-{secrets.token_hex(4)}", [])
    except AuthenticationFailed as error:
        if not partial:
            raise
        return Cure(changes, f"the proxy answers, and requires authentication: {error.fact}", False)
    except HopTLSError as error:
        if not partial or not isinstance(error.__cause__, ssl.SSLCertVerificationError):
            raise
        more = "set connect.proxy.tls.root_cas to its CA, if it is to be trusted"
        return Cure(changes, f"the proxy speaks TLS, but {error.fact}: {more}", False)
    except Stopped as stopped:
        if stopped.leg in ("tls", "upgrade") or stopped.cure:
            raise
        return Cure(changes, f"the node answers: {stopped}", True)  # without a token that is no surprise
    return Cure(changes, f"the node answers; an upgrade: {upgrade}", True)


async def _candidates(
    connect: ConnectConfig, target: Target, route: Route | None, problem: TunnelError | Stopped, report: Report
) -> list[Candidate]:
    found: list[Candidate] = []
    context = connect.tls.client_context() if target.secure else None
    others: list[tuple[Route, str]] = []
    if isinstance(problem, TunnelError):
        if route is not None:
            others += _other_kinds(route, problem) + await _other_ports(route, problem, report)
            found += await _other_authorities(connect, target, route, problem, context)
        if route is not None and problem.status == 403 and target.port != 443:
            other = target._replace(port=443)
            found.append(Candidate({"connect.url": other.url}, "port 443 of the node", route, other, context, False))
    elif route is not None:
        if problem.cure:
            other = target._replace(scheme=problem.cure)
            other_context = connect.tls.client_context() if other.secure else None
            what = f"{problem.cure} in place of {target.scheme}"
            found.append(Candidate({"connect.url": other.url}, what, route, other, other_context, False))
        untrusted = (
            isinstance(error := problem.__cause__, ssl.SSLCertVerificationError) and error.verify_code in ISSUERS
        )
        files = [("", "the system's CAs")] if connect.tls.root_cas else []
        if problem.certificate is not None and (path := problem.certificate.added):
            files.append((str(path), "a CA of this machine"))
        for file, what in files if untrusted else ():
            key, other_context = "connect.tls.root_cas", _with_authorities(connect, file)
            found.append(Candidate({key: file}, what, route, target, other_context, False))
    if isinstance(problem, TunnelError) or (problem.leg in ("tls", "upgrade") and route and route.hops):
        others += await _other_sources(connect, target)
    tried = {str(route)}
    for way, what in others:
        if str(way) not in tried:
            tried.add(str(way))
            found.append(Candidate(_changes(connect, way), what, _bare(way), target, context))
    return found


# X509_V_ERR_…: somebody above the certificate is missing, or is not believed
ISSUERS = (2, 18, 19, 20, 21)


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
        what = "a CA of this machine, for the proxy" if file else "the system's CAs, for the proxy"
        found.append(Candidate({key: file}, what, Route(tuple(hops)), target, context))
    return found


def _changes(connect: ConnectConfig, route: Route) -> dict[str, str]:
    """What makes an agent take this route: by the key that is in use, without those that it may not stand beside."""
    urls = [hop.url for hop in route.hops]
    key = "connect.proxy_url" if connect.proxy_url else "connect.proxy.url"
    if len(urls) == 1 and urls[0].user and urls[0].password is not None:
        # Not with the place of a password in the URL: what is pasted would be sent.
        changes = {key: str(urls[0]), "connect.proxy.user": urls[0].user}
        names = ("password", "password_file", "password_env", "password_command", "password_keyring")
        changes |= {f"connect.proxy.{name}": "" for name in names if getattr(connect.proxy, name)}
        changes |= {"connect.proxy.password_env": PASSWORD_VARIABLE}
    else:
        changes = {key: " -> ".join(map(_with_user, urls)) or "direct"}
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
    if isinstance(error, AuthenticationFailed) or (isinstance(error, HopTLSError) and not _spoke_plain(error)):
        return []  # it speaks what the URL says
    hop = route.hops[index]
    others = []
    for scheme, tls in KINDS:
        if (scheme, tls) != (hop.url.scheme, hop.url.tls):
            changed = replace(hop, url=replace(hop.url, scheme=scheme, tls=tls))
            hops = (*route.hops[:index], changed, *route.hops[index + 1 :])
            others.append((Route(hops), f"{scheme} in place of {str(hop.url).partition(':')[0]}"))
    return others


def _spoke_plain(error: TunnelError) -> bool:
    reason = getattr(error.__cause__, "reason", None) or ""
    return reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")


async def _other_ports(route: Route, error: TunnelError, report: Report) -> list[tuple[Route, str]]:
    """The same proxy where proxies usually listen, if its port has refused us and others there do not."""
    if error.leg != "proxy-tcp" or error.position != 1 or os.strerror(errno.ECONNREFUSED) not in error.fact:
        return []
    hop = route.hops[0]
    open_ports: set[int] = set()

    async def probe(port: int) -> None:
        with trio.move_on_after(TCP_SECONDS):
            try:
                stream = await trio.open_tcp_stream(hop.url.host, port)
            except OSError:
                return
            open_ports.add(port)
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for port, _ in USUAL_PORTS:
            if port != hop.url.port:
                nursery.start_soon(probe, port)
    listed = ", ".join(str(port) for port, _ in USUAL_PORTS if port in open_ports)
    everywhere = ", ".join(str(port) for port, _ in USUAL_PORTS if port != hop.url.port)
    told = f"refused; but somebody listens at {listed}" if listed else f"refused, and so are {everywhere}"
    report.add_note("other ports", told, hop.url.host)
    others = []
    for port, scheme in USUAL_PORTS:
        if port in open_ports:
            url = replace(hop.url, port=port, scheme=scheme, tls=scheme == "https")
            others.append((Route((replace(hop, url=url), *route.hops[1:])), f"port {port} of the proxy, as {scheme}"))
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
    """With the place of a password, which no configuration takes for one, but not the password."""
    if url.user is None:
        return str(url)
    scheme, _, place = str(url).partition("://")
    return f"{scheme}://{quote(url.user, safe='')}{f':{MASK}' if url.password is not None else ''}@{place}"
