"""The knobs of the three roles: each is declared once, and everything else about it follows.

A *section* is a mapping of the YAML file, a *knob* a value in one. A knob's place among the sections is its
key in the file (`proxy.bind_addr`), its flag (`--proxy.bind-addr`) and its environment variable
(`TRIODUCT_PROXY_BIND_ADDR`). Its annotation says its *kind* (how text becomes a value and back, what a person
should have written, whether it is a secret) and its help; the assignment is its default. Keys and defaults
are Piko's, so that a Piko file works unchanged; a knob of our own says so in a comment.

A `Draft` is a configuration on its way: it takes values from one source after the other and remembers where
each came from. What comes later wins: default < environment < flag < file. That the file beats the flags is
Piko's order (it decodes the file after it has parsed the flags), and a command line moved over from there
must not change its meaning.

Whatever is wrong becomes one `ConfigError`: a line with source, key, value and what would be right. A secret
is never part of it.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Never,
    TypeVar,
    get_args,
    get_origin,
)
from urllib.parse import unquote, urlsplit

import msgspec

from engine.errors import ConfigError

# Imported where they are used: ssl and yaml cost 20 ms each, proxy_adapters and cryptography 100.
if TYPE_CHECKING:
    import ssl

    import yaml

    from proxy_adapters import Login, Router
    from proxy_adapters import Secret as ProxySecret

field = msgspec.field
NOTHING: Mapping[str, Never] = MappingProxyType({})


class Section(msgspec.Struct, kw_only=True):
    """A mapping of the file. `title` heads its knobs in a command's help; without one they join those above."""

    title: ClassVar[str] = ""
    aside: ClassVar[bool] = False  # whether help lists it behind what is wanted more often

    def verify(self) -> None:
        """Raise `Defect` for what is wrong with values together, or with the files that they name."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self)})"  # secrets are masked wherever a section is printed


# The declaration: what they all share -----------------------------------------------------------------------


class ClientTLS(Section):
    title: ClassVar[str] = "TLS towards the other side"
    aside: ClassVar[bool] = True

    cert: Annotated[FileName, "PEM certificate chain to present, where the other side asks for one."] = ""
    key: Annotated[FileName, "PEM private key that belongs to the certificate."] = ""
    root_cas: Annotated[FileName, "PEM authorities to believe, in place of the system's."] = ""
    insecure_skip_verify: Annotated[Switch, "Believe any certificate, and any name in it."] = False
    # Piko has it between nodes only.
    server_name: Annotated[Word, "Name expected in the certificate, if not the host of the URL."] = ""

    def verify(self) -> None:
        if self.cert or self.key or self.root_cas:
            self.client_context()

    def client_context(self) -> ssl.SSLContext:
        """What a client needs, also when nothing is configured; anew each time. Raises ConfigError.

        Who uses it passes `server_name`, if there is one, as the host name to expect.
        """
        return _client_context(self)


class ServerTLS(Section):
    title: ClassVar[str] = "TLS"
    aside: ClassVar[bool] = True

    cert: Annotated[FileName, "PEM certificate chain of the port; with it and its key, the port speaks TLS."] = ""
    key: Annotated[FileName, "PEM private key that belongs to the certificate."] = ""
    client_cas: Annotated[FileName, "PEM authorities; clients must then present a certificate."] = ""
    client: ClientTLS = field(default_factory=ClientTLS)

    def verify(self) -> None:
        if self.client_cas and not self.cert:
            raise Defect("client_cas", self.client_cas, "is of no use without TLS; expected cert and key as well")
        self.server_context()

    def server_context(self) -> ssl.SSLContext | None:
        """What the port needs to speak TLS, anew each time; None if it does not. Raises ConfigError."""
        if not self.cert and not self.key:
            return None
        import ssl

        context = _usual(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        # A client that asks for renegotiation again and again would cost a handshake each time.
        context.options |= ssl.OP_NO_RENEGOTIATION
        _load_pair(context, self.cert, self.key)
        if self.client_cas:
            _load_authorities(context, "client_cas", self.client_cas)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class JWKSConfig(Section):
    endpoint: Annotated[KeySetURL, "Key set to verify tokens with, in place of single keys."] = ""
    cache_ttl: Annotated[SecondsOrDefault, "How long a key set is believed before it is fetched again."] = 3600.0
    timeout: Annotated[SecondsOrDefault, "Longest wait for the key set."] = 60.0

    def verify(self) -> None:
        if self.endpoint.lower().startswith("file:"):
            _read("endpoint", unquote(urlsplit(self.endpoint).path), "a file with a JSON Web Key Set")


class AuthConfig(Section):
    title: ClassVar[str] = "Tokens (JWT), asked for once there is a key to verify them with"
    aside: ClassVar[bool] = True

    hmac_secret_key: Annotated[Secret, "Secret that HS256, HS384 and HS512 tokens are signed with."] = ""
    rsa_public_key: Annotated[Text, "Public key (the PEM text itself) of RS256, RS384 and RS512 tokens."] = ""
    ecdsa_public_key: Annotated[Text, "Public key (the PEM text itself) of ES256, ES384 and ES512 tokens."] = ""
    audience: Annotated[Text, "`aud` that a token must have; empty: not looked at."] = ""
    issuer: Annotated[Text, "`iss` that a token must have; empty: not looked at."] = ""
    disable_disconnect_on_expiry: Annotated[Switch, "Let a session outlive its token."] = False
    jwks: JWKSConfig = field(default_factory=JWKSConfig)

    @property
    def enabled(self) -> bool:
        """Whether there is anything to verify a token with, so that one is asked for."""
        return bool(self.hmac_secret_key or self.rsa_public_key or self.ecdsa_public_key or self.jwks.endpoint)

    def verify(self) -> None:
        names = ("hmac_secret_key", "rsa_public_key", "ecdsa_public_key")
        keys = {name: key for name in names if (key := getattr(self, name))}
        if not keys:
            return
        if self.jwks.endpoint:
            raise Defect(next(iter(keys)), MASK, "stands beside jwks.endpoint; expected one of the two")
        from engine.routing.admission import Verifier  # it knows which keys are good

        try:
            Verifier(
                hmac_secret_key=self.hmac_secret_key,
                rsa_public_key=self.rsa_public_key,
                ecdsa_public_key=self.ecdsa_public_key,
            )
        except ConfigError as error:
            name, _, problem = str(error).partition(": ")
            secret = name == "hmac_secret_key" or "PRIVATE" in keys[name]
            raise Defect(name, MASK if secret else keys[name], problem) from None


class AccessLogHeaders(Section):
    allow_list: Annotated[Texts, "The only header fields to log."] = []
    block_list: Annotated[Texts, "Header fields not to log."] = []

    def verify(self) -> None:
        if self.allow_list and self.block_list:
            listed = ",".join(self.block_list)
            raise Defect("block_list", listed, "stands beside allow_list; expected one of the two")


class AccessLogConfig(Section):
    title: ClassVar[str] = "Access log"

    level: Annotated[Level, "Level of its lines; answers of 500 and above are warnings."] = "info"
    disable: Annotated[Switch, "Write none."] = False
    request_headers: AccessLogHeaders = field(default_factory=AccessLogHeaders)
    response_headers: AccessLogHeaders = field(default_factory=AccessLogHeaders)


class LogConfig(Section):
    title: ClassVar[str] = "Logs"

    level: Annotated[Level, "Lowest level to write."] = "info"
    subsystems: Annotated[Texts, "Subsystems that write everything, whatever the level (proxy,upstream)."] = []


# The declaration: a node ------------------------------------------------------------------------------------


class HTTPConfig(Section):
    # Without a limit they are infinite.
    read_timeout: Annotated[SecondsOrNever, "Longest pause inside a request; 0 or less: no limit."] = 10.0
    read_header_timeout: Annotated[SecondsOrNever, "Longest wait for a whole request head; 0: as read-timeout."] = 10.0
    write_timeout: Annotated[SecondsOrNever, "How long a client may take no byte of an answer; 0: no limit."] = 10.0
    idle_timeout: Annotated[SecondsOrNever, "Longest wait for a client's next request; 0: as read-timeout."] = 300.0
    max_header_bytes: Annotated[CountOrDefault, "Largest request head, in bytes."] = 1 << 20


class ProxyConfig(Section):
    title: ClassVar[str] = "Proxy port, where clients come in"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8000"
    advertise_addr: Annotated[Address, "Address that others are told; empty: made from bind-addr."] = ""
    timeout: Annotated[Seconds, "Longest wait for the first byte of an answer; 0: no limit."] = 30.0
    http: HTTPConfig = field(default_factory=HTTPConfig)
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)


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
        _check_distinct("tenants", "id", [tenant.id for tenant in self.tenants])


class AdminConfig(Section):
    title: ClassVar[str] = "Admin port: health, metrics, status"

    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":8002"
    advertise_addr: Annotated[Address, "Address that others are told; empty: made from bind-addr."] = ""
    auth: AuthConfig = field(default_factory=AuthConfig)
    tls: ServerTLS = field(default_factory=ServerTLS)


class GossipConfig(Section):
    title: ClassVar[str] = "Gossip (checked, and not used: membership is not gossip here)"
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
            alphabet = string.ascii_lowercase + string.digits
            self.node_id = self.node_id_prefix + "".join(secrets.choice(alphabet) for _ in range(7))
        return self.node_id


class ServerConfig(Section):
    """Everything about a node."""

    title: ClassVar[str] = "Leaving"

    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log: LogConfig = field(default_factory=LogConfig)
    grace_period: Annotated[SecondsAboveZero, "What requests in flight get to finish in after SIGTERM."] = 60.0

    def listens(self) -> dict[str, str]:
        """The addresses that it listens on, by key."""
        return {
            "proxy.bind_addr": self.proxy.bind_addr,
            "upstream.bind_addr": self.upstream.bind_addr,
            "admin.bind_addr": self.admin.bind_addr,
        }

    def verify(self) -> None:
        _check_no_clash(self)
        # To ignore these would leave somebody with half a cluster, or with an open door.
        if self.cluster.join:
            joined = ",".join(self.cluster.join)
            raise Defect("cluster.join", joined, "clusters are not supported in this version; expected none to join")
        if self.upstream.tenants:
            raise Defect("upstream.tenants", "", "tenants are not supported in this version; expected none")


# The declaration: an agent ----------------------------------------------------------------------------------


class ProxyTLS(Section):
    title: ClassVar[str] = "TLS towards proxies (https:// and socks5h+tls://)"
    aside: ClassVar[bool] = True

    cert: Annotated[FileName, "PEM certificate chain to present, where a proxy asks for one."] = ""
    key: Annotated[FileName, "PEM private key that belongs to the certificate."] = ""
    root_cas: Annotated[FileName, "PEM authorities to believe, in place of the system's."] = ""
    insecure_skip_verify: Annotated[Switch, "Believe any certificate, and any name in it."] = False
    pin: Annotated[Pin, "SHA-256 of the only certificate to believe, in hexadecimal."] = ""
    min_version: Annotated[TLSVersion, "Oldest version of TLS to speak."] = "1.2"

    def verify(self) -> None:
        if self != ProxyTLS():
            self.client_context()

    def client_context(self) -> ssl.SSLContext:
        """What a client of such a proxy needs, anew each time. Raises ConfigError."""
        import ssl

        context = _client_context(self)
        if self.min_version == "1.3":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


class ProxyAuth(Section):
    title: ClassVar[str] = "Logging in to proxies"
    aside: ClassVar[bool] = True

    schemes: Annotated[Schemes, "The only schemes to use, the one to try first in front."] = []
    forbidden: Annotated[Schemes, "Schemes never to use."] = []
    # Empty: all, but what a PAC file names that came over plain http is not shown a password or token itself.
    login_hosts: Annotated[HostNames, "The only proxies to log in to, by their names."] = []
    mutual: Annotated[Switch, "Have the proxy prove itself as well: Kerberos and Digest can."] = False
    nt_hash_file: Annotated[FileName, "File with the NT hash of the password, for NTLM in its place."] = ""
    token: Annotated[Token, "Token for Bearer; see also password."] = ""
    token_file: Annotated[FileName, "File with the token."] = ""
    token_env: Annotated[Word, "Name of the variable with the token."] = ""
    token_command: Annotated[Command, "Command that prints the token."] = ""
    command: Annotated[Command, "Command that prints a whole Proxy-Authorization value."] = ""
    service_principal: Annotated[Word, "What Kerberos calls the proxy; empty: HTTP/ and its host."] = ""
    client_keytab: Annotated[FileName, "Keytab with our Kerberos keys, in place of a ticket."] = ""
    kerberos_password: Annotated[Switch, "Without a ticket, get one with user and password."] = True
    socks_gssapi: Annotated[Switch, "Offer Kerberos to SOCKS5 proxies."] = False

    def verify(self) -> None:
        self.allowed()

    def allowed(self) -> tuple[str, ...]:
        """The schemes that may be used, in the order in which to try them. Raises Defect if none is left."""
        from proxy_adapters.auth.login import MUTUAL, ORDER

        left = tuple(name for name in self.schemes or ORDER if name not in self.forbidden)
        if not left:
            raise Defect("forbidden", ",".join(self.forbidden), "leaves no scheme; expected one to remain")
        if self.mutual and not self.socks_gssapi and not set(left) & set(MUTUAL):
            raise Defect("mutual", "true", f"none of the schemes can do it; expected one of {', '.join(MUTUAL)}")
        return left


class OutConfig(Section):
    """The way out of a network: which proxies, who we are to them, what goes past them. All of it is ours."""

    title: ClassVar[str] = "The way out, through proxies"

    url: Annotated[Routes, "Proxy, chain (A -> B) or `direct`; of several the first that works."] = []
    pac: Annotated[Location, "Proxy auto-configuration (PAC): a URL or a file, to choose the proxy."] = ""
    pac_copy: Annotated[FileName, "File for the last good copy of the PAC file."] = ""
    no_proxy: Annotated[Exceptions, "Hosts, domains and networks to reach directly, past every proxy."] = []
    on_refusal: Annotated[OnRefusal, "When a proxy says no: stop, or try the next one."] = "stop"
    user: Annotated[Word, "User, DOMAIN\\user or user@domain, for proxies whose URL names none."] = ""
    password: Annotated[Secret, "Its password; best kept in one of the next three."] = ""
    password_file: Annotated[FileName, "File with the password, read anew whenever it is asked for."] = ""
    password_env: Annotated[Word, "Name of the variable with the password."] = ""
    password_command: Annotated[Command, "Command that prints the password."] = ""
    password_keyring: Annotated[Word, "Service of the system's keyring that has the password."] = ""
    headers: Annotated[Headers, "Fields to add to CONNECT, as `Name: value`."] = []
    proxy_protocol: Annotated[ProxyProtocol, "Say who calls in front of all (the PROXY protocol)."] = "off"
    auth: ProxyAuth = field(default_factory=ProxyAuth)
    tls: ProxyTLS = field(default_factory=ProxyTLS)

    def verify(self) -> None:
        if self.url and self.pac:
            raise Defect("pac", _mask_userinfo(self.pac), "stands beside url; expected one of the two")
        if self.pac_copy and not self.pac:
            raise Defect("pac_copy", self.pac_copy, "is of no use without pac; expected that as well")
        if self.auth.nt_hash_file and not self.user:
            raise Defect("auth.nt_hash_file", self.auth.nt_hash_file, "has no user; expected user as well")
        for text in self.url:
            _check_route("url", text)
        self.router("connect.proxy.url", self.url)

    def router(self, key: str, routes: Sequence[str]) -> Router:
        """What chooses the way out; with no `routes` (said by `key`) and no `pac` the environment does.

        Raises ConfigError.
        """
        from proxy_adapters import PAC, Hop, ProxyURL, Router
        from proxy_adapters import Route as ProxyRoute

        login = self._login()
        anybody = Hop(
            ProxyURL("http", "proxy", 1),  # does not count in a default
            login,
            self.tls.client_context() if self.tls != ProxyTLS() else None,
            self.tls.pin or None,
            tuple(split_header(line) for line in self.headers),
            None if self.proxy_protocol == "off" else int(self.proxy_protocol),
        )
        try:
            pac = PAC(self.pac, keep=self.pac_copy or None) if self.pac else None
        except ValueError as error:
            raise Defect("pac", _mask_userinfo(self.pac), f"{error}; expected a URL or a file") from None
        return Router(
            [ProxyRoute.parse(text, source=key) for text in routes],
            no_proxy=",".join(self.no_proxy),
            pac=pac,
            default=anybody,
            login_hosts=self.auth.login_hosts,
            on_refusal=self.on_refusal,
        )

    def _login(self) -> Login | None:
        """Who we are to proxies that want to know; None if nothing is said of it."""
        from proxy_adapters import Login
        from proxy_adapters import Secret as ProxySecret

        auth = self.auth
        password = _secret(self, "password", user=self.user)
        if password is not None and not self.user:
            raise Defect("user", "", "missing; expected the user whose password is given")
        login = Login(
            user=self.user or None,
            password=password,
            nt_hash=_secret_file("auth.nt_hash_file", auth.nt_hash_file),
            token=_secret(auth, "token", "auth."),
            command=ProxySecret.from_command(split_command(auth.command)) if auth.command else None,
            schemes=auth.allowed(),
            service_principal=auth.service_principal or None,
            client_keytab=auth.client_keytab or None,
            kerberos_password=auth.kerberos_password,
            socks_gssapi=auth.socks_gssapi,
            mutual=auth.mutual,
        )
        return None if login == Login() else login


def _secret(section: Section, name: str, prefix: str = "", *, user: str = "") -> ProxySecret | None:
    """A secret by the one source that is given for it; None if there is none. Raises Defect for two."""
    from proxy_adapters import Secret as ProxySecret

    keys = [f"{name}{ending}" for ending in ("", "_file", "_env", "_command", "_keyring")]
    given = [key for key in keys if getattr(section, key, "")]
    if len(given) > 1:
        problem = f"stands beside {prefix}{given[0]}; expected one of the two"
        raise Defect(prefix + given[1], getattr(section, given[1]), problem)
    if not given:
        return None
    (key,) = given
    value: str = getattr(section, key)
    if key == name:
        return ProxySecret.literal(value)
    if key.endswith("_file"):
        return _secret_file(prefix + key, value)
    if key.endswith("_command"):
        return ProxySecret.from_command(split_command(value))
    if key.endswith("_keyring"):
        return ProxySecret.from_keyring(value, user)
    secret = ProxySecret.from_environment(value)
    try:
        secret.read()
    except ValueError as error:
        raise Defect(prefix + key, value, f"{error}; expected a variable of the environment") from None
    return secret


def _secret_file(key: str, path: str) -> ProxySecret | None:
    if not path:
        return None
    from proxy_adapters import Secret as ProxySecret

    secret = ProxySecret.from_file(path)
    try:
        secret.read()  # now, while somebody looks, rather than at the first 407
    except UnicodeDecodeError:
        raise Defect(key, path, "not UTF-8; expected a file with the secret") from None
    except OSError as error:
        raise Defect(key, path, f"{error.strerror}; expected a file with the secret") from None
    except ValueError as error:
        raise Defect(key, path, f"{error}") from None
    return secret


def _check_route(key: str, text: str) -> None:
    from proxy_adapters import Route as ProxyRoute

    try:
        ProxyRoute.parse(text)
    except ValueError as error:
        # In a chain a password may be where the parser sees a host, so its words are not repeated.
        chain = "->" in text
        value = MASK if "@" in text else text
        raise Defect(key, value, "expected proxy URLs joined by ->" if chain else str(error)) from None


class ConnectConfig(Section):
    title: ClassVar[str] = "Connection to the node"

    url: Annotated[URL, "The node: its upstream port for an agent, its proxy port for a forward."] = ""
    token: Annotated[Token, "Token (JWT) to show; best kept in the environment or in the file."] = ""
    tenant_id: Annotated[Word, "Tenant to connect as."] = ""  # in a forward it is ours
    timeout: Annotated[SecondsAboveZero, "Longest attempt to connect for the first time."] = 30.0
    # In a forward it is ours, and in both a chain is (`socks5h://a:1080 -> http://b:3128`), and `direct`.
    proxy_url: Annotated[Route, "The same as proxy.url; neither: what HTTPS_PROXY and NO_PROXY say."] = ""
    proxy: OutConfig = field(default_factory=OutConfig)
    tls: ClientTLS = field(default_factory=ClientTLS)

    def verify(self) -> None:
        if not self.url:
            raise Defect("url", "", "missing; expected the URL of a node")
        if self.proxy_url:
            _check_route("proxy_url", self.proxy_url)
            if beside := next((name for name in ("url", "pac") if getattr(self.proxy, name)), ""):
                value = _mask_userinfo(self.proxy_url)
                raise Defect("proxy_url", value, f"stands beside proxy.{beside}; expected one of the two")
        elif not self.proxy.url and not self.proxy.pac:
            self._check_environment()

    def _check_environment(self) -> None:
        from proxy_adapters.route import environment_route

        node = split_url(self.url)
        try:
            environment_route(node.host, node.port, scheme=node.scheme, environ=os.environ)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def router(self) -> Router:
        """What chooses the way out to the node. Raises ConfigError, but not once the configuration is verified."""
        if self.proxy_url:
            return self.proxy.router("connect.proxy_url", [self.proxy_url])
        return self.proxy.router("connect.proxy.url", self.proxy.url)

    def client_context(self) -> ssl.SSLContext | None:
        """What TLS to the node needs; None if the URL asks for none, because to read the system's authorities takes
        as long as all the rest of a start. Raises ConfigError, but not once the configuration is verified.
        """
        return self.tls.client_context() if split_url(self.url).scheme in ("https", "wss") else None


class HTTPClientConfig(Section):
    title: ClassVar[str] = "Connections to the service"

    keep_alive_timeout: Annotated[SecondsOrDefault, "How long idle before TCP probes whether it is alive."] = 30.0
    idle_conn_timeout: Annotated[SecondsOrDefault, "How long an idle connection is kept."] = 90.0
    max_idle_conns: Annotated[CountOrUnlimited, "How many idle connections are kept; -1: no limit."] = 100
    disable_compression: Annotated[Switch, "Never ask for compressed answers on our own account."] = False


class ListenerConfig(Section):
    """One endpoint that an agent offers, and the service behind it."""

    title: ClassVar[str] = "The endpoint"

    endpoint_id: Annotated[EndpointID, "Name that clients ask for."] = ""
    addr: Annotated[Service, "The service: a port, host:port, or (http) a URL."] = ""
    protocol: Annotated[Protocol, "What the service speaks."] = "http"
    # Piko has no default for it in the file.
    timeout: Annotated[SecondsAboveZero, "Longest wait for a connection to the service."] = 10.0
    access_log: AccessLogConfig = field(default_factory=AccessLogConfig)
    http_client: HTTPClientConfig = field(default_factory=HTTPClientConfig)
    tls: ClientTLS = field(default_factory=ClientTLS)

    def verify(self) -> None:
        if not self.endpoint_id:
            raise Defect("endpoint_id", "", "missing; expected the name of an endpoint")
        try:
            self.target()
        except ValueError:
            expected = "a port, host:port or http(s)://host" if self.protocol == "http" else "a port or host:port"
            value = MASK if "@" in self.addr else self.addr
            raise Defect("addr", value, f"{'' if self.addr else 'missing; '}expected {expected}") from None

    def target(self) -> Target:
        """Where the service is. Raises ValueError, but not once the configuration is verified."""
        if self.protocol == "http" and "://" in self.addr:
            return split_url(self.addr, ("http", "https"))
        host, port = split_address(f":{self.addr}" if self.addr.isdecimal() else self.addr)
        if port == 0:
            raise ValueError("nothing listens on port 0")
        return Target(self.protocol, host or "localhost", port, "")


class MetricsServerConfig(Section):
    title: ClassVar[str] = "Metrics of the agent"

    enabled: Annotated[Switch, "Serve /metrics."] = False
    bind_addr: Annotated[BindAddr, "Address to listen on."] = ":5000"


class AgentConfig(Section):
    """Everything about an agent."""

    title: ClassVar[str] = "Leaving"

    connect: ConnectConfig = field(default_factory=lambda: ConnectConfig(url="http://localhost:8001"))
    server: MetricsServerConfig = field(default_factory=MetricsServerConfig)
    log: LogConfig = field(default_factory=LogConfig)
    grace_period: Annotated[SecondsAboveZero, "What requests in flight get to finish in after SIGTERM."] = 60.0
    listeners: list[ListenerConfig] = []

    def listens(self) -> dict[str, str]:
        """The addresses that it listens on, by key."""
        return {"server.bind_addr": self.server.bind_addr} if self.server.enabled else {}

    def verify(self) -> None:
        # The same endpoint for two services is no mistake: the node takes them in turn.
        services = [f"{listener.endpoint_id} at {listener.addr}" for listener in self.listeners]
        _check_distinct("listeners", "endpoint_id", services)


# The declaration: a forward, and the command line itself ----------------------------------------------------


class PortConfig(Section):
    """One local port, and the endpoint that it leads to."""

    addr: Annotated[Word, "Where to listen: a port of localhost, or host:port."] = ""
    endpoint_id: Annotated[EndpointID, "Endpoint that it leads to."] = ""

    @property
    def bind_addr(self) -> str:
        """`addr` as host:port."""
        return f"localhost:{self.addr}" if self.addr.isdecimal() else self.addr

    def verify(self) -> None:
        try:
            split_address(self.bind_addr)
        except ValueError:
            missing = "" if self.addr else "missing; "
            raise Defect("addr", self.addr, f"{missing}expected a port or host:port") from None
        if not self.endpoint_id:
            raise Defect("endpoint_id", "", "missing; expected the name of an endpoint")


class ForwardConfig(Section):
    """Everything about a forward."""

    connect: ConnectConfig = field(default_factory=lambda: ConnectConfig(url="http://localhost:8000"))
    log: LogConfig = field(default_factory=LogConfig)
    ports: list[PortConfig] = []

    def listens(self) -> dict[str, str]:
        """The addresses that it listens on, by key."""
        return {f"ports[{index}].addr": port.bind_addr for index, port in enumerate(self.ports)}

    def verify(self) -> None:
        _check_no_clash(self)


class FileConfig(Section):
    title: ClassVar[str] = "The file"

    path: Annotated[FileName, "YAML file; what it says wins over flags and environment."] = ""
    expand_env: Annotated[Switch, "Replace ${VAR}, $VAR and ${VAR:default} in it."] = False
    check: Annotated[Switch, "Print the configuration that results, and start nothing."] = False  # ours


class Invocation(Section):
    """What is said beside a role's configuration, and never in the file."""

    config: FileConfig = field(default_factory=FileConfig)


class StatusServerConfig(Section):
    url: Annotated[URL, "Admin port of the node."] = ""


class StatusConfig(Section):
    """Everything about `server status`. All but `server.url` and `forward` is ours."""

    title: ClassVar[str] = "The question"

    server: StatusServerConfig = field(default_factory=lambda: StatusServerConfig(url="http://localhost:8002"))
    forward: Annotated[Word, "Node that the asked one shall pass the question on to."] = ""
    token: Annotated[Token, "Token (JWT) to show, where the admin port asks for one."] = ""
    output: Annotated[Output, "Form of the answer: table (on a terminal), yaml (elsewhere) or json."] = ""
    tls: ClientTLS = field(default_factory=ClientTLS)


class ExaminationConfig(Section):
    """What `doctor` does beside looking at the way. All of it is ours."""

    title: ClassVar[str] = "The examination"

    patient: Annotated[Switch, "Hold a silent session for 90 s, to see whether something cuts it."] = False
    measure: Annotated[Switch, "Measure for 3 s what the way carries."] = False
    json: Annotated[Switch, "Tell it to a program: one JSON object at the end."] = False


# Text forms: durations, addresses, URLs ---------------------------------------------------------------------

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign
    "μs": 1_000,  # U+03BC, the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3600_000_000_000,
}
_DURATION = re.compile(r"([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)", re.ASCII)
_DURATION_PART = re.compile(r"(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Go's spelling ("1m30s", "100ms", "-1.5h", "0") as seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"no duration: {text!r}")
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(match[2]):
        total += int(whole + fraction) * _NANOSECONDS[unit] // 10 ** len(fraction)
    if total >= 1 << 63:  # Go counts nanoseconds in 64 bits
        raise ValueError(f"longer than 292 years: {text!r}")
    return (-total if match[1] == "-" else total) / 1e9


def format_duration(seconds: float) -> str:
    """Seconds in Go's spelling: 90.0 is "1m30s", 3600.0 is "1h0m0s"."""
    count = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 else ""
    if count == 0:
        return "0s"
    for unit in ("ns", "µs", "ms"):
        if count < 1000 * _NANOSECONDS[unit]:
            return f"{sign}{_decimal(count, _NANOSECONDS[unit])}{unit}"
    minutes, count = divmod(count, _NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{front}{_decimal(count, _NANOSECONDS['s'])}s"


def _decimal(count: int, unit: int) -> str:
    whole, rest = divmod(count, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".")


_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\[\]:/@\s]*)):(\d{1,5})", re.ASCII)


def split_address(text: str) -> tuple[str, int]:
    """Host and port: ":8000" is ("", 8000), "[::1]:80" is ("::1", 80). Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"no host:port: {text!r}")
    return match[1] or match[2] or "", int(match[3])


class Target(NamedTuple):
    """What a URL or an address leads to. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str


_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def split_url(text: str, schemes: Sequence[str] = ("http", "https", "ws", "wss")) -> Target:
    """The parts of a URL with one of these schemes, its port filled in. Raises ValueError."""
    url = urlsplit(text)
    if url.scheme not in schemes or not url.hostname or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("no URL of these schemes")
    port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if port == 0:
        raise ValueError("nothing listens on port 0")
    return Target(url.scheme, url.hostname, port, url.path.rstrip("/"))


def split_command(text: str) -> list[str]:
    """The words of a command, by the rules of a shell's quotes. Raises ValueError."""
    import shlex

    if not text.isprintable():
        raise ValueError("control characters in a command")
    return shlex.split(text)


def split_header(line: str) -> tuple[str, str]:
    """Name and value of a header field. Raises ValueError."""
    from proxy_adapters.http_connect import check_field

    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("no colon behind the name")
    check_field(name, value.strip())
    return name, value.strip()


def _host(name: str) -> str:
    from proxy_adapters.url import normal_host

    return normal_host(name)


def _scheme_names() -> tuple[str, ...]:
    from proxy_adapters.auth.login import ORDER

    return ORDER


def _mask_userinfo(text: str) -> str:
    """A URL, or a chain of proxies joined by ->, without passwords; these may have been pasted raw."""
    parts = []
    for part in text.split("->"):
        front, at, place = part.rpartition("@")
        scheme, separator, userinfo = front.partition("://") if "://" in front else ("", "", front)
        user, colon, _ = userinfo.partition(":")
        parts.append(f"{scheme}{separator}{user}{colon and ':' + MASK}{at}{place}")
    return "->".join(parts)


# Kinds: what a value may be ---------------------------------------------------------------------------------

MASK = "***"
T = TypeVar("T")


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """How a value is written and read: `parse` makes it of text or raises ValueError, `expected` says what
    would have been right, `show` gives what `config check` prints.
    """

    metavar: str
    expected: str
    parse: Callable[[str], T]
    show: Callable[[T], object] = lambda value: value
    choices: tuple[str, ...] = ()
    many: bool = False  # a list of such values: a sequence in the file; commas, or repetition, in a flag
    alone: bool = False  # where many may stand, one needs no list around it in the file
    secret: bool = False
    userinfo: bool = False  # may hold user:password@
    variable: bool = True  # whether the environment has a variable for it
    zero_is_default: bool = False  # Go does not tell a zero from what nobody set


def _only(parse: Callable[[str], T], accept: Callable[[T], object]) -> Callable[[str], T]:
    def parse_and_accept(text: str) -> T:
        value = parse(text)
        if not accept(value):
            raise ValueError(f"{value!r} is out of range")
        return value

    return parse_and_accept


def _one_of(*choices: str) -> Kind[str]:
    return Kind("|".join(choices), f"one of {', '.join(choices)}", _only(str, choices.__contains__), choices=choices)


def _switch(text: str) -> bool:
    # The words of Go's flags and those of YAML 1.1, both of which Piko knows.
    if text.lower() in ("true", "t", "1", "yes", "y", "on"):
        return True
    if text.lower() in ("false", "f", "0", "no", "n", "off"):
        return False
    raise ValueError("neither true nor false")


def _integer(text: str) -> int:
    return int(text, 0)


def _seconds(expected: str, accept: Callable[[float], bool], *, zero_is_default: bool = False) -> Kind[float]:
    return Kind("DURATION", expected, _only(parse_duration, accept), format_duration, zero_is_default=zero_is_default)


def _parse_limit(text: str) -> float:
    # Below zero there is no limit, and at zero in some places another one holds (Go's http.Server).
    seconds = parse_duration(text)
    return seconds if seconds >= 0 else math.inf


def _format_limit(seconds: float) -> str:
    return "-1s" if seconds == math.inf else format_duration(seconds)


def _url(expected: str, accept: Callable[[str], object] = str.isprintable) -> Kind[str]:
    return Kind("URL", expected, _only(str, accept), userinfo=True)


Text = Annotated[str, Kind("TEXT", "text", str)]
Word = Annotated[str, Kind("TEXT", "text on one line", _only(str, str.isprintable))]
Texts = Annotated[list[str], Kind("LIST", "a list of texts", _only(str, str.isprintable), many=True)]
FileName = Annotated[str, Kind("FILE", "the name of a file", _only(str, str.isprintable))]
Secret = Annotated[str, Kind("SECRET", "text", str, secret=True)]
_token = re.compile(r"[!-~]*").fullmatch
Token = Annotated[str, Kind("SECRET", "a token, no blanks in it", _only(str.strip, _token), secret=True)]
_segment = re.compile(r"(?!\.\.?$)[^/\x00-\x1f\x7f]+").fullmatch  # of a URL's path, and no way up
EndpointID = Annotated[str, Kind("TEXT", "a name without /", _only(str, _segment))]

Switch = Annotated[bool, Kind("", "true or false", _switch)]
Level = Annotated[Literal["debug", "info", "warn", "error"], _one_of("debug", "info", "warn", "error")]
Protocol = Annotated[Literal["http", "tcp"], _one_of("http", "tcp")]
Output = Annotated[Literal["", "table", "yaml", "json"], _one_of("table", "yaml", "json")]

Count = Annotated[int, Kind("INT", "a whole number, 0 or more", _only(_integer, lambda n: n >= 0))]
CountAboveZero = Annotated[int, Kind("INT", "a whole number, 1 or more", _only(_integer, lambda n: n > 0))]
_count = _only(_integer, lambda n: n >= 0)
CountOrDefault = Annotated[int, Kind("INT", "a whole number, 1 or more", _count, zero_is_default=True)]
_count_or_unlimited = _only(_integer, lambda n: n >= -1)
CountOrUnlimited = Annotated[
    int, Kind("INT", "a whole number, 1 or more, or -1", _count_or_unlimited, zero_is_default=True)
]
Ratio = Annotated[float, Kind("FLOAT", "a number, 0 or more", _only(float, lambda x: 0 <= x < math.inf))]
Fraction = Annotated[float, Kind("FLOAT", "a number from 0 to 1", _only(float, lambda x: 0 <= x <= 1))]

Seconds = Annotated[float, _seconds("a duration such as 1m30s, 100ms or 0", lambda s: s >= 0)]
SecondsOrNever = Annotated[float, Kind("DURATION", "a duration such as 1m30s, 100ms or 0", _parse_limit, _format_limit)]
SecondsAboveZero = Annotated[float, _seconds("a duration above 0 such as 1m30s or 100ms", lambda s: s > 0)]
SecondsOrDefault = Annotated[
    float, _seconds("a duration such as 1m30s or 100ms", lambda s: s >= 0, zero_is_default=True)
]

_listenable = _only(str, split_address)
BindAddr = Annotated[str, Kind("HOST:PORT", "host:port or :port, the port from 0 to 65535", _listenable)]
_reachable = _only(str, lambda text: not text or split_address(text)[0])
Address = Annotated[str, Kind("HOST:PORT", "host:port", _reachable)]
_member = re.compile(r"[^\s/@]+").fullmatch
Members = Annotated[list[str], Kind("LIST", "a list of host or host:port", _only(str, _member), many=True)]
URL = Annotated[str, _url("a URL such as https://host or http://host:port", split_url)]
KeySetURL = Annotated[
    str,
    _url(
        "an https://, http:// or file:/// URL",
        lambda text: not text or text.startswith("file:///") or split_url(text, ("http", "https")),
    ),
]
# Without a variable: it would be that of proxy.url, which means the same.
Route = Annotated[str, Kind("URL", "the URL of a proxy", _only(str, str.isprintable), userinfo=True, variable=False)]
_routes = _only(str.strip, lambda text: text and text.isprintable())
Routes = Annotated[
    list[str], Kind("LIST", "the URL of a proxy, or a list of them", _routes, many=True, alone=True, userinfo=True)
]
Exceptions = Annotated[
    list[str], Kind("LIST", "a list of hosts, domains and networks", _only(str, str.isprintable), many=True, alone=True)
]
HostNames = Annotated[list[str], Kind("LIST", "a list of host names", _only(str, lambda name: _host(name)), many=True)]
Location = Annotated[str, _url("a URL or the name of a file")]
OnRefusal = Annotated[Literal["stop", "next"], _one_of("stop", "next")]
ProxyProtocol = Annotated[Literal["off", "1", "2"], _one_of("off", "1", "2")]
TLSVersion = Annotated[Literal["1.2", "1.3"], _one_of("1.2", "1.3")]
_scheme = _only(str.lower, lambda name: name in _scheme_names())
Schemes = Annotated[
    list[str],
    Kind(
        "LIST",
        "a list of command, negotiate, digest-sha-256, ntlm, negotiate-ntlm, bearer, digest-md5, basic",
        _scheme,
        many=True,
    ),
]
_sha256 = re.compile(r"(?:[0-9a-f]{2}:?){31}[0-9a-f]{2}|", re.ASCII | re.IGNORECASE).fullmatch
Pin = Annotated[str, Kind("SHA256", "a SHA-256 in hexadecimal", _only(str, _sha256))]
_command = _only(str, lambda text: not text or split_command(text))
Command = Annotated[str, Kind("COMMAND", "a command, quoted as in a shell", _command)]
Headers = Annotated[
    list[str],
    Kind(
        "LIST",
        "a list of `Name: value`",
        _only(str, lambda line: split_header(line)),
        many=True,
        secret=True,  # what has to be said to a proxy may be a key
    ),
]
Service = Annotated[str, _url("a port, host:port or URL")]


# What the declaration says, as data -------------------------------------------------------------------------


class Leaf(NamedTuple):
    """A member of a section that is a value."""

    kind: Kind[object]
    help: str


class ListOf(NamedTuple):
    """A member of a section that is a list of sections. Only a file can name those."""

    section: type[Section]


@cache
def members(section: type[Section]) -> dict[str, Leaf | ListOf | type[Section]]:
    """What may stand in a section, by key, in the order of the declaration."""
    found: dict[str, Leaf | ListOf | type[Section]] = {}
    for declared in msgspec.structs.fields(section):
        if get_origin(declared.type) is Annotated:
            found[declared.name] = Leaf(*declared.type.__metadata__)
        elif get_origin(declared.type) is list:
            found[declared.name] = ListOf(*get_args(declared.type))
        else:
            found[declared.name] = declared.type
    return found


class Knob(NamedTuple):
    """One value that can be set from outside, and the section that declares it."""

    path: tuple[str, ...]
    kind: Kind[object]
    help: str
    section: type[Section]
    title: str
    aside: bool

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """Empty if there is none."""
        return "TRIODUCT_" + self.key.replace(".", "_").upper() if self.kind.variable else ""

    def default(self, root: type[Section]) -> str:
        """The default in a configuration, as a person would write it; empty if there is none."""
        section = root()
        for name in self.path[:-1]:
            section = getattr(section, name)
        value = _shown_value(self.kind, getattr(section, self.path[-1]))
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value or "")


def knobs(section: type[Section], path: tuple[str, ...] = (), title: str = "", aside: bool = False) -> Iterator[Knob]:
    """The knobs of a section and of those below it, without lists of sections."""
    title, aside = section.title or title, section.aside or aside
    for name, member in members(section).items():
        if isinstance(member, Leaf):
            yield Knob((*path, name), member.kind, member.help, section, title, aside)
        elif not isinstance(member, ListOf):
            yield from knobs(member, (*path, name), title, aside)


def shown(section: Section) -> dict[str, object]:
    """A section as plain data for people: durations in Go's spelling, secrets masked."""
    plain: dict[str, object] = {}
    for name, member in members(type(section)).items():
        value = getattr(section, name)
        if isinstance(member, Leaf):
            plain[name] = _shown_value(member.kind, value)
        else:
            plain[name] = [shown(item) for item in value] if isinstance(member, ListOf) else shown(value)
    return plain


def _shown_value(kind: Kind[object], value: object) -> object:
    if kind.many and isinstance(value, list):
        return [_shown_value(msgspec.structs.replace(kind, many=False), item) for item in value]
    if kind.secret:
        return MASK if value else ""
    if kind.userinfo and isinstance(value, str):
        return _mask_userinfo(value)
    return kind.show(value)


def to_yaml(section: Section) -> str:
    """A section as a YAML file, secrets masked."""
    import yaml

    return yaml.safe_dump(shown(section), sort_keys=False, allow_unicode=True, width=1000)


# Reading ----------------------------------------------------------------------------------------------------

C = TypeVar("C", bound=Section)
_NULL = "tag:yaml.org,2002:null"


class Draft(Generic[C]):
    """A configuration on its way, and where each of its values came from.

    Call the `read_…` methods from the weakest source to the strongest, then `finish`. All raise ConfigError.
    """

    def __init__(self, root: type[C]) -> None:
        self.config = root()
        # How a complaint about a key begins: "--proxy.timeout", or "server.yaml:3: proxy.timeout".
        self._origins: dict[str, str] = {}

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Take each knob's variable. An empty one says nothing."""
        for knob in knobs(type(self.config)):
            if text := environ.get(knob.variable):
                self._take(self.config, "", knob, [text], knob.variable)

    def read_flags(self, flags: Mapping[str, Sequence[str]]) -> None:
        """Take flags, as flag -> the texts that it was given: the last one, or for a list all of them."""
        for knob in knobs(type(self.config)):
            if texts := flags.get(knob.flag):
                self._take(self.config, "", knob, texts, knob.flag)

    def read_file(self, path: str, *, expand_env: bool = False, environ: Mapping[str, str] = NOTHING) -> None:
        """Take what a YAML file says. What is null in it stays as it is, like what is missing."""
        import yaml

        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; expected a YAML file") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: not UTF-8; expected a YAML file") from None
        if expand_env:
            text = expand(text, environ)
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
            try:
                node = loader.get_single_node()
                if node is not None and node.tag != _NULL:
                    self._read_section(path, loader, node, self.config, "")
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            # Not str(error), which quotes the lines around it, secrets and all.
            mark = error.problem_mark or error.context_mark
            place = f"{path}:{mark.line + 1}" if mark else path
            raise ConfigError(f"{place}: {error.problem or error.context}; expected YAML") from None
        except (yaml.YAMLError, UnicodeEncodeError):
            raise ConfigError(f"{path}: control characters; expected YAML") from None

    def take_item(
        self,
        items: str,
        item: Section,
        arguments: Mapping[str, tuple[str, str]],
        flags: Mapping[str, Sequence[str]] = NOTHING,
        environ: Mapping[str, str] = NOTHING,
    ) -> None:
        """Put one section in place of a list of them, as `agent http ENDPOINT ADDR` does with `listeners`.

        `arguments` maps keys to what the command line calls them and the text. Whatever the file says of the
        list is discarded, as in Piko.
        """
        self._origins = {k: v for k, v in self._origins.items() if not k.startswith(f"{items}[")}
        setattr(self.config, items, [item])
        for knob in knobs(type(item)):
            if text := environ.get(knob.variable):
                self._take(item, f"{items}[0].", knob, [text], knob.variable)
            if texts := flags.get(knob.flag):
                self._take(item, f"{items}[0].", knob, texts, knob.flag)
            if knob.key in arguments:
                name, text = arguments[knob.key]
                self._take(item, f"{items}[0].", knob, [text], name)

    def finish(self) -> C:
        """The configuration, once everything in it is checked, the files that it names included."""
        self._verify(self.config, "")
        return self.config

    def warnings(self) -> list[str]:
        """What was said and has no effect."""
        gossip = ", ".join(key for key in self._origins if key.startswith("cluster.gossip."))
        return [f"membership is not gossip here, so these change nothing: {gossip}"] if gossip else []

    def complaint(self, key: str, value: str, problem: str) -> str:
        """The line about one value: where it came from, its key, the value, and what is wrong with it."""
        begin, known = self._origins.get(key), key
        while begin is None and "." in known:  # missing: say from which section, and where that stands
            known = known.rpartition(".")[0]
            if known in self._origins:
                begin = self._origins[known] + key.removeprefix(known)
        return f"{begin or key}: {_quoted(value)}: {problem}" if value else f"{begin or key}: {problem}"

    def _take(self, section: Section, prefix: str, knob: Knob, texts: Sequence[str], origin: str) -> None:
        for name in knob.path[:-1]:
            section = getattr(section, name)
        items = [item for text in texts for item in _split_list(text, origin)] if knob.kind.many else texts[-1:]
        self._set(section, knob.path[-1], knob.kind, items, prefix + knob.key, origin)

    def _set(
        self, section: Section, name: str, kind: Kind[object], texts: Sequence[str], key: str, origin: str
    ) -> None:
        values = []
        for text in texts:
            try:
                values.append(kind.parse(text))
            except ValueError:
                value = MASK if kind.secret or (kind.userinfo and "@" in text) else text
                raise ConfigError(f"{origin}: {_quoted(value)}: expected {kind.expected}") from None
        if kind.many:
            setattr(section, name, values)
        elif not (kind.zero_is_default and values[0] == 0):
            setattr(section, name, values[0])
        self._origins[key] = origin

    def _read_section(self, path: str, loader: yaml.SafeLoader, node: yaml.Node, section: Section, key: str) -> None:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            place = f"{path}:{node.start_mark.line + 1}: {key}".removesuffix(": ")
            raise ConfigError(f"{place}: expected a mapping of keys")
        known = members(type(section))
        seen: dict[str, int] = {}
        for name_node, _ in node.value:
            name, line = str(name_node.value), name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                raise ConfigError(f"{path}:{line}: {key or 'a mapping'}: expected a name for each key")
            if name in seen:
                raise ConfigError(f"{path}:{line}: {_join(key, name)}: stands already on line {seen[name]}")
            seen[name] = line
        loader.flatten_mapping(node)  # `<<: *anchor`
        for name_node, value in node.value:
            name = str(name_node.value)
            here = _join(key, name)
            origin = f"{path}:{name_node.start_mark.line + 1}: {here}"
            member = known.get(name)
            if member is None:
                raise ConfigError(f"{origin}: unknown key; {_did_you_mean(name, list(known))}")
            if value.tag == _NULL:
                continue
            self._origins[here] = origin
            if isinstance(member, Leaf):
                self._set(section, name, member.kind, self._texts(value, member.kind, origin), here, origin)
            elif not isinstance(member, ListOf):
                self._read_section(path, loader, value, getattr(section, name), here)
            elif isinstance(value, yaml.SequenceNode):
                items = []
                for index, item_node in enumerate(value.value):
                    item = member.section()
                    place = f"{here}[{index}]"
                    self._origins[place] = f"{path}:{item_node.start_mark.line + 1}: {place}"
                    self._read_section(path, loader, item_node, item, place)
                    items.append(item)
                setattr(section, name, items)
            else:
                raise ConfigError(f"{origin}: expected a list, each of its items a mapping of keys")

    def _texts(self, node: yaml.Node, kind: Kind[object], origin: str) -> list[str]:
        """The text of a scalar, or the texts of a list, as they stand there.

        Not what YAML makes of them: in Piko, too, it is the kind of the knob that decides whether 05 is text.
        """
        import yaml

        if kind.many:
            if isinstance(node, yaml.SequenceNode) and all(isinstance(n, yaml.ScalarNode) for n in node.value):
                return [str(item.value) for item in node.value]
            if kind.alone and isinstance(node, yaml.ScalarNode):
                return [str(node.value)] if node.value else []
        elif isinstance(node, yaml.ScalarNode):
            return [str(node.value)]
        what = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        value = _quoted(node.value) if isinstance(node, yaml.ScalarNode) else what
        raise ConfigError(f"{origin}: {value}: expected {kind.expected}")

    def _verify(self, section: Section, prefix: str) -> None:
        for name, member in members(type(section)).items():
            if isinstance(member, ListOf):
                for index, item in enumerate(getattr(section, name)):
                    self._verify(item, f"{prefix}{name}[{index}].")
            elif not isinstance(member, Leaf):
                self._verify(getattr(section, name), f"{prefix}{name}.")
        try:
            section.verify()
        except Defect as defect:
            raise ConfigError(self.complaint(prefix + defect.key, defect.value, defect.problem)) from None


_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([*#$@!?0-9-])|([A-Za-z_][A-Za-z0-9_]*))")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}`, `$VAR` and `${VAR:default}` as Piko does, by the rules of Go's os.Expand.

    An unset variable is empty; the default is for both. `$$` is the variable named `$`, so it vanishes.
    """

    def value(match: re.Match[str]) -> str:
        name, _, default = (match[1] or match[2] or match[3] or "").partition(":")
        return environ.get(name) or default

    return _REFERENCE.sub(value, text)


def _join(key: str, name: str) -> str:
    name = name if re.fullmatch(r"[\w-]{1,64}", name) else _quoted(name)
    return f"{key}.{name}" if key else name


def _split_list(text: str, origin: str) -> list[str]:
    import csv  # pflag's rule: commas, and quotes around an item that has one

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        raise ConfigError(f"{origin}: {_quoted(text)}: expected a list, separated by commas") from None


def _did_you_mean(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name.replace("-", "_").lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")  # repr keeps it on one line


# Verifying --------------------------------------------------------------------------------------------------


class Defect(ConfigError):
    """What is wrong with the value of one key, relative to the section that found it."""

    def __init__(self, key: str, value: str, problem: str) -> None:
        super().__init__(f"{key}: {_quoted(value)}: {problem}" if value else f"{key}: {problem}")
        self.key = key
        self.value = value
        self.problem = problem


def _check_distinct(items: str, key: str, values: Sequence[str]) -> None:
    for index, value in enumerate(values):
        if (first := values.index(value)) < index:
            raise Defect(f"{items}[{index}].{key}", value, f"is the same as {items}[{first}]; expected each once")


def _check_no_clash(config: ServerConfig | ForwardConfig) -> None:
    # Found here, because a second attempt to listen would not say who was first. The defaults are looked at first:
    # what somebody changed is what is wrong.
    defaults = type(config)().listens()
    taken: list[tuple[str, str, int]] = []
    for key, address in sorted(config.listens().items(), key=lambda item: item[1] != defaults.get(item[0])):
        host, port = split_address(address)
        for other, other_host, other_port in taken:
            if port and port == other_port and (host == other_host or "" in (host, other_host)):
                raise Defect(key, address, f"{other} listens there; expected a port of its own")
        taken.append((key, host, port))


def _usual(context: ssl.SSLContext) -> ssl.SSLContext:
    import ssl

    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _client_context(section: ClientTLS | ProxyTLS) -> ssl.SSLContext:
    import ssl

    context = _usual(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    # As in Go: whatever stands in root_cas is believed, be it an intermediate authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if section.root_cas:
        _load_authorities(context, "root_cas", section.root_cas)
    if section.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not section.root_cas:
        context.load_default_certs()
    _load_pair(context, section.cert, section.key)
    return context


def _load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    if not cert and not key:
        return
    if not key:
        raise Defect("cert", cert, "stands alone; expected key as well")
    if not cert:
        raise Defect("key", key, "stands alone; expected cert as well")
    import ssl

    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "cert", cert)  # is it a certificate at all?
    if b"ENCRYPTED" in _read("key", key, "a PEM private key"):
        # OpenSSL would ask for the passphrase on the terminal.
        raise Defect("key", key, "has a passphrase; expected a private key without one")
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason is None:
            raise Defect("key", key, "has no private key in it; expected a PEM private key") from None
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise Defect("key", key, f"is of another certificate; expected the key of {cert}") from None
        problem = error.reason.replace("_", " ").lower()
        raise Defect("cert", cert, f"{problem}; expected a certificate that OpenSSL takes") from None


def _load_authorities(context: ssl.SSLContext, key: str, path: str) -> None:
    import ssl

    _read(key, path, "a file of PEM certificates")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise Defect(key, path, "has no certificate in it; expected a file of PEM certificates") from None


def _read(key: str, path: str, expected: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Defect(key, path, f"{error.strerror}; expected {expected}") from None
