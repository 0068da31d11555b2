"""What a command line says beside the configuration of a role: the file, and the questions of other commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import field

from engine.auth.authority import AUTHORITY_DAYS
from engine.config.check import Defect, read_secret_file
from engine.config.connect import environment_route
from engine.config.kinds import (
    URL,
    Algorithm,
    BenchURL,
    Count,
    CountAboveZero,
    Domains,
    EndpointIDs,
    FileName,
    Lifetime,
    NamedService,
    Output,
    ProxyOrNone,
    PublicURL,
    SecondsAboveZero,
    StartRole,
    SubjectNames,
    Switch,
    Text,
    Token,
    Word,
)
from engine.config.knob import Section
from engine.config.log import LogConfig
from engine.config.mask import MASK
from engine.config.tls import ClientTLS
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.auth.signing import SigningKey
    from proxy_adapters import Route as ProxyRoute


class FileConfig(Section):
    title: ClassVar[str] = "Configuration file"

    path: Annotated[FileName, "YAML file; overrides flags and environment."] = ""
    expand_env: Annotated[Switch, "Replace ${VAR}, $VAR and ${VAR:default} in it."] = False
    check: Annotated[Switch, "Print the resulting configuration and exit."] = False  # ours


class Invocation(Section):
    """What is said beside a role's configuration, and never in the file."""

    config: FileConfig = field(default_factory=FileConfig)


class StatusServerConfig(Section):
    url: Annotated[URL, "URL of the node's admin port."] = ""


class StatusConfig(Section):
    """Everything about `server status`. All but `server.url` and `forward` is ours."""

    title: ClassVar[str] = "Query"

    server: StatusServerConfig = field(default_factory=lambda: StatusServerConfig(url="http://localhost:8002"))
    forward: Annotated[Word, "Node to forward the query to."] = ""
    token: Annotated[Token, "Token (JWT), where the admin port requires one."] = ""
    output: Annotated[Output, "Output format: table (on a terminal), yaml (elsewhere) or json."] = ""
    tls: ClientTLS = field(default_factory=ClientTLS)

    def environment_route(self) -> ProxyRoute | None:
        """The way to the admin port by the environment; None if it names none. Raises ConfigError."""
        return environment_route(self.server.url)


class TopConfig(Section):
    """Everything about `top`. All of it is ours; what `server status` has is the same."""

    title: ClassVar[str] = "Top"

    server: StatusServerConfig = field(default_factory=lambda: StatusServerConfig(url="http://localhost:8002"))
    token: Annotated[Token, "Token (JWT), where the admin port requires one."] = ""
    once: Annotated[Switch, "Print how the node is once, as text, and exit."] = False
    tls: ClientTLS = field(default_factory=ClientTLS)

    def environment_route(self) -> ProxyRoute | None:
        """The way to the admin port by the environment; None if it names none. Raises ConfigError."""
        return environment_route(self.server.url)


class ExaminationConfig(Section):
    """What `doctor` does beside looking at the way. All of it is ours."""

    title: ClassVar[str] = "Checks"

    patient: Annotated[Switch, "Keep an idle session for 90 s, to see whether something cuts it."] = False
    measure: Annotated[Switch, "Measure the throughput for 3 s."] = False
    json: Annotated[Switch, "Print one JSON object at the end."] = False


class ChecklistConfig(Section):
    """What `server config check` does beside showing the configuration. All of it is ours."""

    title: ClassVar[str] = "Checklist"

    public: Annotated[Switch, "Say what a node on the public Internet lacks instead; 1 if a must is missing."] = False
    json: Annotated[Switch, "Print that as JSON."] = False


class BenchConnectConfig(Section):
    title: ClassVar[str] = "Node"

    # No variable: to an agent TRIODUCT_CONNECT_PROXY_URL is somebody's forward proxy.
    proxy_url: Annotated[BenchURL, "Its proxy port."] = "http://localhost:8000"
    upstream_url: Annotated[URL, "Its upstream port."] = "http://localhost:8001"
    timeout: Annotated[SecondsAboveZero, "Longest attempt to connect."] = 5.0
    token: Annotated[Token, "Token (JWT) that the agent shows."] = ""


class BenchConfig(Section):
    """Everything about `bench`. Keys and defaults are Piko's, but for the tokens and `tls`, which are ours."""

    title: ClassVar[str] = "Benchmark"

    requests: Annotated[CountAboveZero, "Requests to send."] = 100_000
    clients: Annotated[CountAboveZero, "Connections that they are sent on."] = 100
    endpoints: Annotated[CountAboveZero, "Endpoints that they are for."] = 100
    upstreams: Annotated[CountAboveZero, "Sessions of the agent, spread over the endpoints."] = 100
    size: Annotated[Count, "Bytes in the body of a request, and of its answer."] = 1024
    token: Annotated[Token, "Token (JWT) that the clients show."] = ""
    connect: BenchConnectConfig = field(default_factory=BenchConnectConfig)
    tls: ClientTLS = field(default_factory=ClientTLS)
    log: LogConfig = field(default_factory=lambda: LogConfig(level="error"))

    def verify(self) -> None:
        if self.upstreams < self.endpoints:
            raise Defect(
                "upstreams", str(self.upstreams), f"expected at least one for each of {self.endpoints} endpoints"
            )


class CertsConfig(Section):
    """Everything about `certs`. All of it is ours."""

    title: ClassVar[str] = "Certificates"

    names: Annotated[
        SubjectNames, "Host names and IP addresses that the node is reached by; none: no certificate for it."
    ] = field(default_factory=lambda: ["localhost", "127.0.0.1", "::1"])
    agents: Annotated[EndpointIDs, "Agents, each of which gets a certificate of that name."] = field(
        default_factory=lambda: ["agent"]
    )
    clients: Annotated[EndpointIDs, "Clients and forwards, each of which gets a certificate of that name."] = field(
        default_factory=lambda: ["client"]
    )
    days: Annotated[CountAboveZero, "Lifetime of the certificates."] = 365
    folder: Annotated[FileName, "Where the files are written; made if it is missing."] = "certs"

    def verify(self) -> None:
        taken = ["node", "node-ca", "agent-ca", "client-ca"]
        for key, names in (("agents", self.agents), ("clients", self.clients)):
            for name in names:
                if name in taken:
                    raise Defect(key, name, "there is a file of that name already; expected another one")
                if len(name) > 64:
                    raise Defect(key, name, "expected 64 characters at the most (RFC 5280, A.1)")
                taken.append(name)
        if self.days > AUTHORITY_DAYS:
            raise Defect("days", str(self.days), f"expected {AUTHORITY_DAYS} at the most, the lifetime of an authority")


class InitConfig(Section):
    """The answers to what `init` asks, and where its files go. All of it is ours."""

    title: ClassVar[str] = "Answers"

    role: Annotated[StartRole, "What runs here."] = ""
    public_url: Annotated[PublicURL, "Node: where clients reach it; https://*.HOST with a wildcard record."] = ""
    url: Annotated[URL, "Agent: where the node is, its upstream port."] = "http://localhost:8001"
    tls: Annotated[FileName, "Node: the folder of fullchain.pem and privkey.pem; empty: no TLS of its own."] = ""
    proxy: Annotated[ProxyOrNone, "Agent: the forward proxy that it goes out through; empty: none."] = ""
    endpoints: Annotated[EndpointIDs, "Node: the endpoints of the first agent, which gets a token for them."] = field(
        default_factory=lambda: ["shop"]
    )
    service: Annotated[NamedService, "Agent: the endpoint and its service; NAME=tcp://HOST:PORT for TCP."] = (
        "shop",
        "3000",
        "http",
    )
    secret_file: Annotated[
        FileName, "Node: the key, made if it is missing. Agent: its token. Empty: one in the folder."
    ] = ""

    def verify(self) -> None:
        self.proxy_parts()

    def proxy_parts(self) -> tuple[str, str, str]:
        """The proxy, and the user and the password in its URL; each may be empty. Raises Defect."""
        from proxy_adapters.url import ProxyURL

        if not self.proxy:
            return "", "", ""
        try:
            parts = ProxyURL.parse(self.proxy)
        except ValueError as error:
            raise Defect("proxy", MASK if "@" in self.proxy else self.proxy, str(error)) from None
        return str(parts), parts.user or "", parts.password or ""


class WritingConfig(Section):
    """Where the files of `init` go, and what it may do. All of it is ours."""

    title: ClassVar[str] = "Files"

    folder: Annotated[FileName, "Where the files are written; made if it is missing."] = "."
    unit: Annotated[Switch, "Write a systemd unit beside the file."] = False
    force: Annotated[Switch, "Write over a file or unit that is there; a secret is never written over."] = False
    yes: Annotated[Switch, "Ask nothing: where no flag says something, the default is meant."] = False


class TokenConfig(Section):
    """Everything about `token`. All of it is ours."""

    title: ClassVar[str] = "Token"

    endpoints: Annotated[EndpointIDs, "Endpoints that it is valid for; none: all."] = []
    domains: Annotated[Domains, "Domains that an agent may claim for them; none: no domain."] = []
    tenant: Annotated[Text, "Tenant that it is valid in, on a node that has tenants."] = ""
    expires: Annotated[Lifetime, "Lifetime: 30d, 12h; empty: it never expires."] = 0.0
    subject: Annotated[Text, "`sub` claim: an endpoint belongs to the subject that registered it first."] = ""
    id: Annotated[Word, "`jti` claim, by which it can be revoked (auth.revoked_file); empty: a random one."] = ""
    audience: Annotated[Text, "`aud` claim, where the port's auth.audience requires one."] = ""
    issuer: Annotated[Text, "`iss` claim, where the port's auth.issuer requires one."] = ""
    key_file: Annotated[FileName, "File with the secret, or with the private key in PEM."] = ""
    key_env: Annotated[Word, "Name of the variable with the key, where key-file names no file."] = "TRIODUCT_TOKEN_KEY"
    algorithm: Annotated[Algorithm, "Empty: HS256 for a secret, RS256 for RSA, that of the curve for EC."] = ""

    def signing_key(self, environ: Mapping[str, str]) -> SigningKey:
        """The key, read anew. Raises ConfigError, and Defect for what a knob names."""
        from engine.auth.signing import Misfit, SigningKey

        if self.key_file:
            text = read_secret_file("key_file", self.key_file)
            if not text:
                raise Defect("key_file", self.key_file, "is empty; expected a secret, or a private key in PEM")
        elif not (text := environ.get(self.key_env, "")):
            raise ConfigError(f"no key to sign with; expected --key-file FILE, or the key in {self.key_env}")
        try:
            return SigningKey(text, self.algorithm)
        except Misfit as error:
            raise Defect("algorithm", self.algorithm, str(error)) from None
        except ConfigError as error:
            if self.key_file:
                raise Defect("key_file", self.key_file, str(error)) from None
            raise ConfigError(f"{self.key_env}: {error}") from None
