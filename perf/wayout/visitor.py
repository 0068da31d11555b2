"""A Trio program that goes out through a proxy with `open_tunnel`: `python -m perf.wayout.visitor`.

It reads an `Order` on standard input and says what it `Spent`; or a sentence on standard error, and ends with 1. All
that it has to load is loaded, and what is unmeasured is done, before its clocks run.
"""

import socket
import ssl
import sys
import time
from io import FileIO

import msgspec
import trio

from perf.wayout.way import DIRECT, HOST, Errand, Handshakes, Order, Spent, Transfer, Way
from proxy_adapters import Hop, Login, Memory, ProxyURL, Route, Secret, Tunnel, TunnelError, open_tunnel

READ_BYTES = 1 << 18  # into a buffer of our own
STREAM_BYTES = 112 << 10  # into bytes, which malloc does not have to ask the kernel for
WRONG = (TunnelError, trio.BrokenResourceError, OSError, ValueError)


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        spent = trio.run(_do, order.way, order.errand)
    except WRONG as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(spent))


async def _do(way: Way, errand: Errand) -> Spent:
    route = Route(() if way == DIRECT else (_hop(way),), "lab")
    match errand:
        case Handshakes():
            return await _shake_hands(route, errand)
        case Transfer():
            return await _transfer(route, way, errand)


def _hop(way: Way) -> Hop:
    password = Secret.literal(way.password) if way.password else None
    login = Login(user=way.user or None, password=password, service_principal=way.principal or None)
    return Hop(ProxyURL.parse(f"{way.scheme}://{way.place}"), login=login, tls=_context(way, "http/1.1"))


def _context(way: Way, *protocols: str) -> ssl.SSLContext | None:
    if not way.authority:
        return None
    context = ssl.create_default_context(cafile=way.authority)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


# Handshakes


async def _shake_hands(route: Route, errand: Handshakes) -> Spent:
    memory = Memory()
    request = b"GET /128 HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % f"{HOST}:{errand.port}".encode()

    async def visit() -> float:
        begun_at = time.perf_counter()
        tunnel = await open_tunnel(HOST, errand.port, route=route, memory=memory if errand.remembered else Memory())
        took = time.perf_counter() - begun_at
        async with tunnel:
            await tunnel.send_all(request)
            answer = b""
            while data := await tunnel.receive_some():
                answer += data
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"the service answered {answer[:40]!r}")
        return took

    for _ in range(errand.unmeasured):
        await visit()
    cpu_before = time.process_time()
    seconds = [await visit() for _ in range(errand.tunnels)]
    return Spent(seconds, time.process_time() - cpu_before)


# Transfers


async def _transfer(route: Route, way: Way, errand: Transfer) -> Spent:
    context = _context(way) if errand.tls else None
    tunnel = await open_tunnel(HOST, errand.port, route=route, tls=context or False, memory=Memory())
    cpu_before, begun_at = time.process_time(), time.perf_counter()
    if errand.detached:
        with tunnel.detach() as connection:
            await _exchange(errand, _Detached(connection))
    else:
        async with tunnel:
            await _exchange(errand, _Whole(tunnel))
    return Spent([time.perf_counter() - begun_at], time.process_time() - cpu_before)


class _Whole:
    """The tunnel used as the stream that it is."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.send = tunnel.send_all
        self._tunnel = tunnel

    async def receive(self) -> bytes:
        return await self._tunnel.receive_some(STREAM_BYTES)


class _Detached:
    """Its socket, driven as the engine does: try first, wait after, into one buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(READ_BYTES))

    async def receive(self) -> memoryview:
        while True:
            try:
                return self._buffer[: self._connection.recv_into(self._buffer)]
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._connection)

    async def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._connection.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._connection)


async def _exchange(errand: Transfer, stream: _Whole | _Detached) -> None:
    if errand.upload:
        # A file, and not bytes that are there already, because curl has to read one too.
        with open(errand.upload, "rb", buffering=0) as file:  # noqa: ASYNC230 - it lies in memory
            await _upload(errand, file, stream)
    else:
        await _download(errand, stream)


async def _upload(errand: Transfer, file: FileIO, stream: _Whole | _Detached) -> None:
    await stream.send(_head("POST", errand, f"Content-Length: {errand.size}"))
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    while count := file.readinto(buffer):
        await stream.send(view[:count])
    answer = bytes(await stream.receive())
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"the service answered {answer[:40]!r}")


async def _download(errand: Transfer, stream: _Whole | _Detached) -> None:
    await stream.send(_head("GET", errand, f"Range: bytes=0-{errand.size - 1}"))
    answer = b""
    while (end := answer.find(b"\r\n\r\n") + 4) < 4:
        data = bytes(await stream.receive())
        if not data:
            raise ValueError("closed before it answered")
        answer += data
    if not answer.startswith(b"HTTP/1.1 206"):
        raise ValueError(f"the service answered {answer[:40]!r}")
    left = errand.size - (len(answer) - end)
    while left:
        count = len(await stream.receive())
        if not count:
            raise ValueError(f"closed {left} bytes early")
        left -= count


def _head(method: str, errand: Transfer, *fields: str) -> bytes:
    lines = [f"{method} {errand.path} HTTP/1.1", f"Host: {HOST}:{errand.port}", *fields, *errand.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


if __name__ == "__main__":
    main()
