"""What the dashboard and `trioduct top` show of a node's messages (admin.live): tables, columns, and values as text.

`kind` says what a value is, and how it is written; dashboard.js writes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal["text", "count", "rate", "bytes", "bytes_rate", "seconds", "age", "yes"]


class Column(NamedTuple):
    """`key` of a row; columns that are `aside` are left out where there is little room."""

    key: str
    title: str
    kind: Kind = "text"
    aside: bool = False


class Table(NamedTuple):
    """`key` of the message. Rows are told apart by their values of `id`, and sorted by `sort` at first."""

    key: str
    title: str
    id: tuple[str, ...]
    sort: str
    columns: tuple[Column, ...]


TABLES: Final = (
    Table(
        "endpoints",
        "Endpoints",
        ("endpoint", "tenant"),
        "requests",
        (
            Column("endpoint", "Endpoint"),
            Column("tenant", "Tenant", aside=True),
            Column("sessions", "Sessions", "count"),
            Column("requests", "Requests/s", "rate"),
            Column("failing", "5xx/s", "rate"),
            Column("bytes_in", "In", "bytes_rate"),
            Column("bytes_out", "Out", "bytes_rate"),
            Column("served", "Served", "count"),
            Column("failed", "5xx", "count"),
        ),
    ),
    Table(
        "sessions",
        "Sessions",
        ("id",),
        "bytes_out",
        (
            Column("endpoint", "Endpoint"),
            Column("tenant", "Tenant", aside=True),
            Column("client", "Agent"),
            Column("principal", "Principal", aside=True),
            Column("version", "Version", aside=True),
            Column("way", "Way out", aside=True),
            Column("weight", "Weight", "count", aside=True),
            Column("carrier", "Carrier"),
            Column("suspended", "Suspended", "yes", aside=True),
            Column("seconds", "Age", "age"),
            Column("round_trip", "Round trip", "seconds"),
            Column("streams", "Streams", "count"),
            Column("window", "Window", "bytes", aside=True),
            Column("stalls", "Stalls", "count", aside=True),
            Column("resumptions", "Resumed", "count", aside=True),
            Column("bytes_in", "In", "bytes_rate"),
            Column("bytes_out", "Out", "bytes_rate"),
        ),
    ),
    Table(
        "kinds",
        "Errors",
        ("group", "kind"),
        "rate",
        (
            Column("group", "Where"),
            Column("kind", "Kind"),
            Column("rate", "Per second", "rate"),
            Column("total", "Since the start", "count"),
        ),
    ),
    Table(
        "nodes",
        "Nodes",
        ("id",),
        "upstreams",
        (
            Column("id", "Node"),
            Column("status", "Status"),
            Column("proxy_addr", "Proxy"),
            Column("admin_addr", "Admin", aside=True),
            Column("endpoints", "Endpoints", "count"),
            Column("upstreams", "Sessions", "count"),
            Column("workers", "Workers", "count", aside=True),
        ),
    ),
    Table(
        "workers",
        "Workers",
        ("id",),
        "requests",
        (
            Column("id", "Worker"),
            Column("pid", "Process", "text"),
            Column("phase", "Phase"),
            Column("sessions", "Sessions", "count"),
            Column("requests", "Requests/s", "rate"),
            Column("bytes_in", "In", "bytes_rate"),
            Column("bytes_out", "Out", "bytes_rate"),
        ),
    ),
)

CARDS: Final = (
    Column("requests", "Requests/s", "rate"),
    Column("p50", "p50", "seconds"),
    Column("p99", "p99", "seconds"),
    Column("failing", "5xx/s", "rate"),
    Column("in_flight", "In flight", "count"),
    Column("bytes_in", "In", "bytes_rate"),
    Column("bytes_out", "Out", "bytes_rate"),
    Column("endpoint_count", "Endpoints", "count"),
    Column("session_count", "Sessions", "count"),
    Column("suspended", "Suspended", "count"),
    Column("streams", "Streams", "count"),
    Column("tcp", "TCP", "count"),
    Column("ended", "Sessions ended", "count"),
    Column("resumed", "Resumed", "count"),
)
"""Of the message's `now`: the node as a whole."""

NOTHING: Final = "–"


def shown(value: object, kind: Kind) -> str:
    """A value as text; what is not known, or nothing, is a dash."""
    if isinstance(value, Mapping | list):
        value = len(value)
    if kind == "text":
        return str(value) if value else NOTHING
    if kind == "yes":
        return "yes" if value else NOTHING
    if not isinstance(value, int | float):
        return NOTHING
    return _number(float(value), kind)


def _number(value: float, kind: Kind) -> str:
    if kind == "seconds":
        return f"{_digits(value * 1000)} ms" if 0 < value < 1 else f"{_digits(value)} s" if value else NOTHING
    if kind == "age":
        return _age(int(value))
    if kind == "count":
        return f"{value:.0f}"
    if kind == "rate":
        return _digits(value) if value else "0"
    if kind == "bytes_rate":
        return _scaled(value, 1000, ("B/s", "kB/s", "MB/s", "GB/s"))
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB"))


def _digits(value: float) -> str:
    """Three, as a person reads them."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _scaled(value: float, by: int, units: tuple[str, ...]) -> str:
    step = 0
    while value >= 1000 and step < len(units) - 1:
        value /= by
        step += 1
    return f"{_digits(value) if step else format(value, '.0f')} {units[step]}"


def _age(seconds: int) -> str:
    for size, unit, of, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // of}{part}"
    return f"{seconds}s"


def sort_value(row: Mapping[str, object], column: Column) -> tuple[int, float, str]:
    """What rows are sorted by: numbers by their size, texts by their letters."""
    value = row.get(column.key)
    if isinstance(value, Mapping | list):
        value = len(value)
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 0, 0.0, str(value or "").lower()
