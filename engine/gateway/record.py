"""An exchange that is over, as the access log is told of it."""

from __future__ import annotations

from engine.access_log import AccessLog, Finished
from engine.gateway.exchange import Exchange


def write(
    access_log: AccessLog, exchange: Exchange, *, client: str, endpoint: str, tenant: str = "", trace: str = ""
) -> None:
    """A line for `exchange`, if there was a request; `trace` is the id of the one that it is part of."""
    request, response = exchange.request, exchange.response
    if request is None:
        return
    repeats = request.repeats and response is not None and response.repeats
    access_log.record(
        Finished(
            b"HTTP/1.1" if request.version == 11 else b"HTTP/1.0",
            request.method,
            request.host,
            request.target,
            exchange.status,
            request.head,
            response.head if response is not None else None,
            (request, response) if repeats else None,
            client,
            endpoint,
            exchange.bytes_in,
            exchange.bytes_out,
            exchange.first_byte_seconds,
            exchange.seconds,
            tenant,
            exchange.refused,
            trace,
        )
    )
