"""What a client is told about a proxy, and what it is asked to do through it; for another process, as data."""

import msgspec

HOST = "127.0.0.1"


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy on this machine. `curl_scheme` is what curl calls the way to log in (its option is `--proxy-…`);
    `principal` is what Kerberos calls the proxy; `authority` is the PEM file to believe, for an https proxy and for
    the service.
    """

    scheme: str
    port: int
    user: str = ""
    password: str = ""
    curl_scheme: str = ""
    principal: str = ""
    authority: str = ""
    environment: dict[str, str] = {}

    @property
    def place(self) -> str:
        return f"{HOST}:{self.port}"


DIRECT = Way(scheme="direct", port=0)


class Handshakes(msgspec.Struct, frozen=True, tag="handshakes"):
    """Tunnels one after another, each with one small request in it, so that it is known to work.

    `remembered`: what was learned from the one before may be used. The first `unmeasured` do not count.
    """

    port: int  # of the service
    tunnels: int
    remembered: bool
    unmeasured: int = 0


class Transfer(msgspec.Struct, frozen=True, tag="transfer"):
    """One body, down from the service or up to it, timed from the request to its last byte, or to the answer.

    `detached` takes the socket out of the tunnel first, as the engine does. `headers` are lines of the request.
    """

    port: int
    path: str
    size: int
    upload: str = ""  # the file to send; "" is a download
    tls: bool = False
    detached: bool = False
    headers: tuple[str, ...] = ()


Errand = Handshakes | Transfer


class Spent(msgspec.Struct, frozen=True):
    """Seconds of each tunnel until it was open, or of the transfer; processor seconds of all together."""

    seconds: list[float]
    cpu_seconds: float


class Order(msgspec.Struct, frozen=True):
    way: Way
    errand: Errand
