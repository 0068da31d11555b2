"""The installed command between programs that know nothing of it: curl, wrk, websockets, nginx, squid."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from websockets.sync.client import connect as connect_websocket

from tests.conftest import Web
from tests.programs import Node, Program, Programs, free_port, needs

pytestmark = needs("nginx", "curl")


@pytest.fixture
async def node(programs: Programs) -> Node:
    node = Node(programs)
    await node.start()
    return node


async def curl(programs: Programs, node: Node, path: str, *options: str, endpoint: str = "web") -> Program:
    """A finished curl that asked the node for a path of the endpoint."""
    words = ["-sS", "--max-time", "30", "-H", f"x-piko-endpoint: {endpoint}", *options]
    program = await programs.start("curl", *words, f"http://127.0.0.1:{node.proxy}{path}")
    assert await program.wait_end() == 0, program.text
    return program


async def test_curl_gets_what_nginx_answers(programs: Programs, node: Node, nginx: Web) -> None:
    await node.start_agent("web", nginx.port)
    await node.wait_registered("web")
    answer = await curl(programs, node, "/", "-i")
    assert answer.lines[0].split()[:2] == ["HTTP/1.1", "200"]
    assert answer.lines[-1] == nginx.answer.decode()
    head = await curl(programs, node, "/", "--head")
    assert "content-length: 128" in head.text.lower()


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param([], id="with a length"),
        pytest.param(["-H", "Transfer-Encoding: chunked"], id="in chunks"),
        pytest.param(["-H", "Expect: 100-continue"], id="after 100 Continue"),
    ],
)
async def test_a_body_that_curl_sends_arrives_whole(
    framing: list[str], programs: Programs, node: Node, origin: int, tmp_path: Path
) -> None:
    await node.start_agent("web", origin)
    await node.wait_registered("web")
    body = tmp_path / "body"
    body.write_bytes(random.randbytes(3_000_000))
    answer = await curl(programs, node, "/mirror", "-i", "--data-binary", f"@{body}", *framing)
    assert f"x-got-sha256: {hashlib.sha256(body.read_bytes()).hexdigest()}" in answer.text


async def test_a_download_is_what_nginx_sent(programs: Programs, node: Node, nginx: Web, tmp_path: Path) -> None:
    await node.start_agent("web", nginx.port)
    await node.wait_registered("web")
    sent, got = nginx.files / "noise", tmp_path / "got"
    sent.write_bytes(random.randbytes(20_000_000))
    await curl(programs, node, "/files/noise", "-o", str(got))
    assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(sent.read_bytes()).digest()


async def test_an_event_arrives_before_the_stream_ends(programs: Programs, node: Node, origin: int) -> None:
    await node.start_agent("web", origin)
    await node.wait_registered("web")
    url = f"http://127.0.0.1:{node.proxy}/events"
    reader = await programs.start("curl", "-sSN", "-H", "x-piko-endpoint: web", url)
    with trio.fail_after(10):
        await reader.wait_line("data: open")
        for word in ("one", "two"):
            await curl(programs, node, "/event", "-d", word)
            await reader.wait_line(f"data: {word}")
    assert reader.process.poll() is None


@pytest.mark.parametrize("size", [0, 125, 70_000, 1_000_000])
async def test_websockets_talks_to_hypercorn(size: int, node: Node, origin: int) -> None:
    await node.start_agent("web", origin)
    await node.wait_registered("web")

    def talk() -> tuple[str | bytes, str | bytes]:
        url = f"ws://127.0.0.1:{node.proxy}/echo"
        with connect_websocket(url, additional_headers={"x-piko-endpoint": "web"}, max_size=None) as socket:
            socket.send("x" * size)
            text = socket.recv(10)
            socket.send(b"\xff" * size)
            return text, socket.recv(10)

    assert await trio.to_thread.run_sync(talk) == ("x" * size, b"\xff" * size)


@needs("wrk")
async def test_wrk_sees_no_failure_on_many_connections(programs: Programs, node: Node, nginx: Web) -> None:
    await node.start_agent("web", nginx.port)
    await node.wait_registered("web")
    words = ["-t2", "-c64", "-d2s", "-H", "x-piko-endpoint: web", f"http://127.0.0.1:{node.proxy}/"]
    wrk = await programs.start("wrk", *words)
    assert await wrk.wait_end() == 0
    assert re.search(r"[1-9]\d* requests in", wrk.text), wrk.text
    assert "Non-2xx" not in wrk.text
    assert "Socket errors" not in wrk.text


@needs("squid")
async def test_an_agent_gets_out_through_a_squid_that_wants_a_password(
    programs: Programs, node: Node, nginx: Web, squid: Squid
) -> None:
    proxy = f"127.0.0.1:{squid.port}"
    refused = await node.start_agent("refused", nginx.port, f"--connect.proxy-url=http://user:wrong@{proxy}")
    await node.start_agent("web", nginx.port, f"--connect.proxy-url=http://user:right@{proxy}")
    with trio.fail_after(15):
        await node.wait_registered("web")
        await refused.wait_line("407")
    answer = await curl(programs, node, "/")
    assert answer.text == nginx.answer.decode()
    assert "refused" not in await node.endpoints()
    assert "wrong" not in refused.text

    await squid.program.stop()
    tunnels = [line.split() for line in squid.access_log.read_text().splitlines()]
    assert any(line[3].endswith("/200") and line[6] == f"127.0.0.1:{node.upstream}" for line in tunnels)


@dataclass(frozen=True)
class Squid:
    """squid that wants Basic authentication (user:right). A tunnel is in its log when it has ended."""

    program: Program
    port: int
    access_log: Path


@pytest.fixture
async def squid(programs: Programs) -> AsyncIterator[Squid]:
    path, port = "squid", free_port()
    # squid gives up being root, so its folder is one that everybody can write.
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        helper, config, log = folder / "passwords", folder / "squid.conf", folder / "access.log"
        # squid's helper protocol: a line "user password" in, OK or ERR out.
        helper.write_text("""#!/bin/sh
            while read -r line; do [ "$line" = "user right" ] && echo OK || echo ERR; done""")
        helper.chmod(0o755)
        config.write_text(f"""
            http_port 127.0.0.1:{port}
            auth_param basic program {helper}
            auth_param basic children 2
            acl known proxy_auth REQUIRED
            http_access allow known
            http_access deny all
            access_log stdio:{log}
            cache_log {folder}/cache.log
            pid_filename none
            cache deny all
            shutdown_lifetime 0
            visible_hostname squid.test
            pinger_enable off
        """)
        # A name of its own keeps apart what several squids share.
        yield Squid(await programs.start(path, "-N", "-n", f"tools{port}", "-f", config, port=port), port, log)
