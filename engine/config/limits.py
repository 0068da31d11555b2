"""How much one client, principal, tenant or endpoint may ask of a node."""

from __future__ import annotations

from typing import Annotated

from engine.config.kinds import Count, Fraction
from engine.config.knob import Section


class ClientLimits(Section):
    connections: Annotated[Count, "Connections of one client address at once (IPv6: of a /64); 0: no limit."] = 1000
    connection_rate: Annotated[Count, "New connections of one client address per second; 0: no limit."] = 200
    requests: Annotated[Count, "Requests to an endpoint per second, by one principal; 0: no limit."] = 0
    bytes: Annotated[Count, "Bytes from and to an endpoint per second, by one principal; 0: no limit."] = 0
    principal_requests: Annotated[Count, "Requests of one principal per second; 0: no limit."] = 0
    principal_bytes: Annotated[Count, "Bytes from and to one principal per second; 0: no limit."] = 0
    tenant_requests: Annotated[Count, "Requests to a tenant's endpoints per second; 0: no limit."] = 0
    tenant_bytes: Annotated[Count, "Bytes from and to a tenant's endpoints per second; 0: no limit."] = 0
    principal_memory: Annotated[
        Fraction, "Share of the node's buffers for the connections of one principal; 0: no limit."
    ] = 0.25
    tenant_memory: Annotated[Fraction, "Share of the node's buffers for a tenant's clients; 0: no limit."] = 0.5


class AgentLimits(Section):
    connections: Annotated[Count, "Connections of one address at once (IPv6: of a /64); 0: no limit."] = 1000
    connection_rate: Annotated[Count, "New connections of one address per second; 0: no limit."] = 200
    sessions: Annotated[Count, "Sessions of one principal (sub of its tokens) at once; 0: no limit."] = 1000
    streams: Annotated[Count, "Streams open in all sessions of one principal; 0: no limit."] = 10_000
    registrations: Annotated[Count, "Registrations of one principal per second; 0: no limit."] = 100
    principal_memory: Annotated[
        Fraction, "Share of the node's buffers for the sessions of one principal; 0: no limit."
    ] = 0.25
    tenant_memory: Annotated[Fraction, "Share of the node's buffers for a tenant's sessions; 0: no limit."] = 0.5
