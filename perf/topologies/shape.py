"""What a topology looks like, in words: who is between the load and the service."""

from enum import StrEnum

import msgspec


class Route(StrEnum):
    DIRECT = "direct"  # load -> service: the floor
    PROXY = "proxy"  # load -> proxies -> service
    TUNNEL = "tunnel"  # load -> node ~ (proxies) ~ agent -> service
    FORWARD = "forward"  # load -> forward -> node ~ (proxies) ~ agent -> TCP service


class Service(StrEnum):
    WEB = "web"  # nginx where it is installed, else ours: /128 small answers, /bulk a large body
    OWN = "own"  # ours: the same paths, swallows uploads, echoes WebSocket messages, may be told to be slow
    RAW = "raw"  # ours, TCP: sends, swallows or echoes bytes


class Shape(msgspec.Struct, frozen=True):
    """A topology by its parts. Proxies are names such as `pproxy` or `squid`, first hop first."""

    route: Route = Route.TUNNEL
    service: Service = Service.WEB
    secure: bool = False  # wss between agent and node
    proxies: tuple[str, ...] = ()
    access_log: bool = False
    round_trip_seconds: float = 0.0  # added between agent and node
    listeners: int = 0  # more than 0: an agent with so many idle listeners, and no load
    service_options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        words = [self.route.value, *self.proxies]
        if self.secure:
            words.append("wss")
        if self.round_trip_seconds:
            words.append(f"{self.round_trip_seconds * 1000:g}ms")
        return "+".join(words)
