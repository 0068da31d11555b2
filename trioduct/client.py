"""A stream to a TCP endpoint: what a forward does for each of its connections, without a port."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from engine.carriers.carrier import Carrier, Kind
from engine.carriers.ladder import Ladder, way_to
from engine.errors import Unreachable
from engine.session.dialled import Dialled, open_carrier
from engine.session.session import Session
from engine.wire import piko
from engine.wire.http1 import Fields
from trioduct.host import Host, open_host
from trioduct.settings import NONE, client_way, kinds_of, server_of
from trioduct.stream import TunnelStream

PARALLEL_DIALS = 1  # for one connection, to go on with what was cut


async def connect(endpoint: str, *, url: str = "", token: str = "", settings: Mapping[str, str] = NONE) -> TunnelStream:
    """A stream to a TCP endpoint, by the node whose proxy port is at `url`. Close it when it is done with.

    `settings` are further keys of `connect` in a forward's configuration. What is not given is taken from the
    environment, as by a forward.

    Raises ConfigError, Refused, and Unreachable, also when there is no answer in time (`timeout`).
    """
    connect = client_way(url, token, settings)
    shown = piko.credentials(connect.read_token(), connect.tenant_id)

    def credentials() -> Fields:
        return shown

    ladder = Ladder(way_to(server_of(connect), endpoint, credentials), kinds_of(connect))
    host = await open_host()
    try:
        with trio.fail_after(connect.timeout), host.entered():
            carrier, answer = await open_carrier(ladder, round(connect.resume))
    except trio.TooSlowError:
        raise Unreachable(f"endpoint {endpoint}: {connect.url} did not answer within {connect.timeout:g} s") from None
    if carrier.kind is Kind.WEBSOCKET and answer.session is None:
        stream = TunnelStream(carrier, host.reactor)
        host.start(f"connection {endpoint}", carrier.run)
        return stream
    return _in_session(host, carrier, ladder, endpoint)


def _in_session(host: Host, carrier: Carrier, ladder: Ladder, endpoint: str) -> TunnelStream:
    """In a stream, the only one of a session."""
    over = trio.Event()

    def on_over() -> None:
        over.set()
        host.reactor.hand_over()

    with host.entered():
        session = Session(carrier, accepts=False)
        stream = TunnelStream(session.open(), host.reactor, on_over)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            await Dialled(session, ladder, trio.CapacityLimiter(PARALLEL_DIALS), endpoint).run()
            nursery.cancel_scope.cancel()

    async def finish() -> None:
        await over.wait()
        await session.wait_quiet()
        session.close()

    host.start(f"connection {endpoint}", run)
    return stream
