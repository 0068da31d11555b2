"""Serving an ASGI application on listening sockets: hypercorn's connections, our accepting and stopping.

hypercorn's own `serve` binds for itself, and does not stop while a client takes its time with an answer: it
shields what it sends. So connections are accepted here, counted, and broken when it is time; each is hypercorn's
`TCPServer` from then on.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.log import get_logger

if TYPE_CHECKING:
    import h11

MAX_CONNECTIONS: Final = 32  # within the descriptors that the node's other ports leave (loop.listen.RESERVED)
RESERVED: Final = 8  # of them for who has asked for something
STALL_SECONDS: Final = 30
HEAD_SECONDS: Final = 10  # half a request, or silence
PING_SECONDS: Final = 4.0  # on WebSockets, whose other end is silent but for its pongs
MAX_MESSAGE: Final = 4096  # of those, who have nothing to say

log = get_logger("admin")


async def serve_admin(
    sockets: Sequence[socket.socket],
    app: ASGIApp,
    *,
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on listening `sockets` (closed in the end) until cancelled, and then stop at once.

    `tls` gives what the next client has to speak; None: no TLS.
    """
    messages = logging.Logger("hypercorn", logging.WARNING)
    messages.addHandler(_IntoOurLog())
    config = Config()
    config.errorlog = messages
    config.include_server_header = False
    config.keep_alive_timeout = HEAD_SECONDS
    config.read_timeout = HEAD_SECONDS
    config.ssl_handshake_timeout = HEAD_SECONDS
    config.websocket_ping_interval = PING_SECONDS
    config.websocket_max_message_size = MAX_MESSAGE
    context = WorkerContext(None)
    silent: dict[trio.socket.SocketType, None] = {}  # nothing is under way on them; in order of arrival
    asking: dict[trio.socket.SocketType, None] = {}

    def make_room() -> None:
        """Whoever fills the port with silent connections, or asks and asks, keeps nobody out: the oldest goes. What is
        being answered goes only for others that are, and is left its share by the silent ones.
        """
        if len(silent) > MAX_CONNECTIONS - RESERVED or len(silent) + len(asking) > MAX_CONNECTIONS:
            those = silent if len(silent) > 1 else asking  # the last of the silent has just come
            oldest = next(iter(those))
            del those[oldest]
            with suppress(OSError):  # gone by itself
                oldest.shutdown(socket.SHUT_RDWR)

    async def serve_one(plain: trio.SocketStream) -> None:
        sock = plain.socket
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = plain
        if (spoken := tls()) is not None:
            stream = trio.SSLStream(plain, spoken, server_side=True, https_compatible=True)

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if sock in silent:
                del silent[sock]
                asking[sock] = None
            try:
                await app(scope, receive, send)
            finally:
                if sock in asking:
                    del asking[sock]
                    silent[sock] = None

        silent[sock] = None
        make_room()
        # A client that takes nothing of an answer would hold its connection for ever.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)
        wrapped = ASGIWrapper(cast("ASGIFramework", counted))  # the same thing, in two libraries' types
        try:
            # It takes either stream, whatever it is annotated with.
            either = cast("trio.SSLStream[trio.SocketStream]", stream)
            await Http1Connection(wrapped, config, context, ConnectionState({}), either)
        except Exception as error:  # a defect in one connection's handling ends that connection
            log.error("connection handler failed", exc_info=error)
        finally:
            silent.pop(sock, None)
            asking.pop(sock, None)
            await trio.aclose_forcefully(stream)

    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, serve_one, listeners))
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            for sock in (*silent, *asking):
                with suppress(OSError):  # gone by itself
                    sock.shutdown(socket.SHUT_RDWR)


class Http1Connection(TCPServer):
    """hypercorn's, but for HTTP/2, and for a client that has gone: it would be waited for until its keep-alive ends."""

    async def _read_data(self) -> None:
        self.protocol = _OnlyHTTP1(self.protocol)
        await super()._read_data()
        await self.idle_task.stop()


class _OnlyHTTP1(ProtocolWrapper):
    """hypercorn's, without its two ways from clear-text HTTP/1.1 to HTTP/2. Nobody needs them here; they are another
    parser that strangers reach, and the rules of ours would not hold in it.
    """

    def __init__(self, usual: ProtocolWrapper) -> None:
        vars(self).update(vars(usual))
        self.protocol: _HTTP1 = _HTTP1(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.state,
            self.ssl,
            self.client,
            self.server,
            self.send,
        )

    async def handle(self, event: Event) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError:
            await self.protocol.refuse(505)


class _HTTP1(H11Protocol):
    async def refuse(self, status: int) -> None:
        await self._send_error_response(status)
        await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        # An upgrade to h2c is not taken up (RFC 9110, 7.8), and another version not understood.
        if event.http_version not in (b"1.0", b"1.1"):
            raise H2ProtocolAssumedError(b"")


class _IntoOurLog(logging.Handler):
    """What hypercorn has to say."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warn"
        error = record.exc_info[1] if record.exc_info else None
        log.log(level, record.getMessage(), exc_info=error)
