"""Processes that are killed or restarted while clients ask: nothing is silently wrong, and it heals."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import trio

from tests.programs import Node, Program, Programs, free_port, needs
from tests.system.ledger import load

FULL = "TRIODUCT_FULL" in os.environ
FAULTS = 60 if FULL else 4


async def test_after_kill_9_at_random_every_request_is_whole_or_visibly_failed(programs: Programs, origin: int) -> None:
    node = Node(programs)
    server = await node.start()
    # Without resumption: a node would keep the session of an agent that was killed, for it might come back.
    at_once = "--connect.resume=0s"
    agents = [await node.start_agent("web", origin, at_once) for _ in range(2)]
    await node.wait_registered("web", 2)
    async with load(node.proxy, largest=300_000) as ledger:
        for _ in range(FAULTS):
            await ledger.wait_whole(20)
            victim = random.choice([server, *agents])
            await victim.stop(signal.SIGKILL)
            if victim is server:
                server = await node.start()
            else:
                await node.wait_registered("web", 1)
                await ledger.wait_whole(20)
                agents[agents.index(victim)] = await node.start_agent("web", origin, at_once)
            await node.wait_registered("web", 2)
        healed = len(ledger.failed)
        await ledger.wait_whole(100)
    assert ledger.failed[healed:] == []
    assert all(agent.process.poll() is None for agent in agents)


async def test_no_request_fails_while_agents_are_restarted_one_after_the_other(programs: Programs, origin: int) -> None:
    node = Node(programs)
    await node.start()
    agents = [await node.start_agent("web", origin) for _ in range(2)]
    await node.wait_registered("web", 2)
    async with load(node.proxy) as ledger:
        for turn in range(FAULTS):
            await ledger.wait_whole(20)
            assert await agents[turn % 2].stop(signal.SIGTERM) == 0
            await node.wait_registered("web", 1)
            await ledger.wait_whole(20)
            agents[turn % 2] = await node.start_agent("web", origin)
            await node.wait_registered("web", 2)
    assert ledger.failed == []


@needs("nginx")
async def test_no_request_fails_while_two_nodes_are_restarted_behind_a_balancer(
    programs: Programs, origin: int, tmp_path: Path
) -> None:
    nodes = [Node(programs), Node(programs)]
    running = [await node.start() for node in nodes]
    clients, agents = await start_balancer(programs, nodes, tmp_path)
    for _ in range(2):
        url = f"--connect.url=http://127.0.0.1:{agents}"
        await programs.start(nodes[0].command, "agent", "http", "web", str(origin), url)
    await wait_sessions(nodes, 2)
    async with load(clients) as ledger:
        for turn in range(FAULTS // 2):  # a node is patient with clients at first, which takes time here
            await ledger.wait_whole(20)
            leaving = running[turn % 2]
            assert await leaving.stop(signal.SIGTERM) == 0, leaving.text
            await wait_sessions([nodes[1 - turn % 2]], 2)
            await ledger.wait_whole(20)
            running[turn % 2] = await nodes[turn % 2].start()
    assert ledger.failed == []


async def start_balancer(programs: Programs, nodes: list[Node], folder: Path) -> tuple[int, int]:
    """nginx before the client ports and the agent ports of some nodes, as a deployment has it: a node that is
    not there or has no agent (yet) is passed over. Returns the ports for clients and for agents.
    """
    clients, agents = free_port(), free_port()
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "balancer.conf"
    config.write_text(f"""
        daemon off; master_process off; pid {folder}/balancer.pid; error_log stderr crit;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; client_max_body_size 0; {temporary}
            upstream clients {{ {" ".join(f"server 127.0.0.1:{n.proxy} max_fails=0;" for n in nodes)} }}
            upstream agents {{ {" ".join(f"server 127.0.0.1:{n.upstream} max_fails=0;" for n in nodes)} }}
            server {{
                listen 127.0.0.1:{clients};
                location / {{
                    proxy_pass http://clients;
                    proxy_http_version 1.1;
                    proxy_next_upstream error timeout http_502 http_503 non_idempotent;
                }}
            }}
            server {{
                listen 127.0.0.1:{agents};
                location / {{
                    proxy_pass http://agents;
                    proxy_http_version 1.1;
                    proxy_set_header Upgrade $http_upgrade;
                    proxy_set_header Connection upgrade;
                    proxy_read_timeout 1h;
                }}
            }}
        }}
    """)
    await programs.start("nginx", "-e", "stderr", "-p", folder, "-c", config, port=clients)
    return clients, agents


async def wait_sessions(nodes: list[Node], sessions: int) -> None:
    """Return when these nodes together count so many sessions of the endpoint."""
    while sum([(await node.endpoints()).get("web", 0) for node in nodes]) != sessions:  # noqa: ASYNC110
        await trio.sleep(0.02)


async def test_a_node_that_is_told_to_stop_lets_a_body_in_flight_end(programs: Programs, origin: int) -> None:
    node = Node(programs)
    server = await node.start()
    await node.start_agent("web", origin)
    await node.wait_registered("web")
    body = random.randbytes(200_000)
    head = f"POST /mirror HTTP/1.1\r\nHost: web.test\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
    async with stream:
        await stream.send_all(head + body[:100_000])
        server.process.terminate()
        await wait_refused(node.proxy)
        await stream.send_all(body[100_000:])
        with trio.fail_after(10):
            answer = b"".join([chunk async for chunk in stream])
    assert answer.startswith(b"HTTP/1.1 200 ")
    with trio.fail_after(10):
        assert await server.wait_end() == 0


async def wait_refused(port: int) -> None:
    """Return when nobody listens there any more."""
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return
            await stream.aclose()
            await trio.sleep(0.02)


async def test_a_second_signal_ends_a_node_at_once(programs: Programs, origin: int) -> None:
    node = Node(programs)
    server: Program = await node.start()
    await node.start_agent("web", origin)
    await node.wait_registered("web")
    stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
    async with stream:
        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: web.test\r\n\r\n")
        await stream.receive_some()
        server.process.terminate()
        await wait_refused(node.proxy)
        assert server.process.poll() is None
        with trio.fail_after(5):
            await server.stop()
