"""What each carrier gives: a session of its own, which the node answers, has its round trip and its speed measured."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple

import trio

from engine.carriers.carrier import Kind
from engine.carriers.ladder import Ladder, probe
from engine.config import ConnectConfig
from engine.doctor.node import credentials
from engine.doctor.report import Report, words
from engine.doctor.session import median
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.loop.dial import Server
from engine.session.probe import MOST_BYTES, SESSION_SECONDS, transfer
from engine.session.session import NoStream, Session
from engine.wire import posts

ROUND_TRIPS: Final = 5
FIRST_BYTES: Final = 64 * 1024
ENOUGH_SECONDS: Final = 0.2  # that a transfer has to take, to tell how fast the way is
UNKNOWN: Final = re.compile(r" answered 404\b")


class Found(NamedTuple):
    """In the order of `connect.carriers`."""

    through: list[Kind]
    blocked: list[Kind]


class _Given(NamedTuple):
    """What a carrier gives: the median of a few round trips, and bytes/s."""

    round_trip: float
    down: float
    up: float


async def try_carriers(connect: ConnectConfig, server: Server, report: Report) -> Found:
    """Measure each carrier that `connect` allows. Nothing is registered.

    One that does not get through is a note: an agent needs no more than one.
    """
    found = Found([], [])
    for kind in map(Kind, connect.carriers):
        with report.step("carrier", kind) as step:
            try:
                with trio.fail_after(SESSION_SECONDS):
                    given = await _measure(connect, server, kind)
            except (Refused, Unreachable, OSError, RemoteProtocolError, ssl.SSLError, trio.TooSlowError) as error:
                step.state = "note"
                if kind is Kind.WEBSOCKET and UNKNOWN.search(str(error)):
                    step.text = "not measured, and there is no other: the node is a Piko, or an older Trioduct"
                    return found
                if isinstance(error, Refused | Unreachable) and not error.blocked:
                    step.text = f"not measured: {words(error)}"  # the node does not want to
                    continue
                step.text = f"does not get through: {words(error)}"
                found.blocked.append(kind)
                continue
            found.through.append(kind)
            step.text = (
                f"gets through: a round trip takes {given.round_trip * 1000:.1f} ms,"
                f" {_speed(given.down)} down, {_speed(given.up)} up"
            )
    return found


def request(blocked: Sequence[Kind], host: str) -> str:
    """What to ask of those who run the network, if these carriers do not get through."""
    asked = [f"lease {_ASKED[kind].format(host=host)}." for kind in blocked]
    return f"P{' If that cannot be, p'.join(asked)}" if asked else ""


_ASKED: Final = {
    Kind.WEBSOCKET: "let WebSocket upgrades to {host} pass (squid: `http_upgrade_request_protocols websocket allow"
    " all`), or exempt it from TLS inspection",
    Kind.STREAM: "pass the bodies of requests and answers on as they come, both ways, for POST to {host}"
    f" below {posts.UPSTREAM_PATH} (nginx: `proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;"
    " client_max_body_size 0`; HAProxy: `option http-no-delay`)",
    Kind.POLL: f"let POST requests to {{host}} below {posts.UPSTREAM_PATH} pass, with bodies of up to"
    f" {posts.MAX_DOWN // 1024} KiB both ways",
}


def _speed(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e6:.3g} MB/s"


async def _measure(connect: ConnectConfig, server: Server, kind: Kind) -> _Given:
    """Raises what `Ladder.open` does, and OSError if the session ends before."""
    carrier, _ = await Ladder(probe(server, lambda: credentials(connect)), [kind]).open(lambda: None)
    session = Session(carrier, accepts=False)
    given: list[_Given] = []

    async def measure() -> None:
        trips: list[float] = []
        for _ in range(ROUND_TRIPS):
            since = trio.current_time()
            await session.round_trip_done()
            trips.append(trio.current_time() - since)
        try:
            down, up = await _bytes_per_second(session, 1, 0), await _bytes_per_second(session, 0, 1)
        except (OSError, NoStream):
            return  # the session is over, and says why
        given.append(_Given(median(trips), down, up))
        session.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(measure)
        await session.run()
        nursery.cancel_scope.cancel()
    if not given:
        raise ConnectionResetError(f"the session did not last: {words(session.error or OSError('it was closed'))}")
    return given[0]


async def _bytes_per_second(session: Session, down: int, up: int) -> float:
    """Of the way down, or the way up."""
    size = FIRST_BYTES
    while True:
        took = await transfer(session, down=size * down, up=size * up)
        if took >= ENOUGH_SECONDS or size >= MOST_BYTES:
            return size / took
        size *= 2
