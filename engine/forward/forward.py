"""The forward role: listens beside a TCP client, carries each connection to an endpoint through a node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import trio

from engine.config import ForwardConfig
from engine.errors import Refused, Unreachable
from engine.log import get_logger
from engine.transport.connection import Connection
from engine.transport.dial import Server, open_websocket
from engine.transport.leg import HALF_CLOSE, Leg
from engine.transport.listen import open_listeners, serve
from engine.transport.pulse import open_pulse
from engine.transport.relay import Relay
from engine.wire.http1 import Fields

TCP_PATH = "/_piko/v1/tcp/"

log = get_logger("forwarder")


@dataclass(frozen=True, slots=True)
class _Port:
    endpoint: str
    server: Server
    fields: Fields


async def run_forward(
    config: ForwardConfig, *, task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Forward every configured port until cancelled or told to stop (SIGTERM, SIGINT).

    Started with the addresses that are listened on, in the order of `config.ports`.
    """
    fields: Fields = [(HALF_CLOSE, b"1")]
    if config.connect.token:
        fields.append((b"Authorization", b"Bearer " + config.connect.token.encode()))
    if config.connect.tenant_id:
        fields.append((b"x-piko-tenant-id", config.connect.tenant_id.encode()))
    connect = config.connect
    server = Server(connect.url, connect.tls.client_context(), connect.tls.server_name or None, connect.router())
    listeners = [open_listeners(port.bind_addr) for port in config.ports]
    async with open_pulse(), trio.open_nursery() as nursery:
        for port, sockets in zip(config.ports, listeners, strict=True):
            handler = partial(_forward, _Port(port.endpoint_id, server, fields))
            nursery.start_soon(serve, sockets, handler, nursery, name=f"listen {port.addr}")
            log.info("forwarding", addr=port.addr, endpoint=port.endpoint_id)
        task_status.started([sockets[0].getsockname()[:2] for sockets in listeners])
        await trio.sleep_forever()


async def _forward(port: _Port, local: Connection) -> None:
    """One TCP client: its bytes to the endpoint and back."""
    try:
        remote, answer = await open_websocket(port.server, TCP_PATH + quote(port.endpoint, safe=""), port.fields)
    except (Refused, Unreachable) as error:
        log.error("cannot reach the endpoint", endpoint=port.endpoint, error=str(error))
        return
    half_close = any(name.lower() == HALF_CLOSE for name, _ in answer.fields)
    leg = Leg(remote, client=True, half_close=half_close)
    Relay(local, leg)
    # Each side ends by itself when both its directions have; if one task is cancelled, both sides break.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(remote.run)
        nursery.start_soon(local.run)
