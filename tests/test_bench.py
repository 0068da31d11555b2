"""`trioduct bench http`, as a Piko user types it."""

from __future__ import annotations

import re
import signal
import socket

import pytest
import trio

from tests.cli.command_line import Captured, complains
from tests.programs import TRIODUCT, Node, Program, Programs

SECRET = "a secret of some forty characters, or more"


async def bench(programs: Programs, node: Node, *options: str, requests: int = 300) -> Program:
    return await programs.start(
        TRIODUCT,
        *("bench", "http", f"--requests={requests}", "--clients=3", "--endpoints=2", "--upstreams=4"),
        f"--connect.proxy-url=http://127.0.0.1:{node.proxy}",
        f"--connect.upstream-url=http://127.0.0.1:{node.upstream}",
        *options,
    )


@pytest.mark.parametrize("size", [0, 1024, 300_000])
async def test_every_request_comes_back_and_the_figure_is_told_as_piko_tells_it(programs: Programs, size: int) -> None:
    node = Node(programs)
    await node.start()
    command = await bench(programs, node, f"--size={size}")
    assert await command.wait_end() == 0, command.text
    assert re.fullmatch(r"Throughput: \d+\.\d requests/sec", command.lines[0])
    assert re.fullmatch(r"Latency: p50 \d+\.\d\d ms, p90 \d+\.\d\d ms, p99 \d+\.\d\d ms", command.lines[1])
    assert "Failed" not in command.text
    for endpoint in ("bench-0", "bench-1"):  # a session that waits to be resumed would stay for half a minute
        await node.wait_registered(endpoint, 0)


async def test_what_was_not_answered_by_200_is_told_and_fails(programs: Programs) -> None:
    node = Node(programs, options=(f"--proxy.auth.hmac-secret-key={SECRET}",))
    await node.start()
    command = await bench(programs, node)
    assert await command.wait_end() == 1
    assert "Failed: 300 of 300 (status 401: 300)" in command.lines


async def test_a_node_that_goes_away_is_told_and_fails(programs: Programs) -> None:
    node = Node(programs)
    server = await node.start()
    command = await bench(programs, node, requests=1_000_000_000)
    await node.wait_registered("bench-0", 2)
    await server.stop(signal.SIGKILL)
    assert await command.wait_end() == 1
    # The last where it had not yet opened its clients' connections.
    assert re.search("connection closed|Connection reset|Connection refused", command.text)


async def test_ctrl_c_ends_it(programs: Programs) -> None:
    node = Node(programs)
    await node.start()
    command = await bench(programs, node, requests=1_000_000_000)
    await node.wait_registered("bench-1", 2)
    with trio.fail_after(10):
        assert await command.stop(signal.SIGINT) == 130
    assert "Traceback" not in command.text


async def test_ctrl_c_ends_it_where_its_clients_are_still_connecting(programs: Programs) -> None:
    node = Node(programs)
    await node.start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        command = await bench(programs, node, f"--connect.proxy-url=https://127.0.0.1:{port}")
        await node.wait_registered("bench-1", 2)
        with trio.fail_after(10):
            assert await command.stop(signal.SIGINT) == 130
    assert "Traceback" not in command.text


async def test_nobody_to_measure_is_one_line(programs: Programs) -> None:
    command = await bench(programs, Node(programs), "--connect.timeout=300ms")
    assert await command.wait_end() == 1
    assert "not connected within 0.3 s" in command.lines[-1]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("bench http --requests 0", "--requests: '0': expected a whole number, 1 or more"),
        ("bench http --upstreams 5", "--upstreams: '5': expected at least one for each of 100 endpoints"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)
