"""httpx's requests to endpoints by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from trioduct.settings import NONE, client_way

if TYPE_CHECKING:
    import httpx


def httpx_transport(*, url: str = "", token: str = "", settings: Mapping[str, str] = NONE) -> httpx.AsyncBaseTransport:
    """A transport for httpx.AsyncClient, on Trio: http://shop/ is the endpoint `shop` of the node whose proxy port is
    at `url`. Connections to the node are kept and shared. The arguments are `connect`'s.

    Raises ConfigError, also if httpx is not installed. What fails on the way is an httpx.ConnectError.
    """
    connect = client_way(url, token, settings)
    try:
        from trioduct.pooled import EndpointTransport
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; install trioduct[sdk]") from None
    return EndpointTransport(connect)
