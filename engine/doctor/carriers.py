"""The other carriers, by which an agent gets through where WebSocket does not: each is opened, and asked for pongs."""

from __future__ import annotations

import ssl

import trio

from engine.carriers.carrier import Kind
from engine.carriers.ladder import Ladder, registration
from engine.config import ConnectConfig
from engine.doctor.node import credentials
from engine.doctor.report import Report, words
from engine.doctor.session import median
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.loop.dial import Server
from engine.session.session import Session
from engine.session.stream import Stream

CARRIER_SECONDS = 10.0  # for a carrier to be opened, and for its pongs
ROUND_TRIPS = 5


async def try_carriers(connect: ConnectConfig, server: Server, endpoint: str, report: Report) -> list[Kind]:
    """Register `endpoint` for a moment by each carrier that `connect` allows but WebSocket; those that get through.

    One that does not is a note: an agent needs no more than one, and a Piko has none of these.
    """
    through: list[Kind] = []
    for kind in map(Kind, connect.carriers):
        if kind is Kind.WEBSOCKET:
            continue
        with report.step("carrier", kind) as step:
            try:
                with trio.fail_after(CARRIER_SECONDS):
                    trips = await _round_trips(connect, server, endpoint, kind)
            except (Refused, Unreachable, OSError, RemoteProtocolError, ssl.SSLError, trio.TooSlowError) as error:
                step.state, step.text = "note", f"does not get through: {words(error)}"
                continue
            through.append(kind)
            milliseconds = median(trips) * 1000
            step.text = f"gets through; a round trip takes {milliseconds:.1f} ms, the median of {ROUND_TRIPS} pings"
    return through


async def _round_trips(connect: ConnectConfig, server: Server, endpoint: str, kind: Kind) -> list[float]:
    """How many seconds pongs take. Raises what `Ladder.open` does, and OSError if the session ends before."""
    ladder = Ladder(registration(server, endpoint, lambda: credentials(connect)), [kind])
    carrier, _ = await ladder.open(lambda: None)
    session = Session(carrier, accepts=True, on_stream=Stream.abort)
    session.go_away()
    trips: list[float] = []

    async def measure() -> None:
        for _ in range(ROUND_TRIPS):
            since = trio.current_time()
            await session.round_trip_done()
            trips.append(trio.current_time() - since)
        session.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure)
        await session.run()
        nursery.cancel_scope.cancel()
    if len(trips) < ROUND_TRIPS:
        raise ConnectionResetError(f"the session did not last: {words(session.error or OSError('it was closed'))}")
    return trips
