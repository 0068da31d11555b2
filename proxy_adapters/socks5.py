"""SOCKS5 (RFC 1928) with user and password (RFC 1929) or GSSAPI (RFC 1961).

Three rounds: which methods we have and which one it takes; the authentication of that method; the request.
Every message is one Say and nothing is sent before the last answer: microsocks loses what is pipelined
behind a greeting. A success is not proof (pproxy says so before it connects), so an end of the stream right
behind it means that the destination was not reached: whoever drives the next leg says that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import partial

from proxy_adapters.auth.login import USER_AND_PASSWORD, Asked, CannotStart, Login, Memory
from proxy_adapters.errors import (
    NOBODY,
    PROXY_ADMIN,
    TARGET_ADMIN,
    YOU,
    AuthenticationFailed,
    HopUnreachable,
    NotAProxy,
    TunnelRefused,
)
from proxy_adapters.gssapi import INTEGRITY, KERBEROS, MUTUAL, SEQUENCE, GSSError, Initiator
from proxy_adapters.handshake import Hear, Leg, Say, Script, Work, exactly
from proxy_adapters.url import ProxyURL, normal_host

NO_AUTHENTICATION, GSSAPI, USER_PASSWORD, NOTHING_ACCEPTABLE = 0x00, 0x01, 0x02, 0xFF

_REFUSALS: dict[int, tuple[str, str, bool, str]] = {  # code: fact, who, retryable, advice (RFC 1928, 6)
    1: ("general failure of the SOCKS server", PROXY_ADMIN, True, "often: it could not resolve the name"),
    2: ("its rules do not allow this destination", PROXY_ADMIN, False, "ask for host and port to be allowed"),
    3: ("network unreachable from the proxy", PROXY_ADMIN, True, ""),
    4: (
        "host unreachable from the proxy",
        TARGET_ADMIN,
        True,
        "or the proxy cannot resolve the name: try socks5://",
    ),
    5: ("the destination refused the connection", TARGET_ADMIN, True, "is the port right?"),
    6: ("TTL expired on the way from the proxy", NOBODY, True, ""),
    7: ("it does not support CONNECT", PROXY_ADMIN, False, ""),
    8: ("it does not support this kind of address", YOU, False, "try socks5h:// (names) or an IPv4 address"),
}


def socks5(
    host: str,
    port: int,
    *,
    user: str | None = None,
    password: str = "",
    gssapi: Callable[[], Script[None]] | None = None,
    anonymous: bool = True,
) -> Script[None]:
    """Ask a SOCKS5 proxy for `host:port`; a name is resolved by the proxy, so resolve before to avoid that.

    `gssapi` makes the script of method 1 (`socks5_gssapi`); `anonymous` False forbids method 0.
    """
    yield Leg("proxy-request", greeting=True)
    if user is not None and not (1 <= len(user.encode()) <= 255 and len(password.encode()) <= 255):
        raise TunnelRefused("SOCKS5 carries a user of 1 to 255 bytes and a password of at most 255", who=YOU)
    # The strongest first: the server takes the first of its own liking, but some simply take our first.
    offered = (
        ([GSSAPI] if gssapi else [])
        + ([USER_PASSWORD] if user is not None else [])
        + ([NO_AUTHENTICATION] if anonymous else [])
    )
    yield Say(bytes([5, len(offered), *offered]))
    _, method = yield Hear(_version_first)
    if method == NOTHING_ACCEPTABLE:
        raise AuthenticationFailed(
            "it accepts none of the methods offered " + repr([_METHODS[code] for code in offered]),
            advice="give a user and a password" if user is None else "ask which SOCKS5 methods it takes",
            status=method,
        )
    if method not in offered:
        # pproxy takes method 0 even where only GSSAPI was offered: going on would be a silent downgrade.
        raise NotAProxy(f"it chose the method {method:#04x}, which was not offered")
    if method == GSSAPI and gssapi:
        yield Leg("proxy-auth", "gssapi")
        yield from gssapi()
    elif method == USER_PASSWORD and user is not None:
        yield Leg("proxy-auth", USER_AND_PASSWORD)
        yield from _user_password(user, password)
    yield Leg("proxy-request")
    yield from _request(host, port)


def socks5_with(login: Login, proxy: ProxyURL, memory: Memory, host: str, port: int) -> Script[None]:
    """`socks5` with a login whose secrets are read now, and where a refused password is not sent again."""
    if login.mutual and not login.socks_gssapi:
        raise AuthenticationFailed("SOCKS5 has mutual authentication by GSSAPI only, and it is required (mutual)")
    asked = Asked(login, proxy, "", memory, "socks5")
    # A password shows itself to whoever asks, and is no proof of who that is.
    user, password = None if login.mutual or login.withheld else login.user, ""
    if user is not None and login.password is not None:
        try:
            password = yield from asked.password()
        except CannotStart as error:
            raise AuthenticationFailed(str(error), attempts=(f"user/password: {error}",)) from error
    service = login.service_principal or f"rcmd@{proxy.host}"
    try:
        yield from socks5(
            host,
            port,
            user=user,
            password=password,
            gssapi=partial(socks5_gssapi, service) if login.socks_gssapi and not login.withheld else None,
            anonymous=not login.mutual,
        )
    except AuthenticationFailed as error:
        if error.status == NOTHING_ACCEPTABLE and login.withheld:
            error.advice = f"it is not told who we are, for {login.withheld}"
        # 0xff means that the password was not even asked for.
        if asked.fingerprint and error.status != NOTHING_ACCEPTABLE:
            memory.refuse(proxy, "socks5", asked.fingerprint)
        raise


def socks5_gssapi(service: str) -> Script[None]:
    """RFC 1961: tokens both ways until the context stands, then the level of protection, for which we say
    none.
    """
    try:
        context = yield Work(partial(Initiator, service, mechanism=KERBEROS, flags=MUTUAL | SEQUENCE | INTEGRITY))
        token = yield Work(partial(context.step, b""))
        while token or not context.complete:
            yield Say(b"\x01\x01" + len(token).to_bytes(2, "big") + token, shown="GSSAPI token")
            if context.complete:
                break
            token = yield Work(partial(context.step, (yield from _gssapi_message(1))))
        wanted = yield Work(partial(context.wrap, b"\x00", confidential=False))
        yield Say(b"\x01\x02" + len(wanted).to_bytes(2, "big") + wanted, shown="GSSAPI protection level")
        level = yield Work(partial(context.unwrap, (yield from _gssapi_message(2))))
    except (GSSError, TimeoutError) as error:
        raise AuthenticationFailed(f"GSSAPI: {error}", attempts=(f"GSSAPI: {error}",)) from error
    if level != b"\x00":
        raise AuthenticationFailed(
            f"it requires GSSAPI protection level {level.hex()}", advice="only level 0 (none) is supported"
        )


def _gssapi_message(kind: int) -> Script[bytes]:
    version, heard = yield Hear(exactly(2))
    if (version, heard) == (1, 255):
        raise AuthenticationFailed("it refused our GSSAPI token", attempts=("GSSAPI: refused",))
    if (version, heard) != (1, kind):
        raise NotAProxy(f"expected GSSAPI message 1/{kind}, got {version}/{heard}")
    length = int.from_bytes((yield Hear(exactly(2))), "big")
    return (yield Hear(exactly(length))) if length else b""


_METHODS = {NO_AUTHENTICATION: "none", GSSAPI: "GSSAPI", USER_PASSWORD: "user/password"}


def _version_first(heard: bytearray) -> int:
    """Two bytes, but a wrong first one is known at once: what is no SOCKS5 server may never send a second."""
    if heard and heard[0] != 5:
        if heard.startswith((b"HTTP", b"<")):
            raise NotAProxy("an HTTP server answered", advice="use http:// in the proxy URL")
        if heard[0] in (0x15, 0x16):
            raise NotAProxy("it speaks TLS", advice="use socks5h+tls:// in the proxy URL")
        if heard[0] in (0, 4):
            raise NotAProxy("it speaks SOCKS4", advice="use socks4a:// in the proxy URL")
        raise NotAProxy(f"expected SOCKS version 5, got {heard[0]}")
    return 2 if len(heard) >= 2 else 0


def _user_password(user: str, password: str) -> Script[None]:
    """RFC 1929. A refusal closes the connection, so there is no second try on it."""

    def counted(text: str) -> bytes:
        return bytes([len(text.encode())]) + text.encode()

    yield Say(
        b"\x01" + counted(user) + counted(password),
        shown=f"user {user!r} with a password",
        scheme=USER_AND_PASSWORD,
    )
    _, status = yield Hear(exactly(2))
    if status != 0:
        raise AuthenticationFailed(
            f"user {user!r} or the password was refused (status {status})",
            attempts=("SOCKS5 user/password: refused",),
            status=status,
        )


def _request(host: str, port: int) -> Script[None]:
    name = normal_host(host)
    try:
        address = ipaddress.ip_address(name)
        kind = (b"\x01" if address.version == 4 else b"\x04") + address.packed
    except ValueError:
        raw = name.encode("ascii")
        kind = b"\x03" + bytes([len(raw)]) + raw
    yield Say(b"\x05\x01\x00" + kind + port.to_bytes(2, "big"))
    try:
        version, code, _, atyp = yield Hear(exactly(4))
    except HopUnreachable as error:
        raise TunnelRefused(
            "it closed the connection without an answer",
            advice="`ssh -D` and pproxy do that when the destination cannot be reached",
            retryable=True,
            tries_next=True,
            who=TARGET_ADMIN,
        ) from error
    if version != 5:
        raise NotAProxy(f"expected SOCKS version 5 in the answer, got {version}")
    if code != 0:
        fact, who, retryable, advice = _REFUSALS.get(code, (f"unknown SOCKS5 code {code:#04x}", PROXY_ADMIN, False, ""))
        raise TunnelRefused(fact, who=who, retryable=retryable, advice=advice, status=code)
    # The address it is bound to: of no use to us, but its bytes are not the tunnel's.
    if atyp == 3:
        (length,) = yield Hear(exactly(1))
    elif atyp in (1, 4):
        length = 4 if atyp == 1 else 16
    else:
        raise NotAProxy(f"unknown address type {atyp:#04x} in the SOCKS5 answer")
    yield Hear(exactly(length + 2))
