"""A forward: local ports, and the endpoints that they lead to."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from engine.config.address import split_address
from engine.config.check import Defect, check_no_clash
from engine.config.connect import ConnectConfig
from engine.config.kinds import EndpointID, PortProtocol, Word
from engine.config.knob import Section
from engine.config.log import LogConfig
from engine.config.udp import UdpConfig


class PortConfig(Section):
    """One local port, and the endpoint that it leads to."""

    addr: Annotated[Word, "Where to listen: a port of localhost, or host:port."] = ""
    endpoint_id: Annotated[EndpointID, "Endpoint that it leads to."] = ""
    protocol: Annotated[PortProtocol, "What its clients speak."] = "tcp"
    udp: UdpConfig = field(default_factory=UdpConfig)

    @property
    def bind_addr(self) -> str:
        """`addr` as host:port."""
        return f"localhost:{self.addr}" if self.addr.isdecimal() else self.addr

    def verify(self) -> None:
        try:
            split_address(self.bind_addr)
        except ValueError:
            missing = "" if self.addr else "missing; "
            raise Defect("addr", self.addr, f"{missing}expected a port from 0 to 65535, or host:port") from None
        if not self.endpoint_id:
            raise Defect("endpoint_id", "", "missing; expected the name of an endpoint")
        if self.protocol != "udp" and self.udp != UdpConfig():
            raise Defect("udp", "", f"the protocol is {self.protocol}; expected it with udp")


class ForwardConfig(Section):
    """Everything about a forward."""

    connect: ConnectConfig = field(default_factory=lambda: ConnectConfig(url="http://localhost:8000"))
    log: LogConfig = field(default_factory=LogConfig)
    ports: list[PortConfig] = []

    def listens(self) -> list[tuple[str, str]]:
        """The addresses that it listens on, each with its key."""
        return [(f"ports[{index}].addr", port.bind_addr) for index, port in enumerate(self.ports)]

    def verify(self) -> None:
        for protocol in ("tcp", "udp"):
            listens = [one for one, port in zip(self.listens(), self.ports, strict=True) if port.protocol == protocol]
            check_no_clash(listens, [])
