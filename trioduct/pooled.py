"""httpx's transport: httpcore's pool, whose connections are dialled as a forward dials, proxies and TLS included."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx
import trio

from engine.config import ConnectConfig
from engine.errors import ConfigError, Unreachable
from engine.loop.dial import Server, dial_server
from engine.wire import piko
from trioduct.host import open_host
from trioduct.settings import server_of
from trioduct.stream import TunnelStream

SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]


class EndpointTransport(httpx.AsyncBaseTransport):
    """See httpx_transport."""

    def __init__(self, connect: ConnectConfig) -> None:
        self._server = server_of(connect)
        self._connect = connect
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=100, max_keepalive_connections=20, keepalive_expiry=5, network_backend=_Node(self._server)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        token, tenant = self._connect.read_token(), self._connect.tenant_id
        fields = [(name, value) for name, value in request.headers.raw if name.lower() != piko.ENDPOINT]
        fields.append((piko.ENDPOINT, request.url.raw_host))
        if token:  # Authorization is the service's
            fields.append((piko.AUTHORIZATION, b"Bearer " + token.encode()))
        if tenant:
            fields.append((piko.TENANT_ID, tenant.encode()))
        assert isinstance(request.stream, httpx.AsyncByteStream)
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=b"http",
                host=request.url.raw_host,
                port=request.url.port,
                target=self._server.path.encode() + request.url.raw_path,
            ),
            headers=fields,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_errors():
            answer = await self._pool.handle_async_request(asked)
        assert isinstance(answer.stream, AsyncIterable)
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        if (aclose := getattr(self._stream, "aclose", None)) is not None:
            await aclose()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """httpcore's errors have the same names."""
    try:
        yield
    except Exception as error:
        for kind in type(error).__mro__:
            if kind.__module__.startswith("httpcore") and isinstance(same := getattr(httpx, kind.__name__, None), type):
                raise same(str(error)) from error
        raise


class _Node(httpcore.AsyncNetworkBackend):
    """Every connection is one to the node."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        its_host = await open_host()
        try:
            with _within(timeout, httpcore.ConnectTimeout), its_host.entered():
                connection = await dial_server(self._server)
        except (Unreachable, ConfigError) as error:
            raise httpcore.ConnectError(str(error)) from error
        stream = TunnelStream(connection, its_host.reactor)
        its_host.start("httpx connection", connection.run)
        return _Stream(stream)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: TunnelStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        try:
            with _within(timeout, httpcore.ReadTimeout):
                return await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        try:
            with _within(timeout, httpcore.WriteTimeout):
                await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> object:
        return self._stream.readable if info == "is_readable" else None


@contextmanager
def _within(seconds: float | None, error: type[httpcore.TimeoutException]) -> Iterator[None]:
    try:
        with trio.fail_after(math.inf if seconds is None else seconds):
            yield
    except trio.TooSlowError:
        raise error(f"not done within {seconds:g} s") from None
