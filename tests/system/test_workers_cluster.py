"""Nodes of several workers that share a real Redis: whichever worker is asked, one hop leads to who has the session."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import trio

from tests.programs import Node, Program, Programs, free_port, get, needs
from tests.system.ledger import load
from tests.system.test_workers import ask, metric, wait_new_workers, workers_of

pytestmark = [needs("redis-server"), pytest.mark.timeout(180)]

SECRET = "a secret of thirty-two characters and more"


class Cluster:
    """Two nodes of two workers each."""

    def __init__(self, programs: Programs, redis: int) -> None:
        self.programs = programs
        self.redis = redis
        self.nodes: list[Node] = []
        self.servers: list[Program] = []

    async def start(self, *options: str) -> None:
        for index in range(2):
            store = f"--cluster.store=redis://127.0.0.1:{self.redis}"
            node = Node(self.programs, options=("--workers=2", f"--cluster.node-id=n{index}", store, *options))
            secret = {"TRIODUCT_CLUSTER_SECRET": SECRET}
            server = await self.programs.start(*node.words(), port=node.admin, env=secret)
            await server.wait_line('"node started"')
            self.nodes.append(node)
            self.servers.append(server)

    async def told(self, index: int) -> dict[str, dict[str, int]]:
        """The nodes that a node knows, each with its workers and their sessions."""
        status, body = await get(self.nodes[index].admin, "/status/cluster/nodes")
        assert status == 200
        return {one["id"]: one["workers"] for one in json.loads(body)}

    async def wait_alike(self) -> dict[str, dict[str, int]]:
        """Return what both nodes know, when it is the same, and of two workers of each."""
        while True:
            known = [await self.told(0), await self.told(1)]
            if known[0] == known[1] and [len(known[0].get(id, {})) for id in ("n0", "n1")] == [2, 2]:
                return known[0]
            await trio.sleep(0.02)

    async def wait_served(self) -> None:
        """All workers of both nodes answer, as far as eight connections in a row show it."""
        for node in self.nodes:
            while [await ask(node.proxy) for _ in range(8)] != [200] * 8:
                pass


@pytest.fixture
async def cluster(programs: Programs, tmp_path: Path) -> Cluster:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    await programs.start("redis-server", *options, port=port)
    return Cluster(programs, port)


@pytest.mark.parametrize("own_port", [False, True])
async def test_every_worker_of_every_node_serves_what_one_of_them_has(
    own_port: bool, cluster: Cluster, origin: int
) -> None:
    await cluster.start("--upstream.sharing=exclusive", *(["--cluster.bind-addr=127.0.0.1:0"] if own_port else []))
    agent = await cluster.nodes[0].start_agent("web", origin)
    await agent.wait_line('"connected"')
    await cluster.nodes[0].wait_registered("web", 1)
    await cluster.wait_served()
    known = await cluster.wait_alike()
    assert sorted(known["n0"].values()) == [0, 1]
    assert sorted(known["n1"].values()) == [0, 0]
    for node in cluster.nodes:
        before = await metric(node, "piko_proxy_requests_total")
        for _ in range(32):
            assert await ask(node.proxy) == 200
        assert await metric(node, "piko_proxy_requests_total") == before + 32
        assert await metric(node, "piko_cluster_nodes") == 2
        assert await metric(node, "trioduct_cluster_store_up") == 1
    # Both workers of the node without an agent have asked, and by one hop: nobody has passed on what another sent.
    for number in (1, 2):
        assert f'"worker":{number},"peer":"n0.' in cluster.servers[1].text
    assert await metric(cluster.nodes[1], 'piko_upstreams_remote_requests_total{node_id="n0"}') >= 40
    assert await metric(cluster.nodes[0], 'piko_upstreams_remote_requests_total{node_id="n1"}') == 0
    for server in cluster.servers:
        assert await server.stop() == 0
        assert '"level":"error"' not in server.text


async def test_a_worker_that_is_killed_is_forgotten_by_other_nodes_within_a_lease(
    cluster: Cluster, origin: int
) -> None:
    await cluster.start()
    await cluster.nodes[0].start_agent("web", origin)
    await cluster.nodes[0].wait_registered("web", 2)
    await cluster.wait_served()
    before = await cluster.wait_alike()
    async with load(cluster.nodes[1].proxy, largest=20_000) as ledger:
        await ledger.wait_whole(50)
        os.kill(workers_of(cluster.servers[0])[0], signal.SIGKILL)
        await ledger.wait_whole(50)
        await cluster.nodes[0].wait_registered("web", 2)
        after = await cluster.wait_alike()
        while after["n0"].keys() & before["n0"].keys() == before["n0"].keys():
            after = await cluster.wait_alike()
        await ledger.wait_whole(50)
    assert len(before["n0"].keys() - after["n0"].keys()) == 1
    assert after["n1"].keys() == before["n1"].keys()
    assert len(ledger.failed) <= 6, ledger.failed  # those in flight: one of each client
    assert await metric(cluster.nodes[1], 'trioduct_workers{phase="ready"}') == 2


async def test_a_reload_of_one_node_costs_no_request_at_the_other(cluster: Cluster, origin: int) -> None:
    await cluster.start()
    await cluster.nodes[0].start_agent("web", origin)
    await cluster.nodes[0].wait_registered("web", 2)
    await cluster.wait_served()
    async with load(cluster.nodes[1].proxy, largest=20_000) as ledger:
        await ledger.wait_whole(50)
        for server in cluster.servers:
            before = workers_of(server)
            server.process.send_signal(signal.SIGHUP)
            await wait_new_workers(server, before)
            await cluster.wait_alike()
            await ledger.wait_whole(50)
    assert ledger.failed == []


async def test_a_second_node_with_the_same_id_does_not_start(cluster: Cluster) -> None:
    await cluster.start()
    node = Node(
        cluster.programs,
        options=("--workers=2", "--cluster.node-id=n0", f"--cluster.store=redis://127.0.0.1:{cluster.redis}"),
    )
    second = await cluster.programs.start(*node.words(), env={"TRIODUCT_CLUSTER_SECRET": SECRET})
    assert await second.wait_end() == 1
    assert "another node of this cluster has it, and lives" in second.text
