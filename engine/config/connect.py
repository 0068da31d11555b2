"""The connection of an agent or a forward to its node."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import field

from engine.config.address import split_url
from engine.config.check import Defect, read_secret_file
from engine.config.kinds import (
    CARRIERS,
    URL,
    Carriers,
    Command,
    FileName,
    Route,
    Seconds,
    SecondsAboveZero,
    Token,
    Word,
    split_command,
)
from engine.config.knob import Section
from engine.config.mask import MASK, mask_userinfo
from engine.config.tls import ClientTLS
from engine.config.way_out import OutConfig, check_route
from engine.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from proxy_adapters import Route as ProxyRoute
    from proxy_adapters import Router


class ConnectConfig(Section):
    title: ClassVar[str] = "Connection to the node"

    url: Annotated[URL, "URL of the node: upstream port for an agent, proxy port for a forward."] = ""
    token: Annotated[Token, "Token (JWT); best kept in the environment or in the file."] = ""
    token_file: Annotated[FileName, "File with the token, which only its owner may read; read at each connect."] = (
        ""  # ours
    )
    token_command: Annotated[Command, "Command that prints the token; run again before that expires."] = ""  # ours
    tenant_id: Annotated[Word, "Tenant to connect as."] = ""  # Piko has it for agents; for a forward it is ours
    timeout: Annotated[SecondsAboveZero, "Timeout for the first connection."] = 30.0
    # Piko has it for agents, and takes one proxy. A chain (`socks5h://a:1080 -> http://b:3128`), `direct` and the key
    # for a forward are ours.
    proxy_url: Annotated[Route, "The same as proxy.url; without either, HTTPS_PROXY and NO_PROXY count."] = ""
    # Ours.
    carriers: Annotated[Carriers, "What may carry a session, the first that gets through: websocket, stream, poll."] = (
        field(default_factory=lambda: [*CARRIERS])
    )
    resume: Annotated[Seconds, "How long streams wait for a connection that was cut to come back; 0: not."] = 30.0
    memory: Annotated[FileName, "File that remembers which carrier got through, for the next start."] = ""
    proxy: OutConfig = field(default_factory=OutConfig)
    tls: ClientTLS = field(default_factory=ClientTLS)

    def verify(self) -> None:
        if not self.url:
            raise Defect("url", "", "missing; expected the URL of a node")
        if self.token and self.token_file:
            raise Defect("token_file", self.token_file, "set as well as token; expected one of the two")
        if self.token_command and (beside := "token_file" if self.token_file else "token" if self.token else ""):
            raise Defect("token_command", self.token_command, f"set as well as {beside}; expected one of the two")
        if not self.token_command:
            self.read_token()
        if len(set(self.carriers)) != len(self.carriers):
            raise Defect("carriers", ",".join(self.carriers), "one stands there twice; expected each once")
        if not self.carriers:
            raise Defect("carriers", "", "none is left; expected one of websocket, stream, poll")
        if self.proxy_url:
            check_route("proxy_url", self.proxy_url)
            if beside := next((name for name in ("url", "pac") if getattr(self.proxy, name)), ""):
                value = mask_userinfo(self.proxy_url)
                raise Defect("proxy_url", value, f"set as well as proxy.{beside}; expected one of the two")
        self.environment_route()

    def read_token(self) -> str:
        """The token, read anew from its file or its command, for which it waits. Raises Defect."""
        if self.token_command:
            return _printed("token_command", self.token_command)
        return read_secret_file("token_file", self.token_file).strip() if self.token_file else self.token

    @property
    def token_source(self) -> str:
        """Where the token comes from, as a key."""
        return f"connect.{next((key for key in ('token_file', 'token_command') if getattr(self, key)), 'token')}"

    def environment_route(self) -> ProxyRoute | None:
        """The way to the node by the environment; None if it names none, or is not asked. Raises ConfigError."""
        if self.proxy_url or self.proxy.url or self.proxy.pac:
            return None
        return environment_route(self.url, self.proxy.no_proxy)

    def way(self) -> str:
        """The node and the way out to it, as configured, in words without secrets: what `memory` knows it by."""
        out = self.proxy_url or ", ".join(self.proxy.url) or self.proxy.pac
        if not out and (route := self.environment_route()) is not None:
            out = str(route)
        node = split_url(self.url)
        place = f"{node.scheme}://{node.host}:{node.port}{node.path}"
        return f"{place} by {mask_userinfo(out)}" if out else place

    def router(self) -> Router:
        """What chooses the way out to the node. Raises ConfigError, but not once the configuration is verified."""
        if self.proxy_url:
            return self.proxy.router("connect.proxy_url", [self.proxy_url])
        return self.proxy.router("connect.proxy.url", self.proxy.url)

    def client_context(self) -> ssl.SSLContext | None:
        """The TLS context for the node, or None if the scheme of its URL has no TLS.

        It is made only when it is needed, because to read the system's CAs takes as long as all the rest of a
        start. Raises ConfigError, but not once the configuration is verified.
        """
        return self.tls.client_context() if split_url(self.url).scheme in ("https", "wss") else None


def environment_route(url: str, no_proxy: Sequence[str] = ()) -> ProxyRoute | None:
    """The way to `url` by the environment; None if it names none. Raises ConfigError."""
    from proxy_adapters.no_proxy import match_no_proxy
    from proxy_adapters.route import environment_route

    target = split_url(url)
    try:
        if (entries := ",".join(no_proxy)) and match_no_proxy(target.host, target.port, entries):
            return None
        route = environment_route(target.host, target.port, scheme=target.scheme, environ=os.environ)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if route is not None and any(hop.url.password == MASK for hop in route.hops):
        problem = f"{MASK} is what is printed instead of a secret; expected the secret itself"
        raise ConfigError(f"{route.source.replace('environment:', 'environment variable')}: {problem}")
    return route


def _printed(key: str, command: str) -> str:
    """The secret that the command of `key` prints on its first line, within ten seconds. Raises Defect."""
    from proxy_adapters import Secret as ProxySecret

    try:
        return ProxySecret.from_command(split_command(command)).read()
    except UnicodeDecodeError:
        raise Defect(key, command, "printed what is not UTF-8; expected the secret") from None
    except OSError as error:
        raise Defect(key, command, f"{error.strerror}; expected a command that prints the secret") from None
    except ValueError as error:
        raise Defect(key, command, f"{error}; expected a command that prints the secret") from None
