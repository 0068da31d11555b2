"""The services of our own and what leads to them, as their clients see them."""

import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from perf.loads.dial import open_non_blocking
from perf.loads.target import Target
from perf.loads.websocket import frame
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, free_port, open_ground


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with open_ground() as opened:
        yield opened


async def start(ground: Ground, module: str, *options: str) -> int:
    port = free_port()
    argv = [sys.executable, "-m", f"perf.topologies.{module}", "--port", str(port), *options]
    await (await ground.start(module, argv)).answers_at(port)
    return port


async def ask(port: int, request: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return b"".join([data async for data in stream])


async def test_our_service_gives_small_and_large_answers_and_closes_when_asked(ground: Ground) -> None:
    port = await start(ground, "services.own")
    target = Target("127.0.0.1", port)
    close = ("Connection", "close")
    small = await ask(port, target.request("GET", "/128", close))
    assert small.startswith(b"HTTP/1.1 200 ")
    assert len(small.partition(b"\r\n\r\n")[2]) == 128
    large = await ask(port, target.request("GET", "/15mb", close))
    assert len(large.partition(b"\r\n\r\n")[2]) == 15_000_000


async def test_our_service_answers_pipelined_requests_and_swallows_bodies_in_between(ground: Ground) -> None:
    port = await start(ground, "services.own")
    target = Target("127.0.0.1", port)
    body = bytes(3_000_000)
    requests = [target.request(), target.request("POST", "/", ("Content-Length", str(len(body)))) + body]
    answers = await ask(port, b"".join([*requests, target.request("GET", "/", ("Connection", "close"))]))
    assert answers.count(b"HTTP/1.1 200 OK") == 3


async def test_our_service_asks_for_a_length(ground: Ground) -> None:
    port = await start(ground, "services.own")
    chunked = Target("127.0.0.1", port).request("POST", "/", ("Transfer-Encoding", "chunked"))
    assert (await ask(port, chunked)).startswith(b"HTTP/1.1 411 ")


async def test_our_service_echoes_to_a_foreign_websocket_client(ground: Ground) -> None:
    port = await start(ground, "services.own")
    async with open_websocket_url(f"ws://127.0.0.1:{port}/") as websocket:
        for message in (b"", b"x", bytes(125), bytes(126), bytes(range(256)) * 300):
            await websocket.send_message(message)
            assert await websocket.get_message() == message
        await websocket.send_message("text")
        assert await websocket.get_message() == "text"
        await websocket.ping(b"ping")


def test_frames_are_those_of_rfc_6455() -> None:
    # RFC 6455, 5.7: a masked "Hello" as a text message; here it is binary.
    assert frame(b"Hello", mask=bytes.fromhex("37fa213d")) == bytes.fromhex("828537fa213d7f9f4d5158")
    assert frame(bytes(256))[:4] == bytes.fromhex("827e0100")
    assert frame(bytes(65536))[:10] == bytes.fromhex("827f0000000000010000")


async def test_the_raw_service_echoes_swallows_and_sends(ground: Ground) -> None:
    port = await start(ground, "services.raw")
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"Ehello")
        assert await stream.receive_some(5) == b"hello"
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"D" + (5).to_bytes(8) + b"12345" + (1).to_bytes(8) + b"6")
        assert await stream.receive_some(1) == b"."
        assert await stream.receive_some(1) == b"."
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"S")
        received = 0
        while received < 1 << 20:
            received += len(await stream.receive_some())


async def test_the_delay_keeps_bytes_their_order_and_half_closes(ground: Ground) -> None:
    echo = await start(ground, "services.raw")
    port = await start(ground, "delay", "--to", str(echo), "--round-trip-seconds", "0.02")
    sent = bytes(range(256)) * 8000
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        begun_at = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await stream.send_all(b"E" + sent)
                await stream.send_eof()

            nursery.start_soon(send)
            assert b"".join([data async for data in stream]) == sent
        assert trio.current_time() - begun_at >= 0.015


async def test_a_load_reaches_a_tls_target(ground: Ground, tmp_path: Path) -> None:
    certificates = write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain, certificates.key)
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
            await stream.send_all(await stream.receive_some())

        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        legs: list[str] = []
        connection = await open_non_blocking(Target("127.0.0.1", port, tls=True), lambda leg, _: legs.append(leg))
        with connection:
            connection.send(b"hello")
            await trio.lowlevel.wait_readable(connection)
            assert connection.recv(5) == b"hello"
        assert legs == ["tcp", "tls"]
        nursery.cancel_scope.cancel()


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


async def test_our_service_survives_visitors_who_leave_before_a_late_answer(ground: Ground) -> None:
    port = await start(ground, "services.own", "--slow", "20ms@100%")
    for _ in range(3):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /128 HTTP/1.1\r\nHost: x\r\n\r\n")
        # Answers leave in the order of their requests: when this one comes, that of the one who left was due.
        assert (await ask(port, b"GET /128 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).endswith(b"x" * 128)
