"""What `trioduct-perf run` measures: topologies (columns) and loads (rows), by name.

A topology is a route and what is added to it, joined by `+`: `direct`, `proxy`, `tunnel`, `forward`, then `proxy`
(the program chosen by --proxy), any proxy program (`squid`, `pproxy:socks5`, …; several make a chain), `wss`.
"""

from pathlib import Path

import msgspec

from perf.contender import Contender
from perf.errors import LabError
from perf.loads import AnyLoad
from perf.loads.bulk import Download, Upload
from perf.loads.churn import Churn
from perf.loads.closed import VARIED, Closed
from perf.loads.fresh import Fresh
from perf.loads.load import Load
from perf.loads.open import Arrivals, Open
from perf.loads.raw import PingPong, RawDownload, RawUpload
from perf.loads.target import Target
from perf.loads.websocket import Echo
from perf.record import BY_US, BY_WRK, Better, Figure
from perf.rows import LoadRow, Measurable, MixRow, RampRow, WitnessRow
from perf.topologies.proxies import parse_proxy
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels import tunnel_named

RAMP_FROM = 500.0
SLOW_READERS = 50
RATE = Figure("requests/s")
DOWN, UP = Figure("MB/s down"), Figure("MB/s up")
P50, P99, P999 = (Figure(f"{name} ms", Better.LOWER) for name in ("p50", "p99", "p99.9"))
PER_MILLION = Figure("CPU s/million", Better.LOWER)
CLOSED = RATE, P50, P99, PER_MILLION


class Options(msgspec.Struct, frozen=True):
    """What a user may choose about the loads."""

    rate: float = 1000.0
    connections: int = 32
    arrivals: Arrivals = "constant"
    body_bytes: int = 0
    message_bytes: int = 125
    processes: int = 1
    own_service: bool = False
    bound_ms: float = 20.0  # of p99, on the ramp


LOADS = (
    *("crowd", "fresh", "open", "stalled", "slow-readers", "ramp", "closed", "wrk", "churn"),
    *("down", "up", "echo", "raw-down", "raw-up", "ping-pong"),
)


def load_row(name: str, options: Options, *, abroad: bool = False) -> Measurable:
    """A load by its name, on the service that it needs; `abroad`, on one that is not ours and knows its own path alone.

    Raises LabError.
    """
    connections, processes = options.connections, options.processes
    web = Shape(service=Service.OWN if options.own_service or options.body_bytes else Service.WEB)
    own, raw = Shape(service=Service.OWN), Shape(service=Service.RAW)
    match name:
        case "crowd":
            folder = "" if abroad else VARIED
            crowd = Closed(connections=connections, processes=processes, varied=True, folder=folder)
            return _row(name, f"a crowd of browsers, {connections} connections", web, crowd, *CLOSED)
        case "fresh":
            return _row(name, "a new connection, leg by leg", web, Fresh(), P50, P99)
        case "open":
            load = Open(
                rate=options.rate,
                connections=max(64, connections),
                arrivals=options.arrivals,
                body_bytes=options.body_bytes,
                processes=processes,
            )
            return _row(name, f"open loop, {options.rate:g}/s", web, load, P50, P99, P999)
        case "stalled" | "slow-readers":
            takers = {"stalled": 1} if name == "stalled" else {"slow_readers": SLOW_READERS}
            title = f"open loop, {options.rate:g}/s, beside " + (
                "a stalled stream" if name == "stalled" else f"{SLOW_READERS} slow readers"
            )
            crowded = Open(rate=options.rate, connections=64, arrivals=options.arrivals, **takers)
            return _row(name, title, web, crowded, P50, P99, P999)
        case "ramp":
            ramp = Open(rate=RAMP_FROM, connections=256, arrivals=options.arrivals, processes=processes)
            title = f"the highest rate with p99 under {options.bound_ms:g} ms"
            return RampRow(name=name, title=title, shape=web, load=ramp, bound_ms=options.bound_ms)
        case "closed":
            closed = Closed(connections=connections, body_bytes=options.body_bytes, processes=processes)
            return _row(name, f"closed loop, {connections} connections", web, closed, *CLOSED)
        case "wrk":
            title = f"closed loop by wrk, {connections} connections, and by us in turns"
            figures = Figure(BY_WRK), Figure(BY_US), P50, P99
            return WitnessRow(
                name=name, title=title, shape=web, connections=connections, processes=processes, figures=figures
            )
        case "churn":
            title = f"a new connection per request, {connections} at a time"
            return _row(name, title, web, Churn(connections=connections, processes=processes), RATE, P50, P99)
        case "down":
            path = "" if abroad else "/bulk"
            return _row(name, "download, one stream", web, Download(path=path), DOWN, _per_gb("down"))
        case "up":
            return _row(name, "upload, one stream", own, Upload(), UP, _per_gb("up"))
        case "echo":
            echo = Echo(connections=connections, message_bytes=options.message_bytes, processes=processes)
            return _row(name, f"WebSocket echo, {options.message_bytes} B", own, echo, RATE, P50, P99)
        case "raw-down":
            return _row(name, "TCP, down", raw, RawDownload(), DOWN)
        case "raw-up":
            return _row(name, "TCP, up", raw, RawUpload(), UP)
        case "ping-pong":
            return _row(name, "TCP, 64 B there and back", raw, PingPong(), RATE, P50, P99)
    raise LabError(f"no load is called {name}: there are {', '.join(LOADS)}")


def mix_row(path: Path) -> MixRow:
    """The loads of a YAML file, all at once: a list of loads with their fields. Raises LabError.

    - {load: open, rate: 500}
    - {load: echo, connections: 8}
    - {load: download, path: /bulk}
    """
    try:
        loads = msgspec.yaml.decode(path.read_bytes(), type=list[AnyLoad])
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise LabError(f"{path}: {error}") from error
    if not loads:
        raise LabError(f"{path} names no load")
    names = [str(type(load).__struct_config__.tag) for load in loads]
    parts = []
    for index, (name, load) in enumerate(zip(names, loads, strict=True)):
        unique = name if names.count(name) == 1 else f"{name}-{index + 1}"
        figures = (DOWN,) if isinstance(load, Download) else (UP,) if isinstance(load, Upload) else (RATE, P50, P99)
        parts.append((unique, load, figures))
    return MixRow(
        name="mix", title=f"{path.stem}: {', '.join(names)}", shape=Shape(service=Service.OWN), loads=tuple(parts)
    )


def contender_named(name: str, *, proxy: str, program: str, service_options: tuple[str, ...] = ()) -> Contender:
    """A topology by its name. Raises LabError."""
    word, *parts = name.split("+")
    try:
        route = Route(word)
    except ValueError as error:
        raise LabError(f"no route is called {word}: there are {', '.join(Route)}") from error
    proxies = [proxy] if route == Route.PROXY and not any(part != "wss" for part in parts) else []
    for part in parts:
        if part != "wss":
            proxies.append(proxy if part == "proxy" else part)
    for chosen in proxies:
        parse_proxy(chosen)
    tunnelled = route in (Route.TUNNEL, Route.FORWARD)
    if "wss" in parts and not tunnelled:
        raise LabError(f"{name}: wss is a matter of node and agent, and {word} has none")
    return Contender(
        name=name,
        tunnel=tunnel_named(program) if tunnelled else None,
        route=route,
        proxies=tuple(proxies),
        secure="wss" in parts,
        service_options=service_options,
    )


def contenders_at(url: str, via: tuple[str, ...]) -> list[Contender]:
    """Somebody's own deployment: straight, and through their proxies."""
    straight = Contender(name="straight", target=Target.of_url(url, ()))
    return [straight, Contender(name="via", target=Target.of_url(url, via))] if via else [straight]


def _row(name: str, title: str, shape: Shape, load: Load, *figures: Figure) -> LoadRow:
    return LoadRow(name=name, title=title, shape=shape, load=load, figures=figures)


def _per_gb(way: str) -> Figure:
    return Figure(f"CPU s/GB {way}", Better.LOWER)
