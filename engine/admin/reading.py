"""What a node looks like at one moment, as plain data: what it carries a second, and what it has.

Each process of a node reads itself (`engine.node.figures`); the readings of several workers are joined to one. Rates
are since the process was read before, so a worker that is replaced leaves no dent. Rows are bounded: the busiest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

MOST_ROWS: Final = 100  # of each table


class SessionRow(msgspec.Struct):
    """A session. `id` is its own within the node; bytes go in towards the service, out from it, a second."""

    id: str
    endpoint: str
    tenant: str = ""
    principal: str = ""
    client: str = ""  # the agent's address
    version: str = ""  # these two as its agent has said; see wire.agents
    way: str = ""
    carrier: str = ""
    suspended: bool = False
    seconds: float = 0.0  # its age
    round_trip: float = 0.0  # seconds; 0: not known yet
    streams: int = 0  # open
    window: int = 0  # bytes that the agent may have under way in them
    stalls: int = 0  # times that a stream had to wait for the agent's window
    resumptions: int = 0
    weight: int = 1
    bytes_in: float = 0.0
    bytes_out: float = 0.0


class EndpointRow(msgspec.Struct):
    """An endpoint: its sessions, what it serves a second, and all that it has served. `failed`: with 500 or above."""

    endpoint: str
    tenant: str = ""
    sessions: int = 0
    requests: float = 0.0
    failing: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    served: int = 0
    failed: int = 0


class KindRow(msgspec.Struct):
    """A kind of what went wrong: `group` says where it was counted, `kind` what it is; a second, and in all."""

    group: str
    kind: str
    rate: float = 0.0
    total: int = 0


class WorkerRow(msgspec.Struct):
    """A process of the node."""

    id: str
    pid: int
    phase: str
    sessions: int = 0
    requests: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0


class Reading(msgspec.Struct):
    """All that was read. `latencies`: of the requests that were done since, between two of metrics.SECONDS_BOUNDS each.
    Of `sessions`, `endpoints` and `kinds` only the first rows are here, and their numbers. What `ended` and `resumed`
    is since the start.
    """

    sessions: list[SessionRow] = []
    endpoints: list[EndpointRow] = []
    kinds: list[KindRow] = []
    workers: list[WorkerRow] = []
    latencies: list[int] = []
    seconds: float = 0.0  # since it was read before; 0: it was not, and rates are not known
    requests: float = 0.0
    failing: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    in_flight: int = 0
    session_count: int = 0
    suspended: int = 0
    endpoint_count: int = 0
    streams: int = 0
    tcp: int = 0
    ended: int = 0
    resumed: int = 0


_SUMS: Final = (
    *("requests", "failing", "bytes_in", "bytes_out", "in_flight", "session_count", "suspended", "streams", "tcp"),
    *("ended", "resumed"),
)


def join(readings: Iterable[Reading]) -> Reading:
    """One for all processes of a node. An endpoint may have sessions with each of them."""
    joined = Reading()
    endpoints: dict[tuple[str, str], EndpointRow] = {}
    kinds: dict[tuple[str, str], KindRow] = {}
    for one in readings:
        for name in _SUMS:
            setattr(joined, name, getattr(joined, name) + getattr(one, name))
        joined.endpoint_count = max(joined.endpoint_count, one.endpoint_count)
        joined.seconds = max(joined.seconds, one.seconds)
        joined.sessions += one.sessions
        joined.workers += one.workers
        joined.latencies = add(joined.latencies, one.latencies)
        for row in one.endpoints:
            _add(endpoints.setdefault((row.endpoint, row.tenant), EndpointRow(row.endpoint, row.tenant)), row, 2)
        for kind in one.kinds:
            _add(kinds.setdefault((kind.group, kind.kind), KindRow(kind.group, kind.kind)), kind, 2)
    joined.sessions = busiest_sessions(joined.sessions)
    joined.endpoints = busiest_endpoints(endpoints.values())
    joined.endpoint_count = max(joined.endpoint_count, len(endpoints))
    joined.kinds = list(kinds.values())
    return joined


def add(one: list[int], other: list[int]) -> list[int]:
    """Counts of the same buckets; an empty list for none."""
    return [a + b for a, b in zip(one, other, strict=True)] if one and other else one or other


def _add(sum_: EndpointRow | KindRow, row: EndpointRow | KindRow, first: int) -> None:
    for name in row.__struct_fields__[first:]:
        setattr(sum_, name, getattr(sum_, name) + getattr(row, name))


def busiest_sessions(rows: Iterable[SessionRow]) -> list[SessionRow]:
    """Those that carry most, and of the others the youngest."""
    return sorted(rows, key=lambda row: (-row.bytes_in - row.bytes_out, row.seconds))[:MOST_ROWS]


def busiest_endpoints(rows: Iterable[EndpointRow]) -> list[EndpointRow]:
    """Those that are asked for most, and of the others those that have served most."""
    return sorted(rows, key=lambda row: (-row.requests, -row.bytes_in - row.bytes_out, -row.served, row.endpoint))[
        :MOST_ROWS
    ]
