"""Dialling out: TCP, through whatever proxies stand in the way, then TLS.

This is the one place of the engine that knows `proxy_adapters`. What comes back is a `Connection` that can be
driven like any other; TLS to a proxy stays underneath as one more layer of it.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from engine.errors import ConfigError, Unreachable
from engine.log import get_logger
from engine.loop import certificates
from engine.loop.backoff import Pause
from engine.loop.certificates import Certificates
from engine.loop.connection import Address, Connection, tune
from engine.loop.reading import start_tls
from engine.wire.tls import TLS
from proxy_adapters import Route, Router, Seen, Tunnel, TunnelError, open_tunnel

DIAL_SECONDS: Final = 90.0  # a proxy may need a minute to give up on a target (squid's connect_timeout)

BACKLOG_SECONDS: Final = 0.01  # until a Unix socket that had no room is tried again

log = get_logger("dial")

DIRECT: Final = "direct"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Way:
    """The way out that the last connection to a server has taken: the kinds of the proxies on it, in their order."""

    def __init__(self) -> None:
        self.taken = ""  # http,socks5h; or direct; empty before the first

    def take(self, route: Route | None) -> None:
        self.taken = ",".join(hop.url.scheme for hop in route.hops) if route is not None else ""
        self.taken = self.taken or DIRECT


@dataclass(frozen=True, slots=True)
class Server:
    """Where a node is, and how to get there. `tls` is for https and wss URLs; `pause` is what a proxy asked for, and
    `way` is written by whoever dials.
    """

    url: str
    tls: ssl.SSLContext | Certificates | None = None
    server_name: str | None = None
    router: Router | None = None  # the way out; None: what the environment says
    pause: Pause = field(default_factory=Pause, compare=False, repr=False)
    way: Way = field(default_factory=Way, compare=False, repr=False)

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme in ("https", "wss")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _DEFAULT_PORTS[parts.scheme]

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[urlsplit(self.url).scheme] else f"{host}:{self.port}"

    @property
    def path(self) -> str:
        return urlsplit(self.url).path.rstrip("/")


async def dial_tcp(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    first: Callable[[Address], bytes] | None = None,
) -> Connection:
    """A direct connection (the service beside us). OSError, ssl.SSLError; deadlines are the caller's.

    What `first` gives for the other end's address is said before everything else.
    """
    sock = await _connect_again(host, port)
    if sock is None:
        stream = await trio.open_tcp_stream(host, port)
        sock = socket.socket(fileno=stream.socket.detach())
        _recent[host, port] = sock.family, sock.getpeername(), trio.current_time()
    tune(sock)
    connection = Connection(sock)
    if first is not None:
        connection.put(first(connection.peer))
    if tls is not None:
        await _secure(connection, tls, server_name or host)
    return connection


async def dial_unix(path: str) -> Connection:
    """A connection to whoever listens on a Unix socket. OSError; deadlines are the caller's."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(path)
                return Connection(sock)
            except BlockingIOError:  # as many as it takes wait to be accepted, and the kernel tells nobody of room
                await trio.sleep(BACKLOG_SECONDS)
    except BaseException:
        sock.close()
        raise


# A name is resolved in a thread, which takes longer than the connection it is for; so the address that worked is
# tried again for a while. (host, port) -> family, address, when it was resolved
_recent: dict[tuple[str, int], tuple[int, Any, float]] = {}
RESOLVED_SECONDS: Final = 10.0


async def _connect_again(host: str, port: int) -> socket.socket | None:
    """A connection to the address that worked a moment ago; None if there was none, or it does not work now."""
    family, address, since = _recent.get((host, port), (0, None, 0.0))
    if address is None or trio.current_time() - since > RESOLVED_SECONDS:
        return None
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        try:
            sock.connect(address)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException as error:
        sock.close()
        _recent.pop((host, port), None)
        if not isinstance(error, OSError):
            raise
        return None
    return sock


async def dial_server(server: Server) -> Connection:
    """A connection to a node, TLS included. Raises Unreachable in words that say which hop said what, and
    ConfigError for a name or a proxy's URL (in the environment, for instance) that is none.

    While a proxy's pause lasts, nothing is dialled.
    """
    host, port, pause = server.host, server.port, server.pause
    if left := pause.left_seconds():
        raise Unreachable(f"{pause.reason} (it asked for a pause, {left:.0f} s of it left)", retry_after_seconds=left)
    try:
        with trio.fail_after(DIAL_SECONDS):
            tunnel = await _open_tunnel(server)
            connection = connection_over(tunnel)
            if server.secure:
                context = certificates.now(server.tls) or ssl.create_default_context()
                await _secure(connection, context, server.server_name or host)
            server.way.take(tunnel.route)
    except TunnelError as error:
        words, seconds = _way_words(error), error.retry_after_seconds
        if seconds:
            pause.ask(seconds, words)
        raise Unreachable(words, retry_after_seconds=seconds) from error
    except trio.TooSlowError:
        raise Unreachable(f"{host}:{port} did not answer within {DIAL_SECONDS:g} s") from None
    except ssl.SSLError as error:
        raise Unreachable(f"TLS with {host}:{port} failed: {_tls_words(error)}") from error
    except OSError as error:
        raise Unreachable(f"{host}:{port}: {error}") from error
    return connection


async def _open_tunnel(server: Server) -> Tunnel:
    try:
        scheme = urlsplit(server.url).scheme  # wss has variables of its own
        return await open_tunnel(server.host, server.port, route=server.router, scheme=scheme, watch=_log)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _log(seen: Seen) -> None:
    """What happened on the way out: which route was chosen and why, each hop, each attempt to log in."""
    if seen.outcome == "warning":
        log.warning(seen.text, hop=seen.hop)
    elif seen.outcome != "begun":
        milliseconds = round(seen.seconds * 1000)
        log.debug(f"{seen.leg} {seen.outcome}", hop=seen.hop, text=seen.text, milliseconds=milliseconds)


def connection_over(tunnel: Tunnel) -> Connection:
    """A tunnel's socket and its layers of TLS, to be driven by us; the tunnel is closed by that.

    OSError if it was reset before anything could be done with it.
    """
    layers = [TLS(layer.object, layer.incoming, layer.outgoing) for layer in tunnel.tls_layers]
    sock = tunnel.detach()
    try:
        tune(sock)
    except OSError:
        sock.close()
        raise
    return Connection(sock, tls=layers, leftover=tunnel.leftover)


def _way_words(error: TunnelError) -> str:
    """What stopped us on the way. Even a final refusal is asked about again, for passwords and rules change."""
    return str(error) if error.retryable else f"{error} (permanent: {error.who} can change it)"


async def _secure(connection: Connection, context: ssl.SSLContext, server_name: str) -> None:
    try:
        await start_tls(connection, context, server_hostname=server_name)
    except BaseException:
        connection.abort()
        raise


_WRONG_NAME: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"{error.verify_message} (set the name in it with --connect.tls.server-name)"
        return f"{error.verify_message} (set its CA with --connect.tls.root-cas; or TLS is inspected on the way)"
    if "WRONG_VERSION_NUMBER" in str(error):
        return "the other end does not speak TLS on this port (http:// instead of https://?)"
    return error.reason or str(error)
