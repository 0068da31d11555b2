"""The rows of `trioduct-perf reach`."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from perf.contender import Contender
from perf.goals import at_least, at_most, keep_alive
from perf.loads.bulk import Download, Upload
from perf.loads.load import Load
from perf.reach.cuts import FailedRow, StandstillRow
from perf.reach.sides import CARRIERS, POLL, STREAM, WEBSOCKET, carrier_of, with_carriers
from perf.record import Figure, Plan
from perf.rows import LoadRow, Measurable, Opened, Reach, starting
from perf.topologies.shape import Middlebox, Service, Shape

UPLOAD_BYTES = 16 << 20  # a body that is answered several times in a round, also by the slowest

# The way between agent and node: its name, what the carrier passes there, and what WebSocket does.
DIRECT = "straight", Middlebox.NONE, Middlebox.NONE
NGINX = "nginx", Middlebox.NGINX, Middlebox.NGINX_UPGRADE
STREAMING = "nginx that keeps nothing back", Middlebox.NGINX_STREAMING, Middlebox.NGINX_UPGRADE
Way = tuple[str, Middlebox, Middlebox]


class CarriedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One load through a carrier, beside WebSocket on the same way."""

    name: str
    title: str
    carrier: str
    sides: Mapping[str, Contender]
    way: Way
    service: Service
    load: Load
    figures: tuple[Figure, ...]
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        carrier = carrier_of(self.carrier, contender)
        _, its_own, of_websocket = self.way
        shape = Shape(service=self.service, middlebox=of_websocket if carrier == WEBSOCKET else its_own)
        row = LoadRow(name=self.name, title=self.title, shape=shape, load=self.load, figures=self.figures)
        async with row.opened(self.sides[carrier], plan, reach) as opened:
            yield opened


def reach_rows(program: str = "trioduct", only: str | None = None) -> list[Measurable]:
    """All rows, or those whose names start with one of the words. Raises LabError for a word that starts none."""
    return starting(_rows(with_carriers(program)), only)


def _rows(sides: Mapping[str, Contender]) -> list[Measurable]:
    rows: list[Measurable] = []
    for carrier, way in ((STREAM, DIRECT), (STREAM, STREAMING), (POLL, DIRECT), (POLL, NGINX)):
        rows += _carried(sides, carrier, way)
    for carrier in CARRIERS:
        rows.append(
            StandstillRow(
                name=f"{carrier}-standstill", title=f"{carrier}, a stream that is cut", carrier=carrier, sides=sides
            )
        )
    for carrier in CARRIERS:
        rows.append(
            FailedRow(
                name=f"{carrier}-cuts",
                title=f"{carrier}, 200 requests/s over 100 cuts",
                carrier=carrier,
                sides=sides,
            )
        )
    return rows


def _carried(sides: Mapping[str, Contender], carrier: str, way: Way) -> list[Measurable]:
    """The same loads for each carrier and way; what is promised of each differs."""
    within = 0.8 if carrier == STREAM else None  # of WebSocket's
    in_nginx = carrier == POLL and way is NGINX
    p50 = at_most("p50 ms", 10, absolute=True) if in_nginx else at_most("p50 ms")
    down, up = (
        at_least(f"MB/s {word}", 50, absolute=True) if in_nginx else at_least(f"MB/s {word}", within)
        for word in ("down", "up")
    )
    prefix = f"{carrier}-{way[1] or 'straight'}"
    requests = (at_least("requests/s", within), p50, at_most("p99 ms"), at_most("CPU s/million"))
    return [
        CarriedRow(
            name=f"{prefix}-{name}",
            title=f"{carrier}, {way[0]}: {title}",
            carrier=carrier,
            sides=sides,
            way=way,
            service=service,
            load=load,
            figures=figures,
        )
        for name, title, service, load, figures in (
            ("crowd", "32 connections", Service.WEB, keep_alive(32, varied=True), requests),
            ("one", "one connection", Service.WEB, keep_alive(1, varied=True), requests),
            ("down", "download", Service.WEB, Download(path="/bulk"), (down, at_most("CPU s/GB down"))),
            ("up", "upload", Service.OWN, Upload(body_bytes=UPLOAD_BYTES), (up, at_most("CPU s/GB up"))),
        )
    ]
