"""An ASGI application as an endpoint: hypercorn's connections on the streams of a listener, without a local port."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from engine.admin.serve import Http1Connection
from engine.log import get_logger
from trioduct.listener import EndpointListener, listen
from trioduct.settings import NONE
from trioduct.stream import TunnelStream

if TYPE_CHECKING:
    from starlette.types import ASGIApp

IDLE_SECONDS: Final = 3600.0  # a stream waits for the next request; the node ends it sooner

log = get_logger("asgi")


async def serve(
    app: ASGIApp,
    endpoint: str,
    *,
    url: str = "",
    token: str = "",
    settings: Mapping[str, str] = NONE,
    task_status: trio.TaskStatus[EndpointListener] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` as `endpoint` until cancelled; started once it is registered. The arguments are `listen`'s.

    The application starts up first and shuts down last, if it knows the lifespan protocol. In a scope `client` and
    `server` are None: whom the node has heard is in the fields X-Forwarded-….

    Raises what `listen` raises, and RuntimeError if the application fails to start up or to shut down.
    """
    config = Config()
    config.errorlog = logging.getLogger("trioduct.asgi")
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_SECONDS
    wrapped = ASGIWrapper(cast("ASGIFramework", app))  # the same thing, in two libraries' types
    state: LifespanState = {}
    lifespan = Lifespan(wrapped, config, state)
    try:
        async with trio.open_nursery() as nursery:
            life = trio.CancelScope(shield=True)  # it ends behind all else

            async def live(task_status: trio.TaskStatus[None]) -> None:
                with life:
                    await lifespan.handle_lifespan(task_status=task_status)

            await nursery.start(live)
            try:
                if not lifespan.shutdown.is_set():  # it has returned, and knows no lifespan
                    await lifespan.wait_for_startup()
                try:
                    async with listen(endpoint, url=url, token=token, settings=settings) as listener:
                        task_status.started(listener)
                        await _serve_streams(listener, wrapped, config, state)
                finally:
                    if not lifespan.shutdown.is_set():
                        with trio.CancelScope(shield=True):  # hypercorn's shutdown_timeout is its deadline
                            await lifespan.wait_for_shutdown()
            finally:
                life.cancel()
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, LifespanFailureError):
            raise RuntimeError(f"the application for {endpoint} failed: {error}") from error
        if isinstance(error, LifespanTimeoutError):
            seconds = config.startup_timeout  # and shutdown_timeout, which is the same
            raise RuntimeError(f"the application for {endpoint} did not answer within {seconds:g} s") from error
        if isinstance(error, Exception) and not isinstance(error, BaseExceptionGroup):
            raise error from None
        raise


async def _serve_streams(listener: EndpointListener, app: ASGIWrapper, config: Config, state: LifespanState) -> None:
    context = WorkerContext(None)
    open_streams: set[TunnelStream] = set()

    async def serve_one(stream: TunnelStream) -> None:
        open_streams.add(stream)
        try:
            facade = cast("trio.SSLStream[trio.SocketStream]", _WithoutAddress(stream))
            await Http1Connection(app, config, context, ConnectionState(state.copy()), facade)
        except Exception as error:  # a defect in one connection's handling ends that connection
            log.error("connection handler failed", exc_info=error)
            stream.abort()
        finally:
            open_streams.discard(stream)
            stream.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve_one, [listener])
        try:
            await trio.sleep_forever()
        finally:
            for stream in tuple(open_streams):  # hypercorn shields what it sends
                stream.abort()


class _NoAddress:
    """What hypercorn asks a socket for."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> None: ...

    def getsockname(self) -> None: ...


class _WithoutAddress:
    """A stream as hypercorn takes one."""

    socket = _NoAddress()

    def __init__(self, stream: TunnelStream) -> None:
        self.send_all = stream.send_all
        self.send_eof = stream.send_eof
        self.receive_some = stream.receive_some
        self.aclose = stream.aclose
