"""Who is measured: a program, a topology, or somebody's own deployment, by a name that stands above its
column.
"""

from typing import Self

import msgspec

from perf.loads.target import Target
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels import Tunnel


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender changes in the shape that a row asks for; None leaves it to the row.

    With a `target`, nothing is started: the load goes there.
    """

    name: str
    tunnel: Tunnel | None = None
    route: Route | None = None
    proxies: tuple[str, ...] = ()
    secure: bool | None = None
    service_options: tuple[str, ...] = ()
    target: Target | None = None

    def shape(self, asked: Shape) -> Shape:
        route = asked.route if self.route is None else self.route
        if asked.service == Service.RAW and route == Route.TUNNEL:
            route = Route.FORWARD  # TCP reaches a tunnel through a forward only
        return msgspec.structs.replace(
            asked,
            route=route,
            proxies=self.proxies or asked.proxies,
            secure=asked.secure if self.secure is None else self.secure,
            service_options=self.service_options or asked.service_options,
        )

    def version(self) -> str:
        return self.tunnel.version() if self.tunnel is not None else ""

    @classmethod
    def of_program(cls, tunnel: Tunnel) -> Self:
        return cls(name=tunnel.name, tunnel=tunnel)
