"""The forward role: listens beside a TCP client, carries each connection to an endpoint through a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import trio

from engine.carriers.carrier import Carrier, Kind
from engine.carriers.ladder import Ladder, way_to
from engine.carriers.remembered import Remembered
from engine.config import ForwardConfig
from engine.errors import Refused, Unreachable
from engine.log import get_logger
from engine.loop.certificates import Certificates, Renewed, warn_of_expiry
from engine.loop.connection import Address, Connection
from engine.loop.dial import Server
from engine.loop.leaving import NEVER, until_signal
from engine.loop.listen import Room, open_listeners, serve
from engine.loop.run import open_reactor
from engine.session.dialled import Dialled, open_carrier
from engine.session.session import Session
from engine.tunnel.relay import Relay
from engine.wire import piko
from engine.wire.http1 import Fields

PARALLEL_DIALS = 32  # to go on with what was cut; proxies take too many at once for an attack
GRACE_SECONDS = 60.0  # for open connections to end, once told to stop; Piko has no option for it

log = get_logger("forwarder")


@dataclass(frozen=True, slots=True)
class _Way:
    """To an endpoint."""

    endpoint: str
    ladder: Ladder
    seconds: float  # in which the node has to answer
    resume_seconds: int  # for which a connection outlives its carrier
    dials: trio.CapacityLimiter


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
    `GRACE_SECONDS`; a second signal ends it at once.

    `alone`: nothing else runs in this Trio run. Each of `signals` tells it to leave, the second at once.
    """
    connect = config.connect
    files = connect.tls
    tls = Certificates(
        "connect.tls", files.files, connect.client_context, chains=[files.cert], authorities=[files.root_cas]
    )
    server = Server(connect.url, tls, files.server_name or None, connect.router())
    with ExitStack() as stack:
        sockets = [[stack.enter_context(sock) for sock in open_listeners(port.bind_addr)] for port in config.ports]
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
            _Way(
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
                        for listeners, way in zip(sockets, ways, strict=True):
                            nursery.start_soon(serve, listeners, partial(_forward, way), connections, room)
                            log.info("forwarding", addr=listeners[0].getsockname()[:2], endpoint_id=way.endpoint)
            over.set()

        async with open_reactor(alone=alone), trio.open_nursery() as nursery:
            nursery.start_soon(run_ports)
            nursery.start_soon(warn_of_expiry, [tls])
            task_status.started([listeners[0].getsockname()[:2] for listeners in sockets])
            await anext(signals)
            log.info("shutting down")
            accepting.cancel()
            await until_signal(over.wait, GRACE_SECONDS, signals)
            nursery.cancel_scope.cancel()


async def _forward(way: _Way, local: Connection) -> None:
    """One TCP client: its bytes to the endpoint and back."""
    try:
        with trio.fail_after(way.seconds):
            carrier, answer = await open_carrier(way.ladder, way.resume_seconds)
    except (Refused, Unreachable, trio.TooSlowError) as error:
        text = str(error) or f"no answer within {way.seconds:g} s"
        log.error("cannot reach the endpoint", endpoint_id=way.endpoint, error=text)
        return
    if not local.alive:  # closed while nobody served it: nobody would be told
        carrier.abort()
        return
    if carrier.kind is Kind.WEBSOCKET and answer.session is None:
        Relay(local, carrier)
        # Each side ends by itself when both its directions have; if one task is cancelled, both sides break.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.run)
            nursery.start_soon(local.run)
    else:
        await _forward_in_session(way, local, carrier)


async def _forward_in_session(way: _Way, local: Connection, carrier: Carrier) -> None:
    """The same in a stream, the only one of a session."""
    session = Session(carrier, accepts=False)
    over = trio.Event()

    def done(error: Exception | None) -> None:
        over.set()
        session.reactor.hand_over()

    async def finish() -> None:
        await over.wait()
        await session.wait_quiet()
        session.close()

    Relay(local, session.open(), done)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(local.run)
        nursery.start_soon(finish)
        await Dialled(session, way.ladder, way.dials, way.endpoint).run()
