"""A node: its three ports, and what it says of itself to others."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, ClassVar

from msgspec import field

from engine.config.address import is_loopback, split_address
from engine.config.auth import AuthConfig
from engine.config.check import Defect, check_distinct, check_no_clash
from engine.config.kinds import (
    Address,
    BindAddr,
    Count,
    CountAboveZero,
    CountOrDefault,
    Fraction,
    Members,
    PortsOfEndpoints,
    PublicURL,
    Ratio,
    Seconds,
    SecondsAboveZero,
    SecondsOrNever,
    Switch,
    Word,
)
from engine.config.knob import Section, knobs
from engine.config.log import AccessLogConfig, LogConfig
from engine.config.tls import ServerTLS


class HTTPConfig(Section):
    # Without a limit they are infinite.
    read_timeout: Annotated[SecondsOrNever, "Longest pause inside a request; 0 or less: no limit."] = 10.0
    read_header_timeout: Annotated[SecondsOrNever, "Longest wait for a whole request head; 0: as read-timeout."] = 10.0
    write_timeout: Annotated[SecondsOrNever, "How long a client may take no byte of an answer; 0: no limit."] = 10.0
    idle_timeout: Annotated[SecondsOrNever, "Longest wait for a client's next request; 0: as read-timeout."] = 300.0
    max_header_bytes: Annotated[CountOrDefault, "Largest request head, in bytes; never more than 32768."] = 1 << 20

    @property
    def head_limit(self) -> int:
        """The largest request head in bytes that is read: `max_header_bytes`, but not more than our reader takes."""
        from engine.wire.http1 import MAX_HEAD

        return min(self.max_header_bytes, MAX_HEAD)


class ProxyConfig(Section):
    title: ClassVar[str] = "Proxy port, where clients come in"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8000"
    advertise_addr: Annotated[Address, "Address that others are told; empty: made from bind-addr."] = ""
    # Ours.
    public_url: Annotated[
        PublicURL, "Its URL for clients, told to agents; its scheme, to services: https://*.HOST."
    ] = ""
    timeout: Annotated[Seconds, "Longest wait for the first byte of an answer; 0: no limit."] = 30.0
    # Ours, both.
    tcp: Annotated[PortsOfEndpoints, "Public TCP ports: PORT or HOST:PORT, and the TCP endpoint it leads to."] = []
    tcp_without_token: Annotated[
        Switch, "Ports of `tcp` may be open to everybody, even where `auth` asks other clients for a token."
    ] = False
    http: HTTPConfig = field(default_factory=HTTPConfig)
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)

    def tcp_ports(self) -> list[tuple[str, str]]:
        """The addresses of `tcp`, each with its endpoint. A port alone is one of `bind_addr`'s host."""
        host = self.bind_addr.rpartition(":")[0]
        return [(f"{host}:{where}" if where.isdecimal() else where, endpoint) for where, endpoint in self.tcp]

    def verify(self) -> None:
        # A TCP client has no way to show one. Who has asked for tokens would have an open door, and not know it.
        if self.tcp and not self.tcp_without_token and (self.auth.enabled or self.tls.client_cas):
            asked = "a token (proxy.auth)" if self.auth.enabled else "a certificate (proxy.tls.client_cas)"
            raise Defect(
                "tcp",
                ",".join(map("=".join, self.tcp)),
                f"other clients need {asked}, and TCP clients show none; expected proxy.tcp_without_token: true "
                "if everybody may connect, or `trioduct forward` beside the client, which has a token",
            )


class RebalanceConfig(Section):
    threshold: Annotated[Ratio, "Share above the cluster's average from which sessions are shed; 0: never."] = 0.0
    shed_rate: Annotated[Fraction, "Share of the average to shed each second."] = 0.005
    min_conns: Annotated[Count, "Sessions below which nothing is shed."] = 50


class TenantConfig(Section):
    id: Annotated[Word, "What an agent says as connect.tenant_id."] = ""
    auth: AuthConfig = field(default_factory=AuthConfig)

    def verify(self) -> None:
        if not self.id:
            raise Defect("id", "", "missing; expected a name for the tenant")
        if not self.auth.enabled:
            raise Defect("auth", "", "missing; expected a key to verify the tenant's tokens with")


class UpstreamConfig(Section):
    title: ClassVar[str] = "Upstream port, where agents come in"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8001"
    advertise_addr: Annotated[Address, "Address that others are told; empty: made from bind-addr."] = ""
    rebalance: RebalanceConfig = field(default_factory=RebalanceConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)
    tenants: list[TenantConfig] = []

    def verify(self) -> None:
        check_distinct("tenants", "id", [tenant.id for tenant in self.tenants])


class AdminConfig(Section):
    title: ClassVar[str] = "Admin port: health, metrics, status"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8002"
    advertise_addr: Annotated[Address, "Address that others are told; empty: made from bind-addr."] = ""
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)


class GossipConfig(Section):
    title: ClassVar[str] = "Gossip (checked, and not used: a node is alone in this version)"
    aside: ClassVar[bool] = True

    bind_addr: Annotated[BindAddr, "Address to gossip on."] = ":8003"
    advertise_addr: Annotated[Address, "Address that others are told."] = ""
    interval: Annotated[SecondsAboveZero, "Time between two rounds."] = 0.1
    max_packet_size: Annotated[CountAboveZero, "Largest packet, in bytes."] = 1400


class ClusterConfig(Section):
    title: ClassVar[str] = "Cluster"

    node_id: Annotated[Word, "Name of this node; empty: seven random letters and digits."] = ""
    node_id_prefix: Annotated[Word, "What a random name begins with."] = ""
    join: Annotated[Members, "Nodes to join: not supported in this version, each node stands alone."] = []
    join_timeout: Annotated[SecondsAboveZero, "Longest attempt to join."] = 60.0
    abort_if_join_fails: Annotated[Switch, "End if no node could be joined."] = True
    gossip: GossipConfig = field(default_factory=GossipConfig)

    def choose_node_id(self) -> str:
        """The name of this node; a random one is drawn at the first call, and kept in `node_id`."""
        if not self.node_id:
            import secrets  # 4 ms to import, and only a node needs a name
            import string

            alphabet = string.ascii_lowercase + string.digits
            self.node_id = self.node_id_prefix + "".join(secrets.choice(alphabet) for _ in range(7))
        return self.node_id


# Taken and checked, because a file of Piko's may have them; read by nothing, because a node is alone in this version.
# Where one ends with a dot, it is all that stands below it.
WITHOUT_EFFECT = (
    "proxy.tls.client.",
    "upstream.advertise_addr",
    "upstream.rebalance.",
    "upstream.tls.client.",
    "admin.tls.client.",
    "cluster.join_timeout",
    "cluster.abort_if_join_fails",
    "cluster.gossip.",
)


class ServerConfig(Section):
    """Everything about a node."""

    title: ClassVar[str] = "Shutdown"

    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log: LogConfig = field(default_factory=LogConfig)
    grace_period: Annotated[SecondsAboveZero, "What requests in flight get to finish in after SIGTERM."] = 60.0

    def listens(self) -> list[tuple[str, str]]:
        """The addresses that it listens on, each with its key."""
        return [
            ("proxy.bind_addr", self.proxy.bind_addr),
            ("upstream.bind_addr", self.upstream.bind_addr),
            ("admin.bind_addr", self.admin.bind_addr),
            *(("proxy.tcp", address) for address, _ in self.proxy.tcp_ports()),
        ]

    def verify(self) -> None:
        check_no_clash(self.listens(), ServerConfig().listens())
        # To ignore these would leave somebody with half a cluster, or with an open door.
        if self.cluster.join:
            joined = ",".join(self.cluster.join)
            raise Defect("cluster.join", joined, "clusters are not supported in this version; expected none to join")
        if self.upstream.tenants:
            raise Defect("upstream.tenants", "", "tenants are not supported in this version; expected none")

    def warnings(self, said: Collection[str]) -> Iterator[str]:
        default = ServerConfig()
        idle = [
            knob.key
            for knob in knobs(ServerConfig)
            if knob.key.startswith(WITHOUT_EFFECT) and knob.value(self) != knob.value(default)
        ]
        if idle:
            verb = "has" if len(idle) == 1 else "have"
            yield f"{', '.join(idle)} {verb} no effect: a node is alone in this version"
        upstream = self.upstream
        if not (upstream.auth.enabled or upstream.tls.client_cas or is_loopback(split_address(upstream.bind_addr)[0])):
            yield (
                f"upstream.bind_addr {upstream.bind_addr}: anybody may offer any endpoint there; set "
                "upstream.auth.hmac_secret_key, and give agents a token: `trioduct token --help`"
            )
        for address, endpoint in self.proxy.tcp_ports():
            if not (self.proxy.tcp_without_token or is_loopback(split_address(address)[0])):
                yield (
                    f"proxy.tcp {address}={endpoint}: anybody may connect, for TCP clients show no token; "
                    "if that is meant, set proxy.tcp_without_token"
                )
        http = self.proxy.http
        if "proxy.http.max_header_bytes" in said and http.head_limit < http.max_header_bytes:
            yield f"proxy.http.max_header_bytes {http.max_header_bytes}: heads are bounded at {http.head_limit} bytes"
