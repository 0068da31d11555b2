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


class Middlebox(StrEnum):
    """What stands between agent and node, in front of the node's port, as the node's side has it."""

    NONE = ""
    NGINX = "nginx"  # its defaults: whole bodies are kept back both ways, HTTP/1.0 to the node, no Upgrade
    NGINX_UPGRADE = "nginx-upgrade"  # the same with the lines that let WebSocket pass
    NGINX_STREAMING = "nginx-streaming"  # HTTP/1.1 to the node, bodies of any length as they come
    CUTTER = "cutter"  # a relay that cuts what is open when it is told to


class Shape(msgspec.Struct, frozen=True):
    """A topology by its parts. Proxies are names such as `pproxy` or `squid`, first hop first."""

    route: Route = Route.TUNNEL
    service: Service = Service.WEB
    secure: bool = False  # wss between agent and node
    proxies: tuple[str, ...] = ()
    access_log: bool = False
    middlebox: Middlebox = Middlebox.NONE
    round_trip_seconds: float = 0.0  # added between agent and node
    listeners: int = 0  # more than 0: an agent with so many idle listeners, and no load
    service_options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        words = [self.route.value, *self.proxies]
        if self.secure:
            words.append("wss")
        if self.middlebox:
            words.append(self.middlebox.value)
        if self.round_trip_seconds:
            words.append(f"{self.round_trip_seconds * 1000:g}ms")
        return "+".join(words)
