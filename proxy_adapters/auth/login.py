"""Who we are to one proxy, and what one attempt of one scheme may know of it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from proxy_adapters.auth.challenge import Challenge
from proxy_adapters.handshake import Work
from proxy_adapters.secret import Secret
from proxy_adapters.url import ProxyURL

#: Strongest first. A name left out of `Login.schemes` is forbidden; a tuple of one pins it.
ORDER = (
    "command",
    "negotiate",
    "digest-sha-256",
    "ntlm",
    "negotiate-ntlm",
    "bearer",
    "digest-md5",
    "basic",
)


#: These show the secret itself, to the proxy and, where nothing is encrypted, to everybody on the way.
USER_AND_PASSWORD = "user/password"  # the way of SOCKS5, not one of the schemes of HTTP
REVEALING = ("command", "bearer", "basic", USER_AND_PASSWORD)

#: In these the proxy can prove in turn that it knows the secret, or has the key of its service.
MUTUAL = ("negotiate", "digest-sha-256", "digest-md5")


@dataclass(frozen=True, slots=True)
class Login:
    """What may be used to authenticate to a proxy, each part optional.

    `user` may be `DOMAIN\\user` or `user@domain` · `nt_hash` (hex) serves NTLM in place of a password ·
    `token` is for Bearer · `command` prints a whole Proxy-Authorization value · `service_principal` is
    `HTTP/host` or `HTTP/host@REALM` when the proxy's own name is not what Kerberos knows it by ·
    `client_keytab` a file with our keys · `kerberos_password` lets Negotiate ask the KDC with user and
    password when there is no ticket · `socks_gssapi` offers Kerberos to SOCKS5 proxies (service `rcmd`) ·
    `mutual`: the proxy has to prove itself too, or there is no tunnel · `withheld` says why this proxy is told nothing
    of who we are; empty: it may be. A proof (NTLM, Digest) is something, too: it can be relayed, or the password found.
    NTLM's workstation name is NETBIOS_COMPUTER_NAME of the environment.
    """

    user: str | None = None
    password: Secret | None = None
    nt_hash: Secret | None = None
    token: Secret | None = None
    command: Secret | None = None
    schemes: tuple[str, ...] = ORDER
    service_principal: str | None = None
    client_keytab: str | None = None
    kerberos_password: bool = True
    socks_gssapi: bool = False
    mutual: bool = False
    withheld: str = ""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.schemes if name not in ORDER]:
            raise ValueError(f"unknown authentication scheme {unknown[0]!r}: one of {', '.join(ORDER)}")

    @property
    def usable(self) -> tuple[str, ...]:
        """The schemes that may be used with this proxy, strongest first."""
        if self.withheld:
            return ()
        return tuple(name for name in self.schemes if name in MUTUAL or not self.mutual)

    @property
    def has_secrets(self) -> bool:
        return any((self.password, self.nt_hash, self.token, self.command))

    @classmethod
    def of(cls, url: ProxyURL) -> Login:
        """The login that the URL's userinfo makes; without one, what the machine itself has (a Kerberos
        ticket).
        """
        return cls(user=url.user, password=None if url.password is None else Secret.literal(url.password))


#: A secret being read: the work that may block, and in the end the text.
Reading = Generator[Work, Any, str]


class CannotStart(Exception):
    """A scheme is of no use here and now; the text says why. Nothing secret was sent."""


@dataclass(slots=True)
class Asked:
    """One attempt of one scheme: what is asked for, by whom, and whether a secret has left the house.

    `challenge` is None when a scheme starts before it was asked, because it worked last time; `state` is
    what it keeps in `Memory` for that.
    """

    login: Login
    proxy: ProxyURL
    uri: str
    memory: Memory
    scheme: str
    challenge: Challenge | None = None
    binding: bytes | None = None
    spent: bool = False
    fingerprint: bytes = b""
    state: Any = None

    @property
    def account(self) -> str:
        return self.login.user or ""

    def password(self) -> Reading:
        """Read the password now. Raises CannotStart if there is none or this very one was refused before."""
        if self.login.user is None or self.login.password is None:
            raise CannotStart("no user and password given")
        return (yield from self.secret(self.login.password))

    def secret(self, secret: Secret) -> Reading:
        try:
            text: str = (yield Work(secret.read)) if secret.blocking else secret.read()
        except (OSError, ValueError) as error:
            raise CannotStart(f"cannot read the secret: {error}") from error
        self.fingerprint = self.memory.fingerprint(self.account, text)
        if self.memory.was_refused(self.proxy, self.scheme, self.fingerprint):
            account = f" for {self.account}" if self.account else ""
            raise CannotStart(f"refused before{account}; not sent again until it changes")
        return text


#: A scheme: yields header values (str) and blocking work, is sent the proxy's next challenge of its own; its
#: return means "refused", with a reason where there is a better one than "refused". A `final` challenge is what
#: came with the proxy's yes, and is sent only if it has to prove itself: then to return nothing means "proved".
Conversation = Generator[Work | str, Any, str | None]


@dataclass(slots=True)
class Memory:
    """What was learned about proxies, so that the next tunnel is short and no account gets locked.

    Kept for the life of the process, in memory only. Secrets are kept as keyed hashes.
    """

    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _refused: set[tuple[str, str, bytes]] = field(default_factory=set, repr=False)
    _worked: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _warned: set[tuple[str, str]] = field(default_factory=set, repr=False)
    #: Whoever plays the scripts keeps here what makes the first contact with a proxy single.
    gates: dict[tuple[str, str, int], Any] = field(default_factory=dict, repr=False)

    def fingerprint(self, account: str, secret: str) -> bytes:
        return hashlib.blake2b(f"{account}\0{secret}".encode("utf-8", "surrogatepass"), key=self._key).digest()

    def refuse(self, proxy: ProxyURL, scheme: str, fingerprint: bytes) -> None:
        self._refused.add((proxy.place, _FAMILY.get(scheme, scheme), fingerprint))

    def was_refused(self, proxy: ProxyURL, scheme: str, fingerprint: bytes) -> bool:
        return (proxy.place, _FAMILY.get(scheme, scheme), fingerprint) in self._refused

    def worked(self, proxy: ProxyURL, account: str, scheme: str, state: object = None) -> None:
        """`state` is the scheme's own, for instance Digest's nonce and count."""
        self._worked[f"{proxy.place}\0{account}"] = scheme, state

    def what_worked(self, proxy: ProxyURL, account: str) -> tuple[str, Any] | None:
        return self._worked.get(f"{proxy.place}\0{account}")

    def warn_once(self, proxy: ProxyURL, about: str) -> bool:
        """Whether nobody was warned yet of this about this proxy."""
        known = (proxy.place, about) in self._warned
        self._warned.add((proxy.place, about))
        return not known

    def forget(self, proxy: ProxyURL, account: str) -> None:
        self._worked.pop(f"{proxy.place}\0{account}", None)


#: The same password under another name: a refusal of the one is a refusal of the other.
_FAMILY = {"negotiate-ntlm": "ntlm", "digest-sha-256": "digest", "digest-md5": "digest"}
