"""The table Trioduct has promised to fill: each row with the ratio to Piko, or the bound, that it is to
reach.

`trioduct-perf compare` measures these rows, and `trioduct-perf peers` those that every tunnel can have. 128-byte
answers from nginx; access logs off; metrics on. The crowd's rows come first, because wrk's requests, and nginx's
answers to them, are otherwise all equal to the last byte, which is kind to whoever remembers them, as Trioduct does.
"""

import shutil

import msgspec

from perf.loads.bulk import Download, Upload
from perf.loads.churn import Churn
from perf.loads.closed import Closed
from perf.loads.load import Load
from perf.loads.open import Open
from perf.loads.raw import PingPong, RawDownload, RawUpload
from perf.loads.websocket import Echo
from perf.loads.wrk import Wrk
from perf.record import Better, Figure, Goal, without_goals
from perf.rows import AccessLogRow, IdleRow, LoadRow, Measurable, MemoryRow
from perf.topologies.shape import Route, Service, Shape

FAR_SECONDS = 0.1
FAR_LIMIT_SECONDS = 15.0

WEB = Shape(service=Service.WEB)
OWN = Shape(service=Service.OWN)
RAW = Shape(route=Route.FORWARD, service=Service.RAW)
WEB_WSS = Shape(service=Service.WEB, secure=True)
OWN_WSS = Shape(service=Service.OWN, secure=True)
FAR = Shape(service=Service.WEB, round_trip_seconds=FAR_SECONDS)


PEER_ROWS = (
    *("crowd-32", "crowd-256", "keepalive-32", "keepalive-256", "keepalive-1", "open-1000", "churn", "echo"),
    *(
        "answers-64k",
        "downloads-8",
        "bulk-down",
        "bulk-up",
        "bulk-down-wss",
        "bulk-up-wss",
        "tcp-down",
        "tcp-up",
        "tcp-ping-pong",
    ),
)


def at_least(name: str, bound: float | None = None, *, absolute: bool = False) -> Figure:
    return Figure(name, Better.HIGHER, None if bound is None else Goal(bound, absolute))


def at_most(name: str, bound: float | None = None, *, absolute: bool = False) -> Figure:
    return Figure(name, Better.LOWER, None if bound is None else Goal(bound, absolute))


def keep_alive(connections: int, *, varied: bool = False, path: str = "") -> Load:
    """wrk where it is installed, because it takes the least from the cores it shares with the tunnel."""
    if shutil.which("wrk"):
        return Wrk(connections=connections, varied=varied, path=path)
    return Closed(connections=connections, varied=varied, path=path)


def promised_rows(*, against_piko: bool = True) -> list[Measurable]:
    """The rows; without the goals that are ratios to Piko if it is something else they are measured against."""
    rows = _rows()
    if against_piko:
        return [*rows]
    return [msgspec.structs.replace(row, figures=tuple(without_goals(row.figures))) for row in rows]


def peer_rows() -> list[Measurable]:
    """What every tunnel can do, and no goal: some of them have promised nothing to anybody."""
    promised = {row.name: row for row in _rows()}
    rows: list[Measurable] = [
        msgspec.structs.replace(
            promised[name],
            title=promised[name].title.replace(" through forward", ""),  # each in its own way
            figures=tuple(without_goals(promised[name].figures, absolute_too=True)),
        )
        for name in PEER_ROWS
    ]
    return [*rows, PEER_MEMORY]


def _rows() -> list[LoadRow | AccessLogRow | IdleRow | MemoryRow]:
    return [
        LoadRow(
            name="crowd-32",
            title="a crowd of browsers, 32 connections",
            shape=WEB,
            load=keep_alive(32, varied=True),
            figures=(at_least("requests/s", 4.5), at_most("p99 ms"), at_most("CPU s/million")),
        ),
        LoadRow(
            name="crowd-256",
            title="a crowd of browsers, 256 connections",
            shape=WEB,
            load=keep_alive(256, varied=True),
            figures=(at_least("requests/s", 4.5), at_most("p99 ms"), at_most("p99 / p50", 2.5, absolute=True)),
        ),
        LoadRow(
            name="keepalive-32",
            title="keep-alive, 32 connections",
            shape=WEB,
            load=keep_alive(32),
            figures=(
                at_least("requests/s", 6),
                at_most("p50 ms"),
                at_most("p99 ms"),
                at_most("CPU s/million", 0.2),
            ),
        ),
        LoadRow(
            name="keepalive-256",
            title="keep-alive, 256 connections",
            shape=WEB,
            load=keep_alive(256),
            figures=(at_least("requests/s", 4), at_most("p99 ms")),
        ),
        LoadRow(
            name="keepalive-1",
            title="one connection",
            shape=WEB,
            load=keep_alive(1),
            figures=(at_least("requests/s", 2.5), at_most("p50 ms")),
        ),
        LoadRow(
            name="open-1000",
            title="1 000 requests/s, open loop",
            shape=WEB,
            load=Open(rate=1000),
            figures=(at_most("p50 ms", 0.5), at_most("p99 ms", 0.5)),
        ),
        LoadRow(
            name="churn",
            title="a new connection per request",
            shape=WEB,
            load=Churn(connections=32),
            figures=(at_least("requests/s", 3), at_most("p99 / p50", 3, absolute=True)),
        ),
        LoadRow(
            name="answers-64k",
            title="64 KiB answers, 32 connections",
            shape=WEB,
            load=keep_alive(32, path="/64k"),
            figures=(at_least("requests/s"), at_most("p99 ms"), at_most("CPU s/million")),
        ),
        LoadRow(
            name="downloads-8",
            title="eight downloads at once",
            shape=WEB,
            load=keep_alive(8, path="/15mb"),
            figures=(at_least("MB/s down"),),
        ),
        LoadRow(
            name="bulk-down",
            title="download, ws",
            shape=WEB,
            load=Download(path="/bulk"),
            figures=(at_least("MB/s down", 3), at_most("CPU s/GB down", 0.4)),
        ),
        LoadRow(
            name="bulk-up",
            title="upload, ws",
            shape=OWN,
            load=Upload(),
            figures=(at_least("MB/s up", 1.7), at_most("CPU s/GB up", 0.7)),
        ),
        LoadRow(
            name="bulk-down-wss",
            title="download, wss",
            shape=WEB_WSS,
            load=Download(path="/bulk"),
            figures=(at_least("MB/s down", 3.5), at_most("CPU s/GB down")),
        ),
        LoadRow(
            name="bulk-up-wss",
            title="upload, wss",
            shape=OWN_WSS,
            load=Upload(),
            figures=(at_least("MB/s up", 2.5), at_most("CPU s/GB up")),
        ),
        LoadRow(
            name="tcp-down",
            title="TCP through forward, down",
            shape=RAW,
            load=RawDownload(),
            figures=(at_least("MB/s down", 4),),
        ),
        LoadRow(
            name="tcp-up",
            title="TCP through forward, up",
            shape=RAW,
            load=RawUpload(),
            figures=(at_least("MB/s up", 9),),
        ),
        LoadRow(
            name="tcp-ping-pong",
            title="TCP through forward, 64 B there and back",
            shape=RAW,
            load=PingPong(),
            figures=(at_most("p50 ms", 0.9), at_most("p99 ms")),
        ),
        LoadRow(
            name="echo",
            title="WebSocket echo, 125 B, 32 connections",
            shape=OWN,
            load=Echo(connections=32, message_bytes=125),
            figures=(at_least("requests/s", 2.2), at_most("p50 ms"), at_most("CPU s/million")),
        ),
        AccessLogRow(
            name="access-log-crowd",
            title="access logs on (both), a crowd",
            shape=WEB,
            load=keep_alive(32, varied=True),
            figures=(at_most("cost %", 15, absolute=True), at_least("requests/s")),
        ),
        AccessLogRow(
            name="access-log",
            title="access logs on (both)",
            shape=WEB,
            load=keep_alive(32),
            figures=(at_most("cost %", 15, absolute=True), at_least("requests/s")),
        ),
        IdleRow(
            name="idle-1000",
            title="1 000 idle tunnels, each",
            shape=Shape(listeners=1000),
            figures=(at_most("node KiB", 20, absolute=True), at_most("agent KiB", 20, absolute=True)),
        ),
        LoadRow(
            name="far-15mb",
            title="15 MB down at 100 ms round trip",
            shape=FAR,
            load=Download(path="/15mb", once=True, seconds=FAR_LIMIT_SECONDS, warmup_seconds=0),
            timed=False,
            most_rounds=3,
            figures=(at_least("MB/s down", 8),),
        ),
        LoadRow(
            name="far-1gb",
            title="1 GB down at 100 ms round trip",
            shape=FAR,
            load=Download(path="/1gb", once=True, seconds=FAR_LIMIT_SECONDS, warmup_seconds=0),
            timed=False,
            most_rounds=2,
            figures=(at_least("MB/s down", 150, absolute=True),),
        ),
        MemoryRow(
            name="memory",
            title="memory after a mix, and growth on its repetition",
            shape=OWN,
            loads=(Closed(connections=256), Churn(connections=32), Download(path="/bulk"), Upload(), Echo()),
            figures=(
                at_most("node MiB"),
                at_most("agent MiB"),
                at_most("node growth %", 10, absolute=True),
                at_most("agent growth %", 10, absolute=True),
            ),
        ),
    ]


PEER_MEMORY = MemoryRow(
    name="memory",
    title="memory at rest, and after 256 connections and a download",
    shape=WEB,
    loads=(Closed(connections=256), Download(path="/bulk")),
    figures=(
        *(at_most("node MiB at rest"), at_most("agent MiB at rest")),
        *(at_most("node MiB"), at_most("agent MiB")),
    ),
)
