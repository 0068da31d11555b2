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
    HostNames,
    Members,
    Networks,
    Origins,
    PortsOfEndpoints,
    PublicURL,
    Ratio,
    Seconds,
    SecondsAboveZero,
    SecondsOrNever,
    Sharing,
    Switch,
    Word,
)
from engine.config.knob import Section, knobs
from engine.config.limits import AgentLimits, ClientLimits
from engine.config.log import AccessLogConfig, LogConfig
from engine.config.tls import ServerTLS


class HTTPConfig(Section):
    # Without a limit they are infinite.
    read_timeout: Annotated[SecondsOrNever, "Longest pause while a request arrives; 0 or less: no limit."] = 10.0
    read_header_timeout: Annotated[SecondsOrNever, "Timeout for the headers of a request; 0: as read-timeout."] = 10.0
    write_timeout: Annotated[
        SecondsOrNever, "Longest time in which a client accepts nothing of a response; 0: no limit."
    ] = 10.0
    idle_timeout: Annotated[SecondsOrNever, "Idle timeout of a client's connection; 0: as read-timeout."] = 300.0
    max_header_bytes: Annotated[CountOrDefault, "Maximum size of request headers, in bytes; 32768 at most."] = 1 << 20

    @property
    def head_limit(self) -> int:
        """The largest request head in bytes that is read: `max_header_bytes`, but not more than our reader takes."""
        from engine.wire.http1 import MAX_HEAD

        return min(self.max_header_bytes, MAX_HEAD)


class ProxyConfig(Section):
    title: ClassVar[str] = "Proxy port (for clients)"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8000"
    advertise_addr: Annotated[Address, "Address to advertise; empty: made from bind-addr."] = ""
    # Ours.
    public_url: Annotated[
        PublicURL, "Its URL for clients; agents show it, services learn its scheme: https://*.HOST."
    ] = ""
    allowed_origins: Annotated[Origins, "Web pages that may open TCP endpoints: https://HOST, or * for all."] = []
    trusted_proxies: Annotated[Networks, "Networks of load balancers in front, whose X-Forwarded-* count."] = []
    proxy_protocol: Annotated[Switch, "They send the PROXY protocol (v1 or v2) first on each connection."] = False
    timeout: Annotated[Seconds, "Timeout until the first byte of a response; 0: no limit."] = 30.0
    # Ours, all three.
    tcp: Annotated[PortsOfEndpoints, "Public TCP ports: PORT or HOST:PORT, and the TCP endpoint it leads to."] = []
    tcp_without_token: Annotated[
        Switch, "Leave the ports of `tcp` open to everybody, even where `auth` requires tokens."
    ] = False
    resume: Annotated[Seconds, "How long a forward's TCP connection is kept when its own was cut; 0: not."] = 30.0
    limits: ClientLimits = field(default_factory=ClientLimits)
    http: HTTPConfig = field(default_factory=HTTPConfig)
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)

    def tcp_ports(self) -> list[tuple[str, str]]:
        """The addresses of `tcp`, each with its endpoint. A port alone is one of `bind_addr`'s host."""
        host = self.bind_addr.rpartition(":")[0]
        return [(f"{host}:{where}" if where.isdecimal() else where, endpoint) for where, endpoint in self.tcp]

    def verify(self) -> None:
        if self.proxy_protocol and not self.trusted_proxies:
            problem = "nobody is trusted to say who calls; expected the networks of trusted_proxies beside it"
            raise Defect("proxy_protocol", "true", problem)
        # A TCP client has no way to show one. Who has asked for tokens would have an open door, and not know it.
        if self.tcp and not self.tcp_without_token and (self.auth.enabled or self.tls.client_cas):
            asked = "a token (proxy.auth)" if self.auth.enabled else "a certificate (proxy.tls.client_cas)"
            raise Defect(
                "tcp",
                ",".join(map("=".join, self.tcp)),
                f"other clients need {asked}, which TCP clients cannot present; expected proxy.tcp_without_token: true "
                "if everybody may connect, or `trioduct forward` beside the client, which has a token",
            )


class RebalanceConfig(Section):
    threshold: Annotated[Ratio, "Excess over the cluster's average above which sessions are shed; 0: never."] = 0.0
    shed_rate: Annotated[Fraction, "Fraction of the average to shed per second."] = 0.005
    min_conns: Annotated[Count, "Number of sessions below which none is shed."] = 50


class TenantConfig(Section):
    id: Annotated[Word, "What an agent says as connect.tenant_id."] = ""
    auth: AuthConfig = field(default_factory=AuthConfig)

    def verify(self) -> None:
        if not self.id:
            raise Defect("id", "", "missing; expected the tenant's name")
        if not self.auth.enabled:
            raise Defect("auth", "", "missing; expected a key to verify the tenant's tokens with")


class UpstreamConfig(Section):
    title: ClassVar[str] = "Upstream port (for agents)"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8001"
    advertise_addr: Annotated[Address, "Address to advertise; empty: made from bind-addr."] = ""
    # Ours.
    sharing: Annotated[Sharing, "Whether sessions of one principal share an endpoint, or have it one at a time."] = (
        "balanced"
    )
    resume: Annotated[Seconds, "How long a session is kept for an agent whose connection was cut; 0: not."] = 30.0
    limits: AgentLimits = field(default_factory=AgentLimits)
    rebalance: RebalanceConfig = field(default_factory=RebalanceConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)
    tenants: list[TenantConfig] = []

    def verify(self) -> None:
        check_distinct("tenants", "id", [tenant.id for tenant in self.tenants])


class AdminConfig(Section):
    title: ClassVar[str] = "Admin port: health, metrics, status"

    # Piko's is :8002, for everybody and without a question.
    bind_addr: Annotated[BindAddr, "Address to listen on; on others than this machine's own, see insecure."] = (
        "127.0.0.1:8002"
    )
    advertise_addr: Annotated[Address, "Address to advertise; empty: made from bind-addr."] = ""
    # The next two are ours.
    hosts: Annotated[HostNames, "Names under which it may be asked, besides addresses and this machine's name."] = []
    insecure: Annotated[Switch, "Be open to other machines without a token or a client certificate."] = False
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)

    def verify(self) -> None:
        asks = self.auth.enabled or self.tls.client_cas
        if not (asks or self.insecure or is_loopback(split_address(self.bind_addr)[0])):
            # Piko files come here; what is to be said is all that their owner has to change.
            raise Defect(
                "bind_addr",
                self.bind_addr,
                "would tell other machines which endpoints there are, and ask them for nothing; expected an address of "
                "this machine alone (127.0.0.1:8002), or admin.auth (tokens) or admin.tls.client_cas beside it, or "
                "admin.insecure: true",
            )


class GossipConfig(Section):
    title: ClassVar[str] = "Gossip (checked, but not used: this version has no clusters)"
    aside: ClassVar[bool] = True

    bind_addr: Annotated[BindAddr, "Address to gossip on."] = ":8003"
    advertise_addr: Annotated[Address, "Address to advertise."] = ""
    interval: Annotated[SecondsAboveZero, "Time between two rounds."] = 0.1
    max_packet_size: Annotated[CountAboveZero, "Largest packet, in bytes."] = 1400


class ClusterConfig(Section):
    title: ClassVar[str] = "Cluster"

    node_id: Annotated[Word, "Name of this node; empty: seven random letters and digits."] = ""
    node_id_prefix: Annotated[Word, "Prefix of a random name."] = ""
    join: Annotated[Members, "Nodes to join: not supported in this version, which has no clusters."] = []
    join_timeout: Annotated[SecondsAboveZero, "Timeout for joining."] = 60.0
    abort_if_join_fails: Annotated[Switch, "Exit if no node could be joined."] = True
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
    grace_period: Annotated[SecondsAboveZero, "Time for requests in flight to finish after SIGTERM."] = 60.0

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
            yield f"{', '.join(idle)} {verb} no effect: this version has no clusters"
        upstream = self.upstream
        if not (upstream.auth.enabled or upstream.tls.client_cas or is_loopback(split_address(upstream.bind_addr)[0])):
            yield (
                f"upstream.bind_addr {upstream.bind_addr}: any agent may register any endpoint there; set "
                "upstream.auth.hmac_secret_key, and give agents a token: `trioduct token --help`"
            )
        for address, endpoint in self.proxy.tcp_ports():
            if not (self.proxy.tcp_without_token or is_loopback(split_address(address)[0])):
                yield (
                    f"proxy.tcp {address}={endpoint}: anybody may connect, because TCP clients cannot present a token; "
                    "if that is intended, set proxy.tcp_without_token"
                )
        http = self.proxy.http
        if "proxy.http.max_header_bytes" in said and http.head_limit < http.max_header_bytes:
            yield f"proxy.http.max_header_bytes {http.max_header_bytes}: the maximum is {http.head_limit} bytes"
