"""A process of a node reads itself, for whoever looks on (see admin.reading).

Nothing is counted for this: what sessions and metrics know anyway is read, in pieces, and only while somebody looks.
What comes a second is the difference to the reading before.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from heapq import nlargest
from operator import itemgetter
from typing import Final

import trio

from engine.admin.metrics import NodeMetrics
from engine.admin.reading import MOST_ROWS, EndpointRow, KindRow, Reading, SessionRow, WorkerRow
from engine.node.registration import Registration
from engine.routing.tenants import split

FRESH_SECONDS: Final = 15.0  # differences to an older reading say nothing of now
ROWS_AT_ONCE: Final = 200  # between two looks at what else there is to do


class Figures:
    """Of the `registrations` that live, and what `metrics` has counted."""

    def __init__(self, registrations: Collection[Registration], metrics: NodeMetrics) -> None:
        self._registrations = registrations
        self._metrics = metrics
        self._at = -FRESH_SECONDS
        self._before = _Totals()

    async def read(self, *, id: str = "") -> Reading:
        """How it is now. With an `id` it is one of several workers."""
        now = trio.current_time()
        seconds = now - self._at
        fresh = 0 < seconds < FRESH_SECONDS
        per = 1 / seconds if fresh else 0.0
        before, totals = self._before if fresh else _Totals(), _Totals()
        self._at, self._before = now, totals
        reading = Reading(seconds=seconds if fresh else 0.0)
        carried = await self._read_sessions(reading, before, totals, per)
        await self._read_endpoints(reading, carried, before, totals, per)
        metrics = self._metrics
        totals.latencies, statuses = metrics.answers()
        if fresh and before.latencies:
            reading.latencies = [a - b for a, b in zip(totals.latencies, before.latencies, strict=True)]
        for group, kind, total in self._wrong(statuses):
            totals.kinds[group, kind] = total
            reading.kinds.append(KindRow(group, kind, (total - before.kinds.get((group, kind), 0)) * per, total))
        totals.requests = sum(statuses.values())
        totals.failing = sum(count for status, count in statuses.items() if status >= 500)
        reading.requests = (totals.requests - before.requests) * per
        reading.failing = (totals.failing - before.failing) * per
        reading.in_flight = metrics.in_flight
        reading.tcp = metrics.tcp_connections()
        reading.ended = metrics.sessions_ended
        reading.resumed += metrics.ended_resumptions
        if id:
            both = reading.bytes_in, reading.bytes_out
            reading.workers = [WorkerRow(id, os.getpid(), "ready", reading.session_count, reading.requests, *both)]
        return reading

    async def _read_sessions(
        self, reading: Reading, before: _Totals, totals: _Totals, per: float
    ) -> dict[str, tuple[float, float]]:
        """What the sessions of each endpoint carry a second, in and out; rows are made of the busiest sessions only."""
        carried: dict[str, tuple[float, float]] = {}
        found: list[tuple[float, float, float, Registration]] = []
        for number, one in enumerate(tuple(self._registrations)):
            if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            session = one.session
            sent, got = totals.sessions[one.number] = session.bytes_out, session.bytes_in
            sent_before, got_before = before.sessions.get(one.number, (0, 0))
            # What leaves here goes to the agent, and towards the service.
            bytes_in, bytes_out = (sent - sent_before) * per, (got - got_before) * per
            found.append((bytes_in + bytes_out, one.since, bytes_in, one))
            all_in, all_out = carried.get(one.endpoint, (0.0, 0.0))
            carried[one.endpoint] = all_in + bytes_in, all_out + bytes_out
            reading.bytes_in += bytes_in
            reading.bytes_out += bytes_out
            reading.streams += len(session.mux.streams)
            reading.suspended += session.suspended
            reading.resumed += session.resumptions
        reading.session_count = len(found)
        busiest = nlargest(MOST_ROWS, found, key=itemgetter(0, 1))
        reading.sessions = [self._row(one, bytes_in, all_ - bytes_in) for all_, _, bytes_in, one in busiest]
        return carried

    def _row(self, one: Registration, bytes_in: float, bytes_out: float) -> SessionRow:
        session = one.session
        endpoint, tenant = split(one.endpoint)
        return SessionRow(
            f"{os.getpid()}.{one.number}",
            endpoint,
            tenant,
            one.principal,
            one.client,
            one.about.version,
            one.about.way,
            carrier=session.carrier.kind,
            suspended=session.suspended,
            seconds=session.reactor.now - one.since,
            round_trip=session.round_trip,
            streams=len(session.mux.streams),
            window=session.windows.granted,
            stalls=session.window_stalls,
            resumptions=session.resumptions,
            weight=one.weight,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
        )

    async def _read_endpoints(
        self,
        reading: Reading,
        carried: Mapping[str, tuple[float, float]],
        before: _Totals,
        totals: _Totals,
        per: float,
    ) -> None:
        """Rows of those that are asked for most, and of the others those that have served most."""
        here, served = self._metrics.endpoints(), self._metrics.served()
        totals.endpoints = served
        reading.endpoint_count = len(here)
        await trio.lowlevel.checkpoint()
        found: list[tuple[float, float, int, str]] = []
        for number, key in enumerate({**here, **served}):
            if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            requests = served.get(key, (0, 0))[0]
            rate = (requests - before.endpoints.get(key, (0, 0))[0]) * per
            found.append((rate, sum(carried.get(key, ())), requests, key))
        for rate, _, requests, key in nlargest(MOST_ROWS, found, key=itemgetter(0, 1, 2)):
            failed = served.get(key, (0, 0))[1]
            failing = (failed - before.endpoints.get(key, (0, 0))[1]) * per
            bytes_in, bytes_out = carried.get(key, (0.0, 0.0))
            endpoint, tenant = split(key)
            reading.endpoints.append(
                EndpointRow(
                    endpoint,
                    tenant,
                    here.get(key, 0),
                    rate,
                    failing,
                    bytes_in,
                    bytes_out,
                    served=requests,
                    failed=failed,
                )
            )

    def _wrong(self, statuses: Mapping[int, int]) -> list[tuple[str, str, int]]:
        """Groups, kinds, and how many there were since the start."""
        metrics = self._metrics
        found = [("answer", str(status), count) for status, count in sorted(statuses.items()) if status >= 400]
        found += [
            (f"limit, {port} port", limit, count)
            for port, limits in metrics.limited().items()
            for limit, count in limits.items()
        ]
        found += [("visitor", reason, count) for reason, count in metrics.visitors_refused().items()]
        found += [("connection ended", reason, count) for reason, count in metrics.ended().items()]
        found += [("defect", place, count) for place, count in metrics.internal_errors.items()]
        found.append(("agent refused", "too many carriers", metrics.carriers_refused()))
        found.append(("session not kept", "too many suspended", metrics.suspensions_refused()))
        return [one for one in found if one[2]]


class _Totals:
    """Since the start, as they were read."""

    def __init__(self) -> None:
        self.requests = self.failing = 0
        self.latencies: list[int] = []
        self.kinds: dict[tuple[str, str], int] = {}
        self.sessions: dict[int, tuple[int, int]] = {}  # by their numbers: bytes out and in
        self.endpoints: Mapping[str, tuple[int, int]] = {}  # see NodeMetrics.served
