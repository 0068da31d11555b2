"""Much of something, and what it does to the rest: a stalled answer, large bodies, idle tunnels."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.conftest import Web
from tests.programs import Node, Programs, needs

pytestmark = needs("nginx", "curl")

FULL = "TRIODUCT_FULL" in os.environ
BODY_BYTES = (4096 if FULL else 256) * 2**20
GROWTH_KIB = 24 * 1024
TUNNELS = 1000


async def test_ten_thousand_requests_pass_a_stalled_one(programs: Programs, nginx: Web) -> None:
    node = Node(programs)
    await node.start()
    await node.start_agent("web", nginx.port)
    await node.wait_registered("web")
    size = 64 * 2**20
    with (nginx.files / "large").open("wb") as file:
        file.truncate(size)

    stalled = await trio.open_tcp_stream("127.0.0.1", node.proxy)
    async with stalled:
        await stalled.send_all(b"GET /files/large HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n")
        head, _, body = (await stalled.receive_some()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        received = len(body)

        # From here on nobody reads that answer, until the others have had theirs.
        request = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"

        async def ask(times: int) -> None:
            stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
            async with stream:
                for _ in range(times):
                    await stream.send_all(request)
                    answer = b""
                    while not answer.endswith(nginx.answer):
                        answer += await stream.receive_some() or pytest.fail("the node hung up")
                    assert answer.startswith(b"HTTP/1.1 200 ")

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask, 1000)

        async for chunk in stalled:
            received += len(chunk)
    assert received == size


@pytest.mark.timeout(900 if FULL else 60)
@pytest.mark.parametrize("direction", ["down", "up"])
async def test_a_large_body_takes_no_memory(
    direction: str, programs: Programs, nginx: Web, origin: int, tmp_path: Path
) -> None:
    node = Node(programs)
    server = await node.start()
    agent = await node.start_agent("web", nginx.port if direction == "down" else origin)
    await node.wait_registered("web")
    large = (nginx.files if direction == "down" else tmp_path) / "large"
    url = f"http://127.0.0.1:{node.proxy}"
    words = [f"{url}/files/large"] if direction == "down" else [f"{url}/mirror", "-T", str(large)]

    async def carry(size: int) -> None:
        with large.open("wb") as file:
            file.truncate(size)
        curl = await programs.start("curl", "-sSf", "-H", "x-piko-endpoint: web", "-o", "/dev/null", *words)
        assert await curl.wait_end() == 0, curl.text

    await carry(32 * 2**20)
    before = [program.peak_kib() for program in (server, agent)]
    await carry(BODY_BYTES)
    after = [program.peak_kib() for program in (server, agent)]
    print(f"{BODY_BYTES >> 20} MiB {direction}, peak KiB of node and agent: {before} -> {after}")
    # Windows and socket buffers may still have grown, but by nothing like the body.
    assert all(late - early < GROWTH_KIB for early, late in zip(before, after, strict=True))


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the machine allows, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_idle_tunnels_are_cheap(programs: Programs, nginx: Web, tmp_path: Path) -> None:
    node = Node(programs)
    server = await node.start()
    config = tmp_path / "agent.yaml"

    async def start_agent(tunnels: int) -> int:
        """Start an agent with so many endpoints; returns its memory in KiB once all are registered."""
        listeners = "".join(
            f"  - {{endpoint_id: idle-{number}, addr: '{nginx.port}', timeout: 10s}}\n" for number in range(tunnels)
        )
        config.write_text(f"connect: {{url: 'http://127.0.0.1:{node.upstream}'}}\nlisteners:\n{listeners}")
        agent = await programs.start(node.command, "agent", "start", "--config.path", config)
        with trio.fail_after(50):
            while len(await node.endpoints()) != tunnels:  # noqa: ASYNC110
                await trio.sleep(0.1)
        resident = agent.resident_kib()
        if tunnels == 1:
            await agent.stop()
        return resident

    one_agent = await start_agent(1)
    one_node = server.resident_kib()
    many_agent = await start_agent(TUNNELS)
    many_node = server.resident_kib()
    each_node, each_agent = ((many_node - one_node) / TUNNELS, (many_agent - one_agent) / TUNNELS)
    print(f"KiB for each of {TUNNELS} idle tunnels: node {each_node:.1f}, agent {each_agent:.1f}")
    assert each_node < 40
    assert each_agent < 48  # three tasks of it watch over its carrier
