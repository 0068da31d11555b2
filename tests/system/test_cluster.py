"""Nodes of a cluster as users run them, whose store, ids or clocks are wrong: each says so, and nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
import trio

from tests.cluster.redis import RedisServer
from tests.faults.bed import ask
from tests.programs import Node, Program, Programs, free_port, get, needs

pytestmark = [needs("redis-server", "faketime"), pytest.mark.timeout(120)]

SECRET = {"TRIODUCT_CLUSTER_SECRET": "a secret of thirty-two characters and more"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def redis_of(stack: ExitStack, folder: Path, *options: str) -> RedisServer:
    server = RedisServer(folder, *options)
    stack.callback(server.close)
    await server.ready()
    return server


async def start(node: Node, store: str, id: str, **more: str) -> Program:
    node.options = (f"--cluster.store={store}", f"--cluster.node-id={id}", "--proxy.access-log.disable")
    assert node.programs is not None
    return await node.programs.start(*node.words(), port=node.admin, env={**SECRET, **more})


@pytest.mark.parametrize("wrong", ["password", "no store", "replica", "another type", "nobody"])
async def test_a_node_with_a_store_that_is_of_no_use_serves_its_agents_and_says_why(
    wrong: str, programs: Programs, origin: int, tmp_path: Path, stack: ExitStack
) -> None:
    store, said = f"redis://127.0.0.1:{free_port()}", "refused|could not connect"
    match wrong:
        case "password":
            store = (await redis_of(stack, tmp_path, "--requirepass", "right")).url.replace("//", "//:wr0ng@")
            said = "WRONGPASS|invalid username-password"
        case "no store":
            store, said = f"redis://127.0.0.1:{origin}", "."
        case "replica":
            store = (await redis_of(stack, tmp_path, "--replicaof", "127.0.0.1", "1")).url
            said = "(?i:read.?only)"
        case "another type":
            redis = await redis_of(stack, tmp_path)
            redis.say("SET", "trioduct:default:members", "text")
            store, said = redis.url, "wrong kind of value"
    node = Node(programs)
    server = await start(node, store, "n1")
    await node.start_agent("web", origin)
    await node.wait_registered("web")
    assert (await ask(node.proxy, "web"))[0] == 200
    status, body = await get(node.admin, "/ready")
    assert status == 200
    found = json.loads(body)["degraded"]
    assert re.search(f"cluster store: .*({said})", found), found
    assert "\n" not in found
    assert "wr0ng" not in server.text + body


async def test_a_second_node_with_the_same_id_ends_with_a_sentence(
    programs: Programs, tmp_path: Path, stack: ExitStack
) -> None:
    redis = await redis_of(stack, tmp_path)
    await start(Node(programs), redis.url, "n1")
    second = Node(programs, options=(f"--cluster.store={redis.url}", "--cluster.node-id=n1"))
    program = await programs.start(*second.words(), env=SECRET)
    assert await program.wait_end() != 0
    assert "cluster.node_id n1: another node of this cluster has it, and lives" in program.text


async def test_nodes_whose_clocks_are_two_minutes_apart_find_each_other(
    programs: Programs, origin: int, tmp_path: Path, stack: ExitStack
) -> None:
    """One is 60 s ahead of the store and of the agents, the other 60 s behind."""
    redis = await redis_of(stack, tmp_path)
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    nodes = [Node(programs), Node(programs)]
    faked = {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    servers = [
        await start(node, redis.url, f"n{index}", FAKETIME=offset, **faked)
        for index, (node, offset) in enumerate(zip(nodes, ("+60s", "-60s"), strict=True))
    ]
    ahead, behind = [
        datetime.fromisoformat((await server.wait_line(r'"ts":"(\S+?)",.*"node started"'))[1]) for server in servers
    ]
    assert (ahead - behind).total_seconds() > 100
    for node, other in (nodes, nodes[::-1]):
        endpoint = f"at-{node.upstream}"
        await node.start_agent(endpoint, origin)
        while (await ask(other.proxy, endpoint))[0] != 200:  # noqa: ASYNC110
            await trio.sleep(0.02)
    await trio.sleep(3)  # longer than a lease
    for node, other in (nodes, nodes[::-1]):
        assert (await ask(other.proxy, f"at-{node.upstream}"))[0] == 200
        assert "degraded" not in (await get(node.admin, "/ready"))[1]
