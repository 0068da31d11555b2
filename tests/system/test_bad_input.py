"""Rubbish on each port of a node: the right status or a close, one line in the log, nobody else disturbed."""

from __future__ import annotations

import random
import ssl

import pytest
import trio

from tests.conftest import Web
from tests.programs import Node, Programs, get

PORTS = ["proxy", "upstream", "admin"]


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


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("rubbish", RUBBISH)
async def test_rubbish_is_answered_or_hung_up_on_and_harms_nobody(
    rubbish: str, port: str, programs: Programs, nginx: Web
) -> None:
    node = Node(programs, options=("--proxy.access-log.disable", "--proxy.http.read-header-timeout=1s"))
    server = await node.start()
    await node.start_agent("web", nginx.port)
    await server.wait_line("upstream connected")
    number = getattr(node, port)
    lines = len(server.lines)

    beside = await trio.open_tcp_stream("127.0.0.1", number)
    stream = await trio.open_tcp_stream("127.0.0.1", number)
    async with beside, stream:
        await stream.send_all(RUBBISH[rubbish])
        with trio.fail_after(15):
            answer = await read_to_end(stream)
        assert not answer or status_of(answer) in RIGHT, answer
        # Whoever connected before is served after.
        await beside.send_all(
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nx-piko-endpoint: web\r\nConnection: close\r\n\r\n"
        )
        with trio.fail_after(5):
            assert status_of(await read_to_end(beside)) in {200, 404}

    assert (await get(node.admin, "/health"))[0] == 200
    assert await node.endpoints() == {"web": 1}
    if port != "admin":  # hypercorn's, which does not say who talks rubbish to it
        with trio.fail_after(5):
            await server.wait_lines(lines + 1)
    # Whatever else it has to say about this comes before what it says when it goes.
    await server.stop()
    said = [line for line in server.lines[lines:] if '"subsystem":"main"' not in line]
    assert len(said) == (port != "admin"), said
    assert "Traceback" not in server.text


def status_of(answer: bytes) -> int:
    version, status, *_ = answer.split(None, 2)
    assert version in {b"HTTP/1.1", b"HTTP/1.0"}, answer
    return int(status)


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """What comes until the other end closes; a reset is an end, too, if what was sent had not been read."""
    answer = b""
    try:
        async for chunk in stream:
            answer += chunk
    except trio.BrokenResourceError:
        pass
    return answer
