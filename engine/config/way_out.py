"""The way out of a network through proxies: which, who we are to them, and what goes past them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import field

from engine.config.check import Defect, read_secret_file
from engine.config.kinds import (
    Command,
    Exceptions,
    FileName,
    Headers,
    HostNames,
    Location,
    OnRefusal,
    Pin,
    ProxyProtocol,
    Routes,
    Schemes,
    Secret,
    Switch,
    TLSVersion,
    Token,
    Word,
    split_command,
    split_header,
)
from engine.config.knob import Section
from engine.config.mask import MASK, mask_userinfo
from engine.config.tls import TLSClient

# Imported where they are used: ssl costs 20 ms, proxy_adapters 100.
if TYPE_CHECKING:
    import ssl

    from proxy_adapters import Login, Router
    from proxy_adapters import Secret as ProxySecret


class ProxyTLS(TLSClient):
    title: ClassVar[str] = "TLS to proxies (https:// and socks5h+tls://)"

    pin: Annotated[Pin, "SHA-256 of the only certificate to accept, in hexadecimal."] = ""
    min_version: Annotated[TLSVersion, "Minimum TLS version."] = "1.2"

    def client_context(self, *, http2: bool = False) -> ssl.SSLContext:
        """What a client of such a proxy needs, anew each time. Raises ConfigError."""
        import ssl

        context = super().client_context(http2=http2)
        if self.min_version == "1.3":
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


class ProxyAuth(Section):
    title: ClassVar[str] = "Authentication to proxies"
    aside: ClassVar[bool] = True

    schemes: Annotated[Schemes, "The only authentication schemes to use, the first one first."] = []
    forbidden: Annotated[Schemes, "Authentication schemes never to use."] = []
    # Empty: all, but what a PAC file names that came over plain http, which is told nothing of who we are.
    login_hosts: Annotated[HostNames, "The only proxies to send credentials to, by host name."] = []
    mutual: Annotated[Switch, "Require mutual authentication (Kerberos or Digest)."] = False
    nt_hash_file: Annotated[FileName, "File with the NT hash of the password, for NTLM, instead of the password."] = ""
    token: Annotated[Token, "Token for Bearer; see also password."] = ""
    token_file: Annotated[FileName, "File with the token."] = ""
    token_env: Annotated[Word, "Name of the variable with the token."] = ""
    token_command: Annotated[Command, "Command that prints the token."] = ""
    command: Annotated[Command, "Command that prints a whole Proxy-Authorization value."] = ""
    service_principal: Annotated[Word, "Kerberos service principal of the proxy; empty: HTTP/ and its host."] = ""
    client_keytab: Annotated[FileName, "Keytab with the client's keys, instead of a ticket."] = ""
    kerberos_password: Annotated[Switch, "Without a ticket, get one with user and password."] = True
    socks_gssapi: Annotated[Switch, "Offer Kerberos to SOCKS5 proxies."] = False

    def verify(self) -> None:
        self.allowed()

    def allowed(self) -> tuple[str, ...]:
        """The schemes that may be used, in the order in which to try them. Raises Defect if none is left."""
        from proxy_adapters.auth.login import MUTUAL, ORDER

        left = tuple(name for name in self.schemes or ORDER if name not in self.forbidden)
        if not left:
            raise Defect(
                "forbidden", ",".join(self.forbidden), "leaves no authentication scheme; expected at least one"
            )
        if self.mutual and not self.socks_gssapi and not set(left) & set(MUTUAL):
            raise Defect("mutual", "true", f"not possible with these schemes; expected one of {', '.join(MUTUAL)}")
        return left


class OutConfig(Section):
    """The way out of a network: which proxies, who we are to them, what goes past them. Piko has none of these keys."""

    title: ClassVar[str] = "Forward proxies"

    url: Annotated[Routes, "Proxy, chain (A -> B) or `direct`; of several, the first that works."] = []
    pac: Annotated[Location, "Proxy auto-configuration (PAC) file, or its URL."] = ""
    pac_copy: Annotated[FileName, "File for the last good copy of the PAC file."] = ""
    no_proxy: Annotated[Exceptions, "Hosts, domains and networks to connect to without a proxy."] = []
    on_refusal: Annotated[OnRefusal, "When a proxy refuses: stop, or try the next one."] = "stop"
    user: Annotated[Word, "User, DOMAIN\\user or user@domain, for proxies whose URL names none."] = ""
    password: Annotated[Secret, "Its password; best kept in one of the next three."] = ""
    password_file: Annotated[FileName, "File with the password, read each time it is needed."] = ""
    password_env: Annotated[Word, "Name of the variable with the password."] = ""
    password_command: Annotated[Command, "Command that prints the password."] = ""
    password_keyring: Annotated[Word, "Service of the system's keyring that has the password."] = ""
    headers: Annotated[Headers, "Headers to add to CONNECT requests, as `Name: value`."] = []
    proxy_protocol: Annotated[ProxyProtocol, "Send a PROXY protocol header first, of this version."] = "off"
    auth: ProxyAuth = field(default_factory=ProxyAuth)
    tls: ProxyTLS = field(default_factory=ProxyTLS)

    def verify(self) -> None:
        if self.url and self.pac:
            raise Defect("pac", mask_userinfo(self.pac), "set as well as url; expected one of the two")
        if self.pac_copy and not self.pac:
            raise Defect("pac_copy", self.pac_copy, "needs pac; expected that as well")
        if self.auth.nt_hash_file and not self.user:
            raise Defect("auth.nt_hash_file", self.auth.nt_hash_file, "needs a user; expected user as well")
        for text in self.url:
            check_route("url", text)
        self.router("connect.proxy.url", self.url)

    def router(self, key: str, routes: Sequence[str]) -> Router:
        """What chooses the way out: `routes`, which `key` configured, or the PAC file, or else the environment.

        Raises ConfigError.
        """
        from proxy_adapters import PAC, Hop, ProxyURL, Router
        from proxy_adapters import Route as ProxyRoute

        login = self._login()
        anybody = Hop(
            ProxyURL("http", "proxy", 1),  # a default hop stands for any proxy: its place is not used
            login,
            self.tls.client_context() if self.tls != ProxyTLS() else None,
            self.tls.pin or None,
            tuple(split_header(line) for line in self.headers),
            None if self.proxy_protocol == "off" else int(self.proxy_protocol),
        )
        try:
            pac = PAC(self.pac, keep=self.pac_copy or None) if self.pac else None
        except ValueError as error:
            raise Defect("pac", mask_userinfo(self.pac), f"{error}; expected a URL or a file") from None
        return Router(
            [ProxyRoute.parse(text, source=key) for text in routes],
            no_proxy=",".join(self.no_proxy),
            pac=pac,
            default=anybody,
            login_hosts=self.auth.login_hosts,
            on_refusal=self.on_refusal,
        )

    def _login(self) -> Login | None:
        """What a proxy is told when it asks for a login; None if no user, secret or scheme is configured."""
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
    """The secret that one of its sources names, or None if none does. Raises Defect if two do."""
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

    read_secret_file(key, path)  # so that a mistake is told at the start, and not at the first 407
    return ProxySecret.from_file(path)


def check_route(key: str, text: str) -> None:
    from proxy_adapters import Route as ProxyRoute

    try:
        ProxyRoute.parse(text)
    except ValueError as error:
        # In a chain a password may be where the parser sees a host, so its words are not repeated.
        chain = "->" in text
        value = MASK if "@" in text else text
        raise Defect(key, value, "expected proxy URLs joined by ->" if chain else str(error)) from None
