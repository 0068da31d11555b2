"""An agent: the endpoints that it offers, and the services behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, ClassVar

from msgspec import field

from engine.config.address import Target, split_address, split_url
from engine.config.check import Defect, check_distinct
from engine.config.connect import ConnectConfig
from engine.config.health import HealthConfig
from engine.config.kinds import (
    ApplicationName,
    BindAddr,
    CountOrUnlimited,
    Domains,
    EndpointID,
    ErrorPages,
    EventLoop,
    HostNames,
    LocalAddrOrNone,
    PathSecret,
    Protocol,
    ProxyProtocol,
    SecondsAboveZero,
    SecondsOrDefault,
    Service,
    Switch,
    Weight,
)
from engine.config.knob import Section
from engine.config.log import AccessLogConfig, LogConfig
from engine.config.mask import MASK
from engine.config.pages import read_pages
from engine.config.rewrite import RewriteConfig
from engine.config.tls import ClientTLS
from engine.config.tracing import AgentTracingConfig
from engine.config.udp import UdpConfig
from engine.config.visitors import VisitorsConfig


class HTTPClientConfig(Section):
    title: ClassVar[str] = "Connections to the service"

    keep_alive_timeout: Annotated[SecondsOrDefault, "Interval of TCP keep-alive probes."] = 30.0
    idle_conn_timeout: Annotated[SecondsOrDefault, "Idle timeout."] = 90.0
    max_idle_conns: Annotated[CountOrUnlimited, "Maximum number of idle connections; -1: no limit."] = 100
    disable_compression: Annotated[Switch, "Do not request compression on the agent's own account."] = False


class ListenerConfig(Section):
    """One endpoint that an agent offers, and the service behind it."""

    title: ClassVar[str] = "Endpoint"

    endpoint_id: Annotated[EndpointID, "Name that clients ask for."] = ""
    addr: Annotated[Service, "The service: a port, host:port, or (http, h2) a URL."] = ""
    # Ours.
    asgi: Annotated[ApplicationName, "The service: an ASGI application, which the agent serves without a port."] = ""
    asgi_loop: Annotated[EventLoop, "The event loop of the application."] = "asyncio"
    reload: Annotated[Switch, "Start the application again when a Python file here changes, for development."] = False
    protocol: Annotated[Protocol, "What the service speaks: http is HTTP/1.1, h2 is HTTP/2 (gRPC)."] = "http"
    proxy_protocol: Annotated[
        ProxyProtocol,
        "Tell the service first whose a connection is, by this version of the PROXY protocol.",
    ] = "off"
    # Piko has no default for it in the file.
    timeout: Annotated[SecondsAboveZero, "Timeout for connecting to the service."] = 10.0
    weight: Annotated[Weight, "Its share of the clients beside other agents of the endpoint; 0: a standby."] = 1
    domains: Annotated[Domains, "Domains that are to be the endpoint's, if the token permits."] = []
    # Ours; the node lets in only whom both have let in.
    visitors: VisitorsConfig = field(default_factory=VisitorsConfig)
    # Ours, all three.
    rewrite: RewriteConfig = field(default_factory=RewriteConfig)
    error_pages: Annotated[ErrorPages, "HTML files that browsers are shown instead of JSON: 502=FILE, 5xx=FILE."] = []
    health: HealthConfig = field(default_factory=HealthConfig)
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    http_client: HTTPClientConfig = field(default_factory=HTTPClientConfig)
    udp: UdpConfig = field(default_factory=UdpConfig)
    tls: ClientTLS = field(default_factory=ClientTLS)

    def verify(self) -> None:
        if not self.endpoint_id:
            raise Defect("endpoint_id", "", "missing; expected the name of an endpoint")
        if self.asgi and self.protocol != "http":
            raise Defect("asgi", self.asgi, f"the protocol is {self.protocol}; expected http for an application")
        if self.asgi and self.addr:
            raise Defect("asgi", self.asgi, f"addr says {self.shown_addr()} as well; expected one of them")
        if self.asgi and self.proxy_protocol != "off":
            problem = "an application learns of clients by X-Forwarded-For; expected off"
            raise Defect("proxy_protocol", self.proxy_protocol, problem)
        if self.protocol == "h2" and self.proxy_protocol != "off":
            problem = "the protocol is h2, whose connections all clients share; expected off"
            raise Defect("proxy_protocol", self.proxy_protocol, problem)
        if self.reload and not self.asgi:
            raise Defect("reload", "", "only an application is started again; expected asgi, such as shop:app")
        try:
            self.target()
        except ValueError:
            url = " or http(s)://host" if self.speaks_http else ""
            application = ", or an application (asgi)" if self.protocol == "http" and not self.addr else ""
            expected = f"a port from 1 to 65535, host:port{url}{application}"
            raise Defect("addr", self.shown_addr(), f"{'' if self.addr else 'missing; '}expected {expected}") from None
        if not self.speaks_http:
            self._refuse_what_is_http()
        read_pages(self.error_pages)
        if self.protocol != "http" and self.health.check == "http":
            expected = "tcp, or off" if self.protocol != "udp" else "off"
            raise Defect("health.check", "http", f"the protocol is {self.protocol}; expected {expected}")
        if self.protocol == "udp":
            self._refuse_what_has_connections()
        elif self.udp != UdpConfig():
            raise Defect("udp", "", f"the protocol is {self.protocol}; expected it with udp")
        self.said_of_visitors()

    def _refuse_what_is_http(self) -> None:
        clients = f"{self.protocol.upper()} clients"
        if self.visitors.basic_auth_file:
            problem = f"{clients} cannot present a password; expected visitors.allow and visitors.deny alone"
            raise Defect("visitors.basic_auth_file", self.visitors.basic_auth_file, problem)
        if self.domains:
            raise Defect("domains", self.domains[0], f"{clients} name no domain; expected none")
        if self.rewrite != RewriteConfig():
            problem = f"the protocol is {self.protocol}, which has nothing to rewrite; expected it with http"
            raise Defect("rewrite", "", problem)
        if self.error_pages:
            problem = f"the protocol is {self.protocol}, whose clients are shown nothing; expected it with http"
            raise Defect("error_pages", "=".join(self.error_pages[0]), problem)

    def _refuse_what_has_connections(self) -> None:
        if self.health.check != "off":
            problem = "the protocol is udp, which accepts no connections; expected off"
            raise Defect("health.check", self.health.check, problem)
        if self.proxy_protocol != "off":
            raise Defect("proxy_protocol", self.proxy_protocol, "a datagram has no room for a header; expected off")

    @property
    def speaks_http(self) -> bool:
        return self.protocol in ("http", "h2")

    @property
    def proxy_version(self) -> int:
        """Of the PROXY protocol; 0: the service is told nothing."""
        return 0 if self.proxy_protocol == "off" else int(self.proxy_protocol)

    def shown_addr(self) -> str:
        """The address without a password."""
        return MASK if "@" in self.addr else self.addr

    def said_of_visitors(self) -> bytes:
        """What a registration says of the visitors, whose file is read anew; empty for nothing. Raises Defect."""
        visitors = self.visitors
        if not (visitors.allow or visitors.deny or visitors.basic_auth_file):
            return b""
        from engine.wire.visitors import MAX_BYTES, Visitors

        users = {name.decode("latin-1"): hash_.decode() for name, hash_ in visitors.users().items()}
        said = Visitors(visitors.allow, visitors.deny, users).encode()
        if len(said) > MAX_BYTES:
            problem = f"with it, the registration has {len(said)} bytes about visitors; expected at most {MAX_BYTES}"
            key = "basic_auth_file" if users else "allow"
            raise Defect(f"visitors.{key}", visitors.basic_auth_file or str(len(visitors.allow)), problem)
        return said

    def target(self) -> Target:
        """Where the service is. Raises ValueError, but not once the configuration is verified."""
        if self.asgi:
            return Target("http", self.asgi, 0, "")
        if self.speaks_http and "://" in self.addr:
            return split_url(self.addr, ("http", "https"))
        host, port = split_address(f":{self.addr}" if self.addr.isdecimal() else self.addr)
        if port == 0:
            raise ValueError("nothing listens on port 0")
        return Target("http" if self.speaks_http else self.protocol, host or "localhost", port, "")


class MetricsServerConfig(Section):
    title: ClassVar[str] = "Metrics of the agent"

    enabled: Annotated[Switch, "Serve /metrics."] = False
    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":5000"
    # Ours.
    hosts: Annotated[HostNames, "Names under which it may be asked, besides addresses and this machine's name."] = []


class InspectConfig(Section):
    title: ClassVar[str] = "Inspector: a page that shows what passes"

    bind_addr: Annotated[LocalAddrOrNone, "A port of this machine to serve it on; none if empty."] = ""
    token: Annotated[PathSecret, "Secret in its URL; without one, a random one is shown on the terminal."] = ""


class AgentConfig(Section):
    """Everything about an agent."""

    title: ClassVar[str] = "Shutdown"

    connect: ConnectConfig = field(default_factory=lambda: ConnectConfig(url="http://localhost:8001"))
    server: MetricsServerConfig = field(default_factory=MetricsServerConfig)
    inspect: InspectConfig = field(default_factory=InspectConfig)
    log: LogConfig = field(default_factory=LogConfig)
    tracing: AgentTracingConfig = field(default_factory=AgentTracingConfig)
    grace_period: Annotated[SecondsAboveZero, "Time for requests in flight to finish after SIGTERM."] = 60.0
    listeners: list[ListenerConfig] = []

    def listens(self) -> list[tuple[str, str]]:
        """The addresses that it listens on, each with its key."""
        metrics = [("server.bind_addr", self.server.bind_addr)] if self.server.enabled else []
        return metrics + [("inspect.bind_addr", self.inspect.bind_addr)] * bool(self.inspect.bind_addr)

    def warnings(self, said: Collection[str]) -> Iterator[str]:
        if self.inspect.bind_addr and not any(listener.speaks_http for listener in self.listeners):
            yield "inspect.bind_addr has nothing to show: only HTTP is inspected, and no listener is of that protocol"

        yield from self.tracing.warnings(said)

    def verify(self) -> None:
        # The same endpoint for two services is no mistake: the node takes them in turn.
        services = [f"{listener.endpoint_id} at {listener.addr or listener.asgi}" for listener in self.listeners]
        check_distinct("listeners", "endpoint_id", services)
