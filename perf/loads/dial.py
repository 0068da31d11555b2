"""Connections to a target: straight or through forward proxies, plain or TLS, as sockets without any stream
on top.

TLS is Python's `ssl` on the socket: the load is a client like others. Where an https proxy stands in the way, all TLS
is in layers over the socket instead (`perf.loads.layered`). No certificate is verified, because what is measured is
often a test service with a name of its own; nothing secret is ever sent.
"""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

import trio

from perf.errors import LoadFailed
from perf.loads.layered import LayeredSocket
from perf.loads.target import Target
from proxy_adapters import Deadlines, Route, TunnelError, open_tunnel

Took = Callable[[str, float], None]

OPEN_SECONDS = 10.0
# What a non-blocking socket raises when it has to wait, with and without TLS.
NOT_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


async def open_non_blocking(target: Target, took: Took = lambda leg, seconds: None) -> socket.socket:
    """A non-blocking socket to the target; `took` hears of each leg how many seconds it took. Raises
    LoadFailed.
    """
    try:
        with trio.fail_after(OPEN_SECONDS):
            connection = await _open_way(target, took)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.tls and not isinstance(connection, LayeredSocket):
                return await _start_tls(connection, target.host, took)
            return connection
    except trio.TooSlowError as error:
        raise LoadFailed(f"cannot connect to {target.url} within {OPEN_SECONDS:g} s") from error
    except (OSError, TunnelError, ValueError) as error:
        raise LoadFailed(f"cannot connect to {target.url}: {error}") from error


def open_blocking(target: Target, timeout_seconds: float) -> socket.socket:
    """A blocking socket to the target. Raises LoadFailed.

    A wait of more than the timeout is an error (EAGAIN), by the kernel's own clock: Python's timeouts would
    cost a poll per call.
    """
    connection = trio.run(open_non_blocking, target)
    connection.settimeout(None)
    seconds, fraction = divmod(timeout_seconds, 1)
    timeval = int(seconds).to_bytes(8, "little") + int(fraction * 1e6).to_bytes(8, "little")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
    return connection


async def _open_way(target: Target, took: Took) -> socket.socket:
    connected_at = 0.0

    async def dial(host: str, port: int) -> trio.SocketStream:
        nonlocal connected_at
        begun_at = time.monotonic()
        stream = await trio.open_tcp_stream(host, port)
        connected_at = time.monotonic()
        took("tcp", connected_at - begun_at)
        return stream

    if not target.via:
        stream = await dial(target.host, target.port)
        return socket.socket(fileno=stream.socket.detach())
    route = Route.parse(" -> ".join(target.via))
    route = replace(route, hops=tuple(replace(hop, tls=_context()) for hop in route.hops))
    layered = any(hop.url.tls for hop in route.hops)
    deadlines = Deadlines(proxy_request=OPEN_SECONDS, proxy_auth=OPEN_SECONDS)
    tunnel = await open_tunnel(
        target.host,
        target.port,
        route=route,
        deadlines=deadlines,
        dial=dial,
        tls=_context() if layered and target.tls else False,
    )
    took("proxy", time.monotonic() - connected_at)
    if layered:
        return LayeredSocket(tunnel)
    if tunnel.leftover:
        await tunnel.aclose()
        raise LoadFailed(f"{route} said something before it was asked")
    return tunnel.detach()


async def _start_tls(connection: socket.socket, host: str, took: Took) -> socket.socket:
    begun_at = time.monotonic()
    secured = _context().wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(secured)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(secured)
        else:
            took("tls", time.monotonic() - begun_at)
            return secured


@cache
def _context() -> ssl.SSLContext:
    """To believe anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
