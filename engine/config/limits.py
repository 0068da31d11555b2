"""How much one client, principal or endpoint may ask of a node."""

from __future__ import annotations

from typing import Annotated

from engine.config.kinds import Count
from engine.config.knob import Section


class ClientLimits(Section):
    connections: Annotated[Count, "Connections of one client address at once (IPv6: of a /64); 0: no limit."] = 1000
    connection_rate: Annotated[Count, "New connections of one client address per second; 0: no limit."] = 200
    requests: Annotated[Count, "Requests to an endpoint per second, by one principal; 0: no limit."] = 0
    bytes: Annotated[Count, "Bytes of requests and responses per second, likewise; 0: no limit."] = 0


class AgentLimits(Section):
    connections: Annotated[Count, "Connections of one address at once (IPv6: of a /64); 0: no limit."] = 1000
    connection_rate: Annotated[Count, "New connections of one address per second; 0: no limit."] = 200
    sessions: Annotated[Count, "Sessions of one principal (sub of its tokens) at once; 0: no limit."] = 1000
    registrations: Annotated[Count, "Registrations of one principal per second; 0: no limit."] = 100
