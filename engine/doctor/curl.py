"""The same errand for curl: a second opinion, and what a network's own people know how to read."""

from __future__ import annotations

import shlex

from engine.config import ConnectConfig
from engine.doctor.way import Target
from proxy_adapters import Hop, Route

KINDS = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
SECONDS = 20


def curl_command(connect: ConnectConfig, target: Target, route: Route | None) -> str:
    """Ready to paste, and without secrets: curl asks for a password. Empty where curl cannot go the same way."""
    if route is None:
        return ""
    words = ["curl", "-v", "-o", "/dev/null", "--max-time", str(SECONDS)]
    match route.hops:
        case ():
            words += ["--noproxy", "*"]
        case (hop,) if _knows(hop):
            words += ["-x", str(hop.url)]
        case (first, hop) if _knows(hop) and first.url.scheme.startswith("socks") and _knows(first):
            words += ["--preproxy", str(first.url), "-x", str(hop.url)]
        case _:
            return ""
    if route.hops:
        if hop.url.scheme in ("http", "https"):
            words += ["--proxytunnel"]
        if user := (hop.login.user if hop.login else hop.url.user):
            words += ["--proxy-anyauth", "--proxy-user", user]
        if connect.proxy.tls.root_cas and hop.url.tls:
            words += ["--proxy-cacert", connect.proxy.tls.root_cas]
    if connect.tls.root_cas and target.secure:
        words += ["--cacert", connect.tls.root_cas]
    return shlex.join([*words, f"{'https' if target.secure else 'http'}://{target.place}/"])


def _knows(hop: Hop) -> bool:
    return str(hop.url).partition(":")[0] in KINDS and not hop.proxy_protocol
