"""A paragraph for those who run the network: what they need to find us in their logs, and what we ask of them."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from engine.doctor.node import Stopped
from engine.doctor.way import Target
from proxy_adapters import AuthenticationFailed, HopTLSError, HopUnreachable, NotAProxy, Route, TunnelError


def letter(problem: TunnelError | Stopped, target: Target, route: Route | None, local: str) -> str:
    """When, from where, to where, by which way, what was answered (its own ids are in there), and the request."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    here = f"{socket.gethostname()}{f' ({local})' if local else ''}"
    by = "without a proxy" if route is None or not route.hops else f"through {route}"
    kind = "TLS, and inside it HTTP/1.1" if target.secure else "HTTP/1.1"
    return (
        f"At {now}, {here} asked for a connection to {target.host}, TCP port {target.port}, {by}. "
        f"{_fact(problem)} {_request(problem, target)} What we need is outbound only: {kind} with a WebSocket upgrade, "
        "one connection per service, which stays open."
    )


def _fact(problem: TunnelError | Stopped) -> str:
    if isinstance(problem, TunnelError):
        return f"{problem.hop or 'The way out'}, {problem.leg or 'at once'}: {problem.fact}."
    if shown := problem.certificate:
        return f"TLS ended at a certificate of {shown.subject}, issued by {shown.issuer}, SHA-256 {shown.sha256}."
    return {
        "tls": f"The TCP connection stood, but for TLS: {problem}.",
        "upgrade": f"The connection stood, but not the WebSocket inside it: {problem}.",
    }.get(problem.leg, f"The connection stood, but {problem}.")


def _request(problem: TunnelError | Stopped, target: Target) -> str:
    place = target.place
    if isinstance(problem, Stopped):
        if problem.leg == "upgrade":
            return (
                f"Please let WebSocket upgrades to {target.host} pass (squid: `http_upgrade_request_protocols "
                "websocket allow all`), or exempt it from TLS inspection."
            )
        if problem.leg == "tls":
            return f"Please exempt {target.host} from TLS inspection, or give us the certificate of who inspects."
        return f"Please let connections to {place} last; a ping goes each way every 20 s."
    if isinstance(problem, AuthenticationFailed):
        return f"Which of these ways to log in, and which account, may an unattended service use towards {place}?"
    if problem.status in (500, 502, 503, 504):
        return f"Can the proxy resolve and reach {place}?"
    if isinstance(problem, NotAProxy):
        return "Which host, port and protocol does the proxy have?"
    if isinstance(problem, HopTLSError):
        return "Which authority has issued the proxy's certificate, and does it want one of ours?"
    if isinstance(problem, HopUnreachable):
        if problem.leg.startswith("target"):
            return f"Please allow TCP to {place}, or tell us which proxy to use."
        return "Is the proxy up, and may this host reach it?"
    if problem.leg.startswith("pac"):
        return "Which proxy, or which PAC file, is right for it?"
    return f"Please allow a tunnel (CONNECT) to {place} from this host."
