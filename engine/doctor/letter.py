"""A paragraph for those who run the network: what they need to find us in their logs, and what we ask of them."""

from __future__ import annotations

import socket
from datetime import datetime

from engine.carriers.carrier import Kind
from engine.doctor.advice import login_refused
from engine.doctor.carriers import request
from engine.doctor.node import Stopped
from engine.doctor.way import Target
from proxy_adapters import AuthenticationFailed, HopTLSError, HopUnreachable, NoRoute, NotAProxy, Route, TunnelError
from proxy_adapters.errors import TARGET_ADMIN
from proxy_adapters.network import my_addresses


def letter(
    problem: TunnelError | Stopped, target: Target, route: Route | None, pac: str, local: str, when: datetime
) -> str:
    """When, from where, to where, by which way, what was answered (its own ids are in there), and the request."""
    local = local or next(iter(my_addresses()), "")
    here = f"{socket.gethostname()}{f' ({local})' if local else ''}"
    by = "without a proxy" if route is None or not route.hops else f"through {route}"
    if isinstance(problem, TunnelError) and problem.leg.startswith("pac"):
        by = f"by the PAC file {pac}"
    kind = "TLS, and inside it HTTP/1.1" if target.secure else "HTTP/1.1"
    return (
        f"At {when:%Y-%m-%d %H:%M:%S UTC}, {here} asked for a connection to {target.host}, TCP port {target.port}, "
        f"{by}. {_fact(problem)} {_request(problem, target, route)} The program is Trioduct's agent, a "
        f"reverse tunnel that offers services of this machine through {target.host}; it needs outbound connections "
        f"only, to {target.host}, TCP port {target.port}: {kind} with a WebSocket upgrade, one connection per service, "
        "which stays open."
    )


def _fact(problem: TunnelError | Stopped) -> str:
    if isinstance(problem, TunnelError):
        where = ", ".join(filter(None, (problem.hop, problem.leg)))
        return f"{where or 'All ways'}: {problem.fact}."
    shown = f" The certificate's SHA-256 is {problem.certificate.sha256}." if problem.certificate else ""
    begun = {
        "tls": "The TCP connection was established, but for TLS",
        "upgrade": "The connection was established, but not the WebSocket inside it",
    }.get(problem.leg, "The connection was established, but")
    return f"{begun}: {problem}.{shown}"


def _request(problem: TunnelError | Stopped, target: Target, route: Route | None) -> str:
    place = target.place
    if isinstance(problem, Stopped):
        return problem.request or (
            request([Kind.WEBSOCKET], target.host)
            if problem.leg == "upgrade"
            else f"Please let connections to {place} last; a ping goes each way every 20 s."
        )
    if isinstance(problem, NoRoute) and problem.errors:
        problem = problem.errors[-1]
    if route and 0 < problem.position < len(route.hops):
        place = route.hops[problem.position].url.place  # what this proxy was to lead to
    if problem.leg.startswith("pac"):
        return "Which proxy, or which PAC file, is right for it?"
    if isinstance(problem, AuthenticationFailed) and login_refused(problem):
        return f"Is this account right and not locked, and may an unattended service use it towards {place}?"
    if isinstance(problem, AuthenticationFailed):
        return f"Which of these ways to log in, and which account, may an unattended service use towards {place}?"
    if isinstance(problem, NotAProxy):
        return "Which host, port and protocol does the proxy have?"
    if isinstance(problem, HopTLSError):
        return "Which authority has issued the proxy's certificate, and does it want one of ours?"
    if isinstance(problem, HopUnreachable):
        if problem.leg == "target-dns":
            return f"Is {target.host} the right name? If only a proxy resolves it here, which proxy is it?"
        if problem.leg.startswith("target"):
            return f"Please allow TCP to {place}, or tell us which proxy to use."
        if problem.leg.endswith("dns"):
            return "Which name, or address, and which port does the proxy have?"
        return "Is the proxy up, on this host and port, and may this machine reach it?"
    match problem.status:
        case 404 | 500 | 502 | 503 | 504:
            return f"Can the proxy resolve and reach {place}?"
        case 408 | 429:
            return f"How many connections, and how often, may this machine ask for towards {place}?"
        case int(status) if 300 <= status < 400:
            return "How does a machine without a browser get past this page?"
        case _ if problem.who == TARGET_ADMIN:
            return f"Can the proxy resolve and reach {place}?"
    return f"Please allow a tunnel to {place} from this machine."
