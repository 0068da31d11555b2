"""Rubbish on each port of a node: the right status or a close, one line in the log, nobody else disturbed."""

from __future__ import annotations

import random
import ssl

import pytest
import trio

from tests.conftest import Web
from tests.programs import Node, Programs, needs

pytestmark = needs("nginx")

PORTS = ("proxy", "upstream", "admin")


def client_hello() -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="node.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


# A host that every port takes: it names the endpoint `web`, and the admin port is told that it is its own.
LINES = b"GET / HTTP/1.1\r\nHost: web.localhost\r\n"

RUBBISH = {
    "random bytes": random.Random(3).randbytes(4096),
    "TLS": client_hello(),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "64 KiB of header": LINES + b"X-Long: " + b"x" * 65536 + b"\r\n\r\n",
    "a field line without a colon": LINES + b"rubbish\r\n\r\n",
    "two lengths": LINES + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "half a head, and silence": LINES[:-5],
}
# Bad request, the head took too long, the target or the fields are too large, not this version of HTTP.
RIGHT = {400, 408, 414, 431, 505}
# The longest that any port lets a client think about its head.
HEAD_SECONDS = 40


async def test_rubbish_is_answered_or_hung_up_on_and_harms_nobody(programs: Programs, nginx: Web) -> None:
    node = Node(programs, options=("--proxy.access-log.disable", "--proxy.http.read-header-timeout=1s"))
    server = await node.start()
    await node.start_agent("web", nginx.port)
    await server.wait_line("upstream connected")
    lines = len(server.lines)
    answers: dict[tuple[str, str], bytes] = {}

    async def send(port: str, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", getattr(node, port))
        async with stream:
            await stream.send_all(RUBBISH[name])
            task_status.started()
            answers[port, name] = await read_to_end(stream)

    async def disturb(port: str) -> None:
        beside = await trio.open_tcp_stream("127.0.0.1", getattr(node, port))
        async with beside, trio.open_nursery() as nursery:
            for name in RUBBISH:
                await nursery.start(send, port, name)
            # Whoever connected before all that is served after it.
            await beside.send_all(LINES + b"Connection: close\r\n\r\n")
            assert status_of(await read_to_end(beside)) in {200, 307, 400, 404}

    with trio.fail_after(HEAD_SECONDS):
        async with trio.open_nursery() as nursery:
            for port in PORTS:
                nursery.start_soon(disturb, port)

    assert {sent: answer for sent, answer in answers.items() if not is_right(answer)} == {}
    assert await node.endpoints() == {"web": 1}
    # One more, of which the line is known, so that all lines of those before it are there.
    last = await trio.open_tcp_stream("127.0.0.1", node.proxy)
    async with last:
        await last.send_all(LINES + b"The-End: \x00\r\n\r\n")
        with trio.fail_after(5):
            await server.wait_line("The-End")
    said = server.lines[lines:-1]
    # Of the proxy port, and of the upstream port, where the one beside is refused as well. The admin port is
    # hypercorn's, which does not say who talks rubbish to it.
    assert len(said) == 2 * len(RUBBISH) + 1, said
    assert "Traceback" not in server.text


def is_right(answer: bytes) -> bool:
    """Nothing at all, or a status that says what is wrong, or (hypercorn's) HTTP/2 to who began it."""
    return not answer or answer[3:9] == b"\x04\0\0\0\0\0" or status_of(answer) in RIGHT


def status_of(answer: bytes) -> int:
    assert answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), answer
    return int(answer.split()[1])


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """What comes until the other end closes; a reset is an end, too, if what was sent had not been read."""
    answer = b""
    try:
        async for chunk in stream:
            answer += chunk
    except trio.BrokenResourceError:
        pass
    return answer
