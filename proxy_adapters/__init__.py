"""Ways out of a network through somebody else's HTTP CONNECT or SOCKS proxy, for any Trio program.

    tunnel = await open_tunnel("example.org", 443, route="http://proxy.corp:3128", tls=True)

`Router` chooses the way (explicit, PAC, environment, direct) and falls back; `TunnelError` and its family
say which hop failed, in what words, and who can do something about it.
"""

from proxy_adapters.attempt import Deadlines
from proxy_adapters.auth.login import Login, Memory
from proxy_adapters.errors import (
    AuthenticationFailed,
    HopTLSError,
    HopUnreachable,
    NoRoute,
    NotAProxy,
    TunnelError,
    TunnelRefused,
)
from proxy_adapters.open import open_tunnel
from proxy_adapters.pac import PAC
from proxy_adapters.route import Hop, Route
from proxy_adapters.router import Router
from proxy_adapters.secret import Secret
from proxy_adapters.tls import TLSLayer
from proxy_adapters.tunnel import Tunnel
from proxy_adapters.url import ProxyURL
from proxy_adapters.watch import Seen

__version__ = "0.1.0"

__all__ = [
    "open_tunnel",
    "Tunnel",
    "TLSLayer",
    "Seen",
    "ProxyURL",
    "Hop",
    "Route",
    "Router",
    "PAC",
    "Deadlines",
    "Login",
    "Secret",
    "Memory",
    "TunnelError",
    "HopUnreachable",
    "HopTLSError",
    "NotAProxy",
    "TunnelRefused",
    "AuthenticationFailed",
    "NoRoute",
]
