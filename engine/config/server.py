"""A node: its three ports, and what it says of itself to others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Annotated, ClassVar

from msgspec import field

from engine.config.address import is_loopback, split_address, split_store
from engine.config.auth import AuthConfig
from engine.config.check import Defect, check_distinct, check_no_clash, quoted, read_secret_file
from engine.config.kinds import (
    MAX_WORKERS,
    Address,
    BindAddr,
    BindAddrOrNone,
    Count,
    CountAboveZero,
    CountOrDefault,
    DomainsOfEndpoints,
    ErrorPages,
    FieldNames,
    FileName,
    Fraction,
    HostNames,
    HostPattern,
    Members,
    Networks,
    Origins,
    PortsOfEndpoints,
    PublicURL,
    Ratio,
    Seconds,
    SecondsAboveZero,
    SecondsOrNever,
    Secret,
    Sharing,
    StickyOfEndpoints,
    StoreURL,
    Switch,
    Word,
    Workers,
)
from engine.config.knob import Section, knobs
from engine.config.limits import AgentLimits, ClientLimits
from engine.config.log import AccessLogConfig, LogConfig
from engine.config.mask import MASK
from engine.config.pages import read_pages
from engine.config.retry import RetryConfig
from engine.config.tls import ServerTLS, TLSClient
from engine.config.tracing import TracingConfig
from engine.config.visitors import VisitorsConfig


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


class TenantConfig(Section):
    id: Annotated[Word, "What agents and forwards say as connect.tenant_id."] = ""
    auth: AuthConfig = field(default_factory=AuthConfig)

    def verify(self) -> None:
        if not self.id:
            raise Defect("id", "", "missing; expected the tenant's name")
        from engine.routing.tenants import MAX_BYTES

        if len(self.id.encode()) > MAX_BYTES or self.id != self.id.strip():
            raise Defect("id", self.id, f"expected at most {MAX_BYTES} bytes, and no blanks around it")
        if not self.auth.enabled:
            raise Defect("auth", "", "missing; expected a key to verify the tenant's tokens with")


TRUSTED_HEADERS = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")


class ProxyConfig(Section):
    title: ClassVar[str] = "Proxy port (for clients)"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8000"
    advertise_addr: Annotated[Address, "Address to advertise; empty: made from bind-addr."] = ""
    # Ours.
    public_url: Annotated[
        PublicURL, "Its URL for clients; agents show it, services learn its scheme: https://*.HOST."
    ] = ""
    tenant_hosts: Annotated[HostPattern, "Hosts that name a tenant, as {endpoint}.{tenant}.example.com."] = ""
    domains: Annotated[
        DomainsOfEndpoints, "Domains of their own for endpoints, or for TENANT/ENDPOINT: shop.example.com=shop."
    ] = []
    sticky: Annotated[
        StickyOfEndpoints, "Endpoints whose clients come back to the same agent, by a cookie or the client's address."
    ] = []
    allowed_origins: Annotated[Origins, "Web pages that may open TCP endpoints: https://HOST, or * for all."] = []
    trusted_proxies: Annotated[Networks, "Networks of load balancers in front, whose trusted-headers count."] = []
    trusted_headers: Annotated[
        FieldNames, "What they say about a client and set or remove themselves; others like these are dropped."
    ] = field(default_factory=lambda: [*TRUSTED_HEADERS])
    proxy_protocol: Annotated[Switch, "They send the PROXY protocol (v1 or v2) first on each connection."] = False
    timeout: Annotated[Seconds, "Timeout until the first byte of a response; 0: no limit."] = 30.0
    http2: Annotated[Switch, "Speak HTTP/2 with clients that do: by TLS (ALPN), or by prior knowledge."] = False  # ours
    # Ours, all three.
    tcp: Annotated[
        PortsOfEndpoints, "Public TCP ports: PORT or HOST:PORT, and the TCP endpoint, or TENANT/ENDPOINT."
    ] = []
    tcp_without_token: Annotated[
        Switch, "Leave the ports of `tcp` open to everybody, even where `auth` requires tokens."
    ] = False
    resume: Annotated[Seconds, "How long a forward's TCP connection is kept when its own was cut; 0: not."] = 30.0
    # Ours: by names of endpoints, or TENANT/ENDPOINT, or patterns of them.
    endpoints: dict[str, VisitorsConfig] = {}
    retry: RetryConfig = field(default_factory=RetryConfig)  # ours
    error_pages: Annotated[ErrorPages, "HTML files that browsers are shown instead of JSON: 502=FILE, 5xx=FILE."] = []
    limits: ClientLimits = field(default_factory=ClientLimits)
    http: HTTPConfig = field(default_factory=HTTPConfig)
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)
    tenants: list[TenantConfig] = []

    @property
    def asks(self) -> bool:
        """Whether it asks for tokens."""
        return self.auth.enabled or bool(self.tenants)

    def tcp_ports(self) -> list[tuple[str, str]]:
        """The addresses of `tcp`, each with its endpoint. A port alone is one of `bind_addr`'s host."""
        host = self.bind_addr.rpartition(":")[0]
        return [(f"{host}:{where}" if where.isdecimal() else where, endpoint) for where, endpoint in self.tcp]

    def verify(self) -> None:
        check_distinct("tenants", "id", [tenant.id for tenant in self.tenants])
        twice = next((one for one, count in Counter(one for one, _ in self.domains).items() if count > 1), None)
        if twice is not None:
            raise Defect("domains", twice, "has two endpoints; expected each domain once")
        twice = next((one for one, count in Counter(one for one, _ in self.sticky).items() if count > 1), None)
        if twice is not None:
            raise Defect("sticky", twice, "is there twice; expected each endpoint once")
        read_pages(self.error_pages)
        if self.proxy_protocol and not self.trusted_proxies:
            problem = "nobody is trusted to say who calls; expected the networks of trusted_proxies beside it"
            raise Defect("proxy_protocol", "true", problem)
        # A TCP client has no way to show one. Who has asked for tokens would have an open door, and not know it.
        if self.tcp and not self.tcp_without_token and (self.asks or self.tls.client_cas):
            asked = "a token (proxy.auth)" if self.asks else "a certificate (proxy.tls.client_cas)"
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

    @property
    def asks(self) -> bool:
        """Whether it asks who somebody is."""
        return self.auth.enabled or bool(self.tls.client_cas)

    def verify(self) -> None:
        if not (self.asks or self.insecure or is_loopback(split_address(self.bind_addr)[0])):
            # Piko files come here; what is to be said is all that their owner has to change.
            raise Defect(
                "bind_addr",
                self.bind_addr,
                "would tell other machines which endpoints there are, and ask them for nothing; expected an address of "
                "this machine alone (127.0.0.1:8002), or admin.auth (tokens) or admin.tls.client_cas beside it, or "
                "admin.insecure: true",
            )


class GossipConfig(Section):
    title: ClassVar[str] = "Gossip (checked, but not used: see cluster.store)"
    aside: ClassVar[bool] = True

    bind_addr: Annotated[BindAddr, "Address to gossip on."] = ":8003"
    advertise_addr: Annotated[Address, "Address to advertise."] = ""
    interval: Annotated[SecondsAboveZero, "Time between two rounds."] = 0.1
    max_packet_size: Annotated[CountAboveZero, "Largest packet, in bytes."] = 1400


PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
)
SECRET_BYTES = 32
SECRET_WANTED = f"expected {SECRET_BYTES} bytes or more, such as `openssl rand -hex 32` prints"


class StoreTLS(TLSClient):
    title: ClassVar[str] = "TLS with the cluster's store"


class SentinelConfig(Section):
    """What sentinels ask for. TLS is theirs as it is the store's."""

    title: ClassVar[str] = "Sentinels of the cluster's store"

    user: Annotated[Word, "User of the sentinels, where they have users."] = ""
    password_file: Annotated[FileName, "File with the sentinels' password, which only its owner may read."] = ""

    def verify(self) -> None:
        self.read_password()

    def read_password(self) -> str:
        """The sentinels' password, if there is one. Raises Defect."""
        return read_secret_file("password_file", self.password_file).strip() if self.password_file else ""


class ClusterConfig(Section):
    title: ClassVar[str] = "Cluster"

    node_id: Annotated[Word, "Name of this node; empty: seven random letters and digits."] = ""
    node_id_prefix: Annotated[Word, "Prefix of a random name."] = ""
    # Ours, up to `tls`.
    store: Annotated[StoreURL, "Redis or Valkey by which nodes know of each other; empty: this node is alone."] = ""
    store_password_file: Annotated[FileName, "File with the store's password, which only its owner may read."] = ""
    store_tls: StoreTLS = field(default_factory=StoreTLS)
    sentinel: SentinelConfig = field(default_factory=SentinelConfig)
    name: Annotated[Word, "Name of the cluster in its store, which may have several."] = "default"
    secret: Annotated[Secret, "What all nodes of the cluster know; best kept in the environment or in the file."] = ""
    secret_file: Annotated[FileName, "File with the secret, which only its owner may read."] = ""
    bind_addr: Annotated[BindAddrOrNone, "Address for links of other nodes; empty: they come to the proxy port."] = ""
    advertise_addr: Annotated[
        Address, "Where other nodes dial this one, an IP address and a port; empty: made from bind-addr."
    ] = ""
    allowed_networks: Annotated[Networks, "Networks in which other nodes are dialled, and nowhere else."] = field(
        default_factory=lambda: [*PRIVATE_NETWORKS]
    )
    tls: ServerTLS = field(default_factory=ServerTLS)
    join: Annotated[Members, "Nodes to join by gossip: not supported, see store."] = []
    join_timeout: Annotated[SecondsAboveZero, "Timeout for joining."] = 60.0
    abort_if_join_fails: Annotated[Switch, "Exit if no node could be joined."] = True
    gossip: GossipConfig = field(default_factory=GossipConfig)

    def verify(self) -> None:
        if self.secret and self.secret_file:
            raise Defect("secret_file", self.secret_file, "set as well as secret; expected one of the two")
        if self.store and not self.read_secret():
            raise Defect("secret", "", f"missing; {SECRET_WANTED}")
        if self.store or self.secret or self.secret_file:
            size = len(self.read_secret().encode())
            if size < SECRET_BYTES:
                problem = f"{size} bytes; {SECRET_WANTED}"
                raise Defect("secret_file" if self.secret_file else "secret", MASK, problem)
        for name in ("user", "password_file"):
            if (said := getattr(self.sentinel, name)) and not (self.store and split_store(self.store).service):
                problem = "cluster.store names no sentinels; expected redis+sentinel://HOST:PORT/SERVICE there"
                raise Defect(f"sentinel.{name}", said, problem)
        self.read_store_password()

    def read_secret(self) -> str:
        """What all nodes know. Raises Defect."""
        return read_secret_file("secret_file", self.secret_file).strip() if self.secret_file else self.secret

    def read_store_password(self) -> str:
        """The password of the store, if it stands in a file. Raises Defect."""
        path = self.store_password_file
        return read_secret_file("store_password_file", path).strip() if path else ""

    def choose_node_id(self) -> str:
        """The name of this node; a random one is drawn at the first call, and kept in `node_id`."""
        if not self.node_id:
            import secrets  # 4 ms to import, and only a node needs a name
            import string

            alphabet = string.ascii_lowercase + string.digits
            self.node_id = self.node_id_prefix + "".join(secrets.choice(alphabet) for _ in range(7))
        return self.node_id


# Taken and checked, because a file of Piko's may have them; read by nothing, because nodes do not gossip.
# Where one ends with a dot, it is all that stands below it.
WITHOUT_EFFECT = (
    "upstream.advertise_addr",
    "upstream.tls.client.",
    "cluster.join_timeout",
    "cluster.abort_if_join_fails",
    "cluster.gossip.",
)
FOR_SEVERAL = ("upstream.rebalance.",)  # of no effect where a node is alone


class ServerConfig(Section):
    """Everything about a node."""

    title: ClassVar[str] = "Process"

    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log: LogConfig = field(default_factory=LogConfig)
    # Ours.
    tracing: TracingConfig = field(default_factory=TracingConfig)
    workers: Annotated[Workers, "Processes that share the ports; auto: one for each core it may use."] = 1
    grace_period: Annotated[SecondsAboveZero, "Time for requests in flight to finish after SIGTERM."] = 60.0

    def worker_count(self) -> int:
        """How many workers it has."""
        import os

        return self.workers or min(len(os.sched_getaffinity(0)), MAX_WORKERS)

    def listens(self) -> list[tuple[str, str]]:
        """The addresses that it listens on, each with its key."""
        return [
            ("proxy.bind_addr", self.proxy.bind_addr),
            ("upstream.bind_addr", self.upstream.bind_addr),
            ("admin.bind_addr", self.admin.bind_addr),
            *([("cluster.bind_addr", self.cluster.bind_addr)] if self.cluster.bind_addr else []),
            *(("proxy.tcp", address) for address, _ in self.proxy.tcp_ports()),
        ]

    def verify(self) -> None:
        check_no_clash(self.listens(), ServerConfig().listens())
        # To ignore these would leave somebody with half a cluster, or with an open door.
        if self.cluster.join:
            joined = ",".join(self.cluster.join)
            raise Defect("cluster.join", joined, "nodes do not gossip; expected cluster.store instead")
        ids = [tenant.id for tenant in self.upstream.tenants]
        if self.proxy.tenant_hosts and not ids:
            problem = "names tenants, and there are none; expected upstream.tenants beside it"
            raise Defect("proxy.tenant_hosts", self.proxy.tenant_hosts, problem)
        for one in self.proxy.tenants:
            if one.id not in ids:
                problem = "no agent can be of it; expected one of upstream.tenants"
                raise Defect("proxy.tenants", one.id, problem)
        mapped = [("proxy.tcp", *one) for one in self.proxy.tcp] + [
            ("proxy.domains", *one) for one in self.proxy.domains
        ]
        for key, where, named in mapped:
            tenant, slash, _ = named.rpartition("/")
            if slash and tenant not in ids:
                problem = f"there is no tenant {quoted(tenant)}; expected one of upstream.tenants in front of the /"
            elif ids and not slash:
                problem = "names no tenant, and each endpoint has one here; expected TENANT/ENDPOINT"
            else:
                continue
            raise Defect(key, f"{where}={named}", problem)
        self._check_visitors(ids)

    def _check_visitors(self, tenants: Collection[str]) -> None:
        """Raise Defect for a guard of `proxy.endpoints` that could let nobody in, or guards nothing."""
        from engine.auth.visitors import entry_for

        for name in self.proxy.endpoints:
            if tenants and not set("/*") & set(name):
                problem = "names no tenant, and each endpoint has one here; expected TENANT/ENDPOINT, or */ENDPOINT"
                raise Defect("proxy.endpoints", name, problem)
        for where, named in self.proxy.tcp:
            guard = entry_for(named, self.proxy.endpoints)
            if guard is not None and guard.basic_auth_file:
                raise Defect(
                    "proxy.tcp",
                    f"{where}={named}",
                    "its clients need a password by proxy.endpoints, and TCP clients cannot present one; expected the "
                    "endpoint there by its own name, with allow and deny alone, or no such port",
                )

    def tcp_keys(self) -> list[tuple[str, str]]:
        """The addresses of `proxy.tcp`, each with its endpoint's key (see routing.tenants)."""
        from engine.routing import tenants

        parts = [(address, named.rpartition("/")) for address, named in self.proxy.tcp_ports()]
        return [(address, tenants.key(endpoint, tenant)) for address, (tenant, _, endpoint) in parts]

    def domain_keys(self) -> dict[str, str]:
        """The domains of `proxy.domains`, each with its endpoint's key."""
        from engine.routing import tenants

        parts = [(domain, named.rpartition("/")) for domain, named in self.proxy.domains]
        return {domain: tenants.key(endpoint, tenant) for domain, (tenant, _, endpoint) in parts}

    def warnings(self, said: Collection[str]) -> Iterator[str]:
        default = ServerConfig()
        without_effect = WITHOUT_EFFECT if self.cluster.store else (*WITHOUT_EFFECT, *FOR_SEVERAL)
        idle = [
            knob.key
            for knob in knobs(ServerConfig)
            if knob.key.startswith(without_effect) and knob.value(self) != knob.value(default)
        ]
        if idle:
            verb = "has" if len(idle) == 1 else "have"
            yield f"{', '.join(idle)} {verb} no effect: nodes do not gossip, see cluster.store"
        upstream = self.upstream
        if upstream.tenants and upstream.auth.enabled:
            yield "upstream.auth has no effect beside upstream.tenants: each agent needs a token of its tenant"
        asks = upstream.tenants or upstream.auth.enabled or upstream.tls.client_cas
        if not (asks or is_loopback(split_address(upstream.bind_addr)[0])):
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
        yield from self.tracing.warnings(said)
        http = self.proxy.http
        if "proxy.http.max_header_bytes" in said and http.head_limit < http.max_header_bytes:
            yield f"proxy.http.max_header_bytes {http.max_header_bytes}: the maximum is {http.head_limit} bytes"
