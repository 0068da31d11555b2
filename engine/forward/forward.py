"""The forward role: listens beside a client, carries its connections or datagrams to an endpoint through a node."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial

import trio

from engine.carriers.carrier import Kind
from engine.carriers.ladder import Ladder, way_to
from engine.carriers.remembered import Remembered
from engine.config import ForwardConfig, PortConfig
from engine.errors import Refused, Unreachable
from engine.forward.udp import UdpPort
from engine.forward.way import Way
from engine.log import get_logger
from engine.loop.certificates import Certificates, warn_of_expiry
from engine.loop.connection import Address, Connection
from engine.loop.dial import Server
from engine.loop.leaving import NEVER, until_signal
from engine.loop.listen import Room, open_listeners, serve
from engine.loop.renewed import Renewed
from engine.loop.run import open_reactor
from engine.loop.udp import open_udp
from engine.tunnel.relay import Relay
from engine.wire import piko
from engine.wire.http1 import Fields

PARALLEL_DIALS = 32  # to go on with what was cut; proxies take too many at once for an attack
GRACE_SECONDS = 60.0  # for open connections to end, once told to stop; Piko has no option for it

log = get_logger("forwarder")


async def run_forward(
    config: ForwardConfig,
    *,
    alone: bool = False,
    signals: AsyncIterator[int] = NEVER,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Forward every configured port until a signal, or until cancelled.

    Started with the addresses that are listened on, in the order of `config.ports`. Raises OSError for a port in
    use. A forward that is told to stop lets nobody in any more and ends with its last connection, or after
    `GRACE_SECONDS`; a second signal ends it at once. Flows of datagrams, which have no end, end with the first.

    `alone`: nothing else runs in this Trio run. Each of `signals` tells it to leave, the second at once.
    """
    connect = config.connect
    files = connect.tls
    tls = Certificates(
        "connect.tls", files.files, connect.client_context, chains=[files.cert], authorities=[files.root_cas]
    )
    server = Server(connect.url, tls, files.server_name or None, connect.router())
    with ExitStack() as stack:
        sockets = [[stack.enter_context(sock) for sock in _open(port)] for port in config.ports]
        kinds = tuple(map(Kind, connect.carriers))
        remembered = Remembered(connect.memory, connect.way()) if connect.memory else None
        dials = trio.CapacityLimiter(PARALLEL_DIALS)

        token = await trio.to_thread.run_sync(connect.read_token) if connect.token_command else connect.read_token()

        def read_token() -> None:
            nonlocal token
            token = connect.read_token()

        tenant = connect.tenant_id
        token_file = Renewed("connect.token_file", [connect.token_file], read_token)

        def credentials() -> Fields:
            token_file.refresh()
            return piko.credentials(token, tenant)

        ways = [
            Way(
                port.endpoint_id,
                Ladder(way_to(server, port.endpoint_id, credentials), kinds, remembered),
                connect.timeout,
                round(connect.resume),
                dials,
            )
            for port in config.ports
        ]
        room = Room()
        accepting, over = trio.CancelScope(), trio.Event()

        async def run_ports() -> None:
            async with trio.open_nursery() as connections:
                with accepting:
                    async with trio.open_nursery() as nursery:
                        for port, ours, way in zip(config.ports, sockets, ways, strict=True):
                            if port.protocol == "udp":
                                nursery.start_soon(UdpPort(way, port.udp, ours, reactor).run, connections)
                            else:
                                nursery.start_soon(serve, ours, partial(_forward, way), connections, room)
                            address = ours[0].getsockname()[:2]
                            log.info("forwarding", protocol=port.protocol, addr=address, endpoint_id=way.endpoint)
            over.set()

        async with open_reactor(alone=alone) as reactor, trio.open_nursery() as nursery:
            nursery.start_soon(run_ports)
            nursery.start_soon(warn_of_expiry, [tls])
            task_status.started([listeners[0].getsockname()[:2] for listeners in sockets])
            await anext(signals)
            log.info("shutting down")
            accepting.cancel()
            await until_signal(over.wait, GRACE_SECONDS, signals)
            nursery.cancel_scope.cancel()


def _open(port: PortConfig) -> list[socket.socket]:
    """Raises CannotListen."""
    return open_udp(port.bind_addr) if port.protocol == "udp" else open_listeners(port.bind_addr)


async def _forward(way: Way, local: Connection) -> None:
    """One TCP client: its bytes to the endpoint and back."""
    try:
        carrier, answer = await way.open()
    except (Refused, Unreachable) as error:
        log.error("cannot reach the endpoint", endpoint_id=way.endpoint, error=str(error))
        return
    if not local.alive:  # closed while nobody served it: nobody would be told
        carrier.abort()
        return
    await way.carry(carrier, answer, partial(Relay, local), local.run)
