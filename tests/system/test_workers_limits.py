"""Limits of a node hold for all its workers together."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.programs import Programs, get
from tests.system.test_workers import KEY, ask, metric, node_of, start, workers_of

patient = pytest.mark.skipif("TRIODUCT_FULL" not in os.environ, reason="takes a minute; TRIODUCT_FULL=1")
pytestmark = [pytest.mark.timeout(180), pytest.mark.parametrize("workers", [2, pytest.param(4, marks=patient)])]

TELLING_SECONDS = 0.03  # of what one worker has let in, to the others
LIMIT = 20


@asynccontextmanager
async def clients(port: int, number: int) -> AsyncIterator[list[trio.SocketStream]]:
    """So many connections of one address, one after the other; those that are let in."""
    opened, let_in = [], []
    try:
        for _ in range(number):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            opened.append(stream)
            head = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\nGET / HTTP/1.1\r\nHost: a.b\r\n\r\n"
            try:
                await stream.send_all(head)
                if await stream.receive_some():
                    let_in.append(stream)
            except trio.BrokenResourceError:
                pass
            await trio.sleep(TELLING_SECONDS)
        yield let_in
    finally:
        for stream in opened:
            await stream.aclose()


async def test_the_connections_of_one_address(workers: int, programs: Programs) -> None:
    node = node_of(
        programs,
        "--proxy.trusted-proxies=127.0.0.0/8",
        "--proxy.proxy-protocol",
        f"--proxy.limits.connections={LIMIT}",
        "--proxy.limits.connection-rate=0",
        workers=workers,
    )
    server = await start(node, workers)
    async with clients(node.proxy, 3 * LIMIT) as let_in:
        assert LIMIT <= len(let_in) <= LIMIT + workers  # on a busy machine telling may take longer
        assert await metric(node, 'trioduct_limited_total{limit="connections",port="proxy"}') == 3 * LIMIT - len(let_in)
        # What a worker held that is no more is given back.
        os.kill(workers_of(server)[0], signal.SIGKILL)
        while '"degraded"' not in (await get(node.admin, "/ready"))[1]:  # noqa: ASYNC110
            await trio.sleep(0.02)
        while '"degraded"' in (await get(node.admin, "/ready"))[1]:  # noqa: ASYNC110
            await trio.sleep(0.02)
        left = []
        for stream in let_in:
            with trio.move_on_after(0.05) as waiting:
                try:
                    await stream.receive_some()
                except trio.BrokenResourceError:
                    pass
            left += [stream] if waiting.cancelled_caught else []
        assert len(left) < len(let_in)
        async with clients(node.proxy, 2 * LIMIT) as more:
            assert LIMIT <= len(left) + len(more) <= LIMIT + workers


async def test_the_requests_to_an_endpoint(workers: int, programs: Programs, origin: int) -> None:
    rate = 4
    node = node_of(programs, f"--proxy.limits.requests={rate}", workers=workers)
    await start(node, workers)
    await node.start_agent("web", origin)
    await node.wait_registered("web", workers)
    since = trio.current_time()
    statuses = [await ask(node.proxy) for _ in range(300)]
    took = trio.current_time() - since
    assert set(statuses) == {200, 429}
    burst = 10 * rate
    assert burst <= statuses.count(200) <= burst * 17 / 16 + rate * took + workers


async def test_the_sessions_of_one_principal(workers: int, programs: Programs, origin: int) -> None:
    import jwt

    options = (f"--upstream.auth.hmac-secret-key={KEY}", f"--upstream.limits.sessions={LIMIT}")
    node = node_of(programs, "--upstream.sharing=exclusive", *options, workers=workers)
    await start(node, workers)
    token = jwt.encode({"sub": "alice"}, KEY, "HS256")
    opened, let_in = [], 0
    try:
        for number in range(2 * LIMIT):
            stream = await trio.open_tcp_stream("127.0.0.1", node.upstream)
            opened.append(stream)
            await stream.send_all(
                f"GET /piko/v1/upstream/e{number} HTTP/1.1\r\nHost: node\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiAgbGV0dGVycw==\r\n"
                f"Authorization: Bearer {token}\r\n\r\n".encode()
            )
            status = int((await stream.receive_some())[9:12])
            assert status in (101, 429)
            let_in += status == 101
            await trio.sleep(TELLING_SECONDS)
        assert LIMIT <= let_in <= LIMIT + workers
    finally:
        for stream in opened:
            await stream.aclose()
