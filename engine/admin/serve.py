"""Serving an ASGI application on listening sockets: hypercorn's connections, our accepting and stopping.

hypercorn's own `serve` binds for itself, and does not stop while a client takes its time with an answer: it
shields what it sends. So connections are accepted here, counted, and broken when it is time; each is hypercorn's
`TCPServer` from then on.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.types import ASGIApp

from engine.log import get_logger

MAX_CONNECTIONS: Final = 32  # within the descriptors that the node's other ports leave (loop.listen.RESERVED)
STALL_SECONDS: Final = 30
HEAD_SECONDS: Final = 10  # half a request, or silence

log = get_logger("admin")


async def serve_admin(
    sockets: Sequence[socket.socket],
    app: ASGIApp,
    *,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on listening `sockets` (closed in the end) until cancelled, and then stop at once."""
    messages = logging.Logger("hypercorn", logging.WARNING)
    messages.addHandler(_IntoOurLog())
    config = Config()
    config.errorlog = messages
    config.include_server_header = False
    config.keep_alive_timeout = HEAD_SECONDS
    config.read_timeout = HEAD_SECONDS
    context = WorkerContext(None)
    wrapped = ASGIWrapper(cast("ASGIFramework", app))  # the same thing, in two libraries' types
    open_sockets: dict[trio.socket.SocketType, None] = {}  # in order of arrival

    async def serve_one(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        sock = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket
        if len(open_sockets) >= MAX_CONNECTIONS:
            # Whoever fills the port with silent connections keeps nobody out: the oldest goes.
            oldest = next(iter(open_sockets))
            del open_sockets[oldest]
            with suppress(OSError):  # gone by itself
                oldest.shutdown(socket.SHUT_RDWR)
        # A client that takes nothing of an answer would hold its connection for ever.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)
        open_sockets[sock] = None
        try:
            # It takes either stream, whatever it is annotated with.
            either = cast("trio.SSLStream[trio.SocketStream]", stream)
            await _Connection(wrapped, config, context, ConnectionState({}), either)
        except Exception as error:  # a defect in one connection's handling ends that connection
            log.error("connection handler failed", exc_info=error)
        finally:
            open_sockets.pop(sock, None)
            await trio.aclose_forcefully(stream)

    listeners: list[trio.SocketListener | trio.SSLListener[trio.SocketStream]] = []
    for one in sockets:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(one))
        listeners.append(listener if tls is None else trio.SSLListener(listener, tls, https_compatible=True))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, serve_one, listeners))
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            for sock in open_sockets:
                with suppress(OSError):  # gone by itself
                    sock.shutdown(socket.SHUT_RDWR)


class _Connection(TCPServer):
    """hypercorn's, but for a client that has gone: it would be waited for until its keep-alive ends."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


class _IntoOurLog(logging.Handler):
    """What hypercorn has to say."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warn"
        error = record.exc_info[1] if record.exc_info else None
        log.log(level, record.getMessage(), exc_info=error)
