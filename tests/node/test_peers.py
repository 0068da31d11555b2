"""Several nodes: a request that comes to one is served by an agent of another, also when some of them are lost.

What peers know of each other is carried by hand here, at once; the links between them are real.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import struct
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from engine.cluster.directory import Directory, Membership, Own
from engine.cluster.entry import Change, Entry
from engine.config import ServerConfig
from engine.session.session import MAX_STREAMS
from engine.wire import owner, peers, posts
from tests.peers import DATA, RST, SYN, WINDOW
from tests.programs import free_port
from tests.roles import (
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    join,
    says,
    server_config,
    settle,
    tell_head,
    values_of,
)

SECRET = b"a secret of thirty-two characters"
ASK = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"


def follow(directory: Directory, change: Change) -> None:
    assert directory.change(change)


class Cluster:
    """Nodes that know of each other."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self.members: list[Membership] = []

    async def node(
        self, id: str, *, secret: bytes = SECRET, config: ServerConfig | None = None, addr: str = ""
    ) -> RunningNode:
        config = config or server_config()
        config.proxy.bind_addr = f"127.0.0.1:{free_port()}"
        config.cluster.node_id = id
        config.admin.bind_addr = f"127.0.0.1:{free_port()}"
        entry = Entry(id, secrets.token_hex(4), addr or config.proxy.bind_addr, admin_addr=config.admin.bind_addr)
        new = Membership(Directory(id), Own(entry), secret)
        for other in self.members:
            new.directory.put(other.own.entry)
            other.directory.put(new.own.entry)
            other.own.tell.append(partial(follow, new.directory))
            new.own.tell.append(partial(follow, other.directory))
        self.members.append(new)
        return await self.roles.node(config, membership=new)

    def remove(self, id: str) -> None:
        """What a store says when a lease has ended."""
        for member in self.members:
            member.directory.remove(id)


@pytest.fixture
def cluster(roles: Roles) -> Cluster:
    return Cluster(roles)


async def test_a_request_is_served_by_an_agent_of_another_node(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(tell_head))
    client = await roles.dial(first.proxy)
    for _ in range(3):
        got = await client.ask(b"GET /x HTTP/1.1\r\nHost: web.test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        assert got.status == 200
        assert b"X-Forwarded-For: 127.0.0.1\r\n" in got.body
        assert b"x-piko" not in got.body.lower()
        assert b"trioduct" not in got.body.lower()


async def test_bodies_of_a_megabyte_pass_both_ways(cluster: Cluster, roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(await talk.exactly(len(BODY))))

    BODY = secrets.token_bytes(1 << 20)
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(serve))
    client = await roles.dial(first.proxy)
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                client.say, b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
            )
            got = await client.answer()
        assert hashlib.sha256(got.body).digest() == hashlib.sha256(BODY).digest()


async def test_a_session_of_this_node_goes_before_those_of_others(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(says(b"second")))
    await roles.agent(first, await roles.service(says(b"first")))
    client = await roles.dial(first.proxy)
    assert [(await client.ask()).body for _ in range(4)] == [b"first"] * 4


async def test_a_standby_is_one_for_all_nodes(cluster: Cluster, roles: Roles) -> None:
    nodes = [await cluster.node(id) for id in ("first", "second", "third")]
    for name, node, weight in ((b"standby", nodes[0], 0), (b"another", nodes[2], 0), (b"usual", nodes[1], 1)):
        config = agent_config(node.upstream, await roles.service(says(name)))
        config.listeners[0].weight = weight
        usual = await roles.agent_with(config)
    clients = [await roles.dial(node.proxy) for node in nodes]
    for client in clients:
        await client.ask()  # a link is made for it
    await settle()
    assert [(await client.ask()).body for client in clients] == [b"usual"] * 3
    await usual.kill()
    await settle()
    assert [(await client.ask()).body for client in (clients[0], clients[2])] == [b"standby", b"another"]


async def test_another_node_is_asked_where_the_own_agent_is_busy(cluster: Cluster, roles: Roles) -> None:
    async def busy(talk: Talk) -> None:
        while await talk.until(b"\r\n\r\n"):
            await talk.say(answer(b"busy", status=b"503 Service Unavailable"))

    config = server_config()
    config.proxy.retry.causes = ["503"]
    first, second = await cluster.node("first", config=config), await cluster.node("second")
    await roles.agent(first, await roles.service(busy))
    await roles.agent(second, await roles.service(says(b"well")))
    client = await roles.dial(first.proxy)
    await client.ask()  # a link is made for it
    await settle()
    assert [(await client.ask()).body for _ in range(3)] == [b"well"] * 3


async def test_peers_are_chosen_by_how_many_sessions_they_have(cluster: Cluster, roles: Roles) -> None:
    nodes = [await cluster.node(id) for id in ("first", "second", "third")]
    for count, node in ((1, nodes[1]), (3, nodes[2])):
        for _ in range(count):
            await roles.agent(node, await roles.service(says(str(count).encode())))
    client = await roles.dial(nodes[0].proxy)
    said = [(await client.ask()).body for _ in range(400)]
    assert 50 < said.count(b"1") < 150  # of 100 that are expected; five deviations of 9 are 45


async def test_a_tcp_connection_of_a_forward_passes_two_nodes(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(echo), protocol="tcp")
    for resume in (0.0, 30.0):
        forward = await roles.forward_with(forward_config(first.proxy, "web", resume=resume))
        client = await roles.dial(forward.ports[0][1])
        await client.say(b"hello")
        assert await client.exactly(5) == b"hello"
        await client.finish()
        assert await client.rest() == b""


async def test_a_tcp_port_leads_to_another_node(cluster: Cluster, roles: Roles) -> None:
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    first, second = await cluster.node("first", config=config), await cluster.node("second")
    await roles.agent(second, await roles.service(echo), protocol="tcp")
    client = await roles.dial(first.addresses.tcp[0][1])
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"


async def test_an_endpoint_that_nobody_serves_any_more_is_told_at_once(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    agent = await roles.agent(second, await roles.service(says(b"second")))
    client = await roles.dial(first.proxy)
    assert (await client.ask()).status == 200
    await agent.kill()
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert (await client.ask()).status == 502


async def test_a_node_that_dies_loses_its_requests_and_no_others(cluster: Cluster, roles: Roles) -> None:
    nodes = [await cluster.node(id) for id in ("first", "second", "third")]
    for node in nodes[1:]:
        await roles.agent(node, await roles.service(says(b"ok")))
    client = await roles.dial(nodes[0].proxy)
    for _ in range(20):
        assert (await client.ask()).status == 200
    await nodes[1].kill()  # the first knows nothing of it but that the link is lost
    for _ in range(20):
        assert (await client.ask()).status == 200
    cluster.remove("second")
    assert (await client.ask()).status == 200


async def test_a_request_whose_peer_is_lost_is_tried_on_another(cluster: Cluster, roles: Roles) -> None:
    asked = trio.Event()

    async def silent(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await trio.sleep_forever()

    nodes = [await cluster.node(id) for id in ("first", "second", "third")]
    await roles.agent(nodes[1], await roles.service(silent))
    client = await roles.dial(nodes[0].proxy)
    await client.say(ASK)
    await asked.wait()
    await roles.agent(nodes[2], await roles.service(says(b"third")))
    await nodes[1].kill()
    assert (await client.answer()).body == b"third"


async def test_a_lost_link_is_dialled_again(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(says(b"second")))
    client = await roles.dial(first.proxy)
    assert (await client.ask()).status == 200
    await second.kill()
    cluster.remove("second")
    cluster.members = [one for one in cluster.members if one.directory.own_id != "second"]
    again = await cluster.node("second")
    assert (await client.ask()).status == 502
    await roles.agent(again, await roles.service(says(b"again")))
    assert (await client.ask()).body == b"again"


async def test_a_node_with_another_secret_gets_nothing(
    cluster: Cluster, roles: Roles, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await cluster.node("first", secret=b"another secret of thirty-two characters")
    second = await cluster.node("second")
    await roles.agent(second, await roles.service(says(b"second")))
    client = await roles.dial(first.proxy)
    assert (await client.ask()).status == 502
    assert SECRET.decode() not in capsys.readouterr().err


async def ask_for_link(node: RunningNode, roles: Roles, said: bytes) -> Talk:
    talk = await roles.dial(node.proxy)
    await talk.say(
        b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: trioduct-peer\r\nX-Trioduct-Peer: %b\r\n\r\n"
        % (peers.PATH, said)
    )
    return talk


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"first first " + b"0" * 32, 508),
        (b"other second " + b"0" * 32, 421),
        (b"other first 0", 400),
        (b"", 400),
    ],
)
async def test_who_is_no_peer_is_told_so(cluster: Cluster, roles: Roles, said: bytes, status: int) -> None:
    talk = await ask_for_link(await cluster.node("first"), roles, said)
    assert (await talk.answer()).status == status


async def test_a_proof_that_was_overheard_proves_nothing(cluster: Cluster, roles: Roles) -> None:
    talk = await ask_for_link(await cluster.node("first"), roles, b"other first " + b"0" * 32)
    assert b" 101 " in await talk.until(b"\r\n\r\n")
    await talk.say(b"x" * peers.PROOF_SIZE + b"\0" * 12)
    assert not await talk.is_over()


async def test_a_node_without_peers_has_no_such_path(roles: Roles) -> None:
    node = await roles.node()
    talk = await ask_for_link(node, roles, b"other first " + b"0" * 32)
    assert (await talk.answer()).status != 101


async def test_a_leaving_node_finishes_what_others_have_sent(cluster: Cluster, roles: Roles) -> None:
    asked, go = trio.Event(), trio.Event()

    async def slow(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await go.wait()
        await talk.say(answer(b"slow"))

    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(slow))
    client = await roles.dial(first.proxy)
    await client.say(ASK)
    await asked.wait()
    second.tell_to_stop()
    await trio.testing.wait_all_tasks_blocked(0.05)
    go.set()
    assert (await client.answer()).body == b"slow"
    await second.ended.wait()


# Behind one address -----------------------------------------------------------------------------------------


async def balanced(roles: Roles, *ports: int, cut: trio.Event | None = None) -> int:
    """The port of a balancer, which brings one connection here and the next there; `cut` cuts those of its time."""
    turns = itertools.cycle(ports)

    async def serve(near: Talk) -> None:
        far = await roles.dial(next(turns))
        async with trio.open_nursery() as nursery:
            if cut is not None and not cut.is_set():
                nursery.start_soon(cut_when, cut, near, far)
            await join(near, far)
            nursery.cancel_scope.cancel()

    return await roles.service(serve)


async def cut_when(cut: trio.Event, *talks: Talk) -> None:
    await cut.wait()
    for talk in talks:
        await talk.reset()


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_an_agents_carrier_may_come_to_any_node(cluster: Cluster, roles: Roles, carrier: str) -> None:
    nodes = [await cluster.node(id) for id in ("first", "second", "third")]
    port = await balanced(roles, *(node.upstream for node in nodes))
    await roles.agent_with(agent_config(port, await roles.service(tell_head), carriers=[carrier], resume=30))
    for node in nodes:
        client = await roles.dial(node.proxy)
        for _ in range(5):
            assert (await client.ask()).status == 200


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_a_session_goes_on_by_way_of_another_node(cluster: Cluster, roles: Roles, carrier: str) -> None:
    """The first connections are cut, and the next come to the other node."""
    first, second = await cluster.node("first"), await cluster.node("second")
    cut = trio.Event()
    port = await balanced(roles, first.upstream, second.upstream, second.upstream, cut=cut)
    service = await roles.service(echo)
    await roles.agent_with(agent_config(port, service, protocol="tcp", carriers=[carrier], resume=30))
    forward = await roles.forward_with(forward_config(first.proxy, "web"))
    client = await roles.dial(forward.ports[0][1])
    for part in (b"before", b"behind", b"at the end"):
        await client.say(part)
        assert await client.exactly(len(part)) == part
        cut.set()


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_a_forwards_carrier_may_come_to_any_node(cluster: Cluster, roles: Roles, carrier: str) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(echo), protocol="tcp")
    cut = trio.Event()
    port = await balanced(roles, first.proxy, second.proxy, second.proxy, cut=cut)
    forward = await roles.forward_with(forward_config(port, "web", carriers=[carrier], resume=30))
    client = await roles.dial(forward.ports[0][1])
    for part in (b"before", b"behind", b"at the end"):
        await client.say(part)
        assert await client.exactly(len(part)) == part
        cut.set()


async def test_an_owner_that_is_gone_is_told_of(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await second.kill()
    talk = await roles.dial(first.upstream)
    target = posts.path(posts.UPSTREAM_PATH, "web", owner.tag_of("second")).encode()
    await talk.say(b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % target)
    assert (await talk.answer()).status == 503


async def test_any_node_tells_of_all(cluster: Cluster, roles: Roles) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    await roles.agent(second, await roles.service(says(b"")))

    async def told(path: str) -> Any:
        admin = await roles.dial(first.admin)
        got = await admin.ask(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode())
        await admin.close()
        return got.status, json.loads(got.body) if got.body[:1] in b"[{" else got.body

    status, nodes = await told("/status/cluster/nodes")
    assert status == 200
    assert [(one["id"], one["upstreams"]) for one in nodes] == [("first", 0), ("second", 1)]
    assert (await told("/status/cluster/nodes/second"))[1]["endpoints"] == {"web": 1}
    assert b'piko_cluster_nodes{status="active"} 2.0' in (await told("/metrics"))[1]
    assert await told("/status/upstream/endpoints?forward=second") == (200, {"web": 1})
    await second.kill()
    assert (await told("/status/upstream/endpoints?forward=second"))[0] == 502
    cluster.remove("second")
    assert (await told("/status/upstream/endpoints?forward=second"))[0] == 404


async def test_a_node_with_too_many_agents_sends_some_elsewhere(
    cluster: Cluster, roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.node.node.REBALANCE_SECONDS", 0.05)
    config = server_config()
    config.upstream.rebalance.threshold = 0.2
    config.upstream.rebalance.shed_rate = 0.5
    config.upstream.rebalance.min_conns = 2
    first = await cluster.node("first", config=config)
    turns = iter([first] * 6)
    second: RunningNode | None = None

    async def serve(near: Talk) -> None:
        node = next(turns, None) or second
        assert node is not None
        await join(near, await roles.dial(node.upstream))

    port, service = await roles.service(serve), await roles.service(says(b"ok"))
    for _ in range(6):
        await roles.agent_with(agent_config(port, service))
    second = await cluster.node("second")
    client = await roles.dial(first.proxy)
    own = [one.own for one in cluster.members]
    while sum(own[0].entry.endpoints.values()) > 4 or sum(own[1].entry.endpoints.values()) < 2:
        assert (await client.ask()).status == 200
        await trio.sleep(0.01)
    for _ in range(20):
        await trio.sleep(0.01)
        assert (await client.ask()).status == 200
    assert sum(own[0].entry.endpoints.values()) + sum(own[1].entry.endpoints.values()) == 6


async def test_suspended_sessions_of_peers_are_asked_only_where_there_are_no_others(
    cluster: Cluster, roles: Roles
) -> None:
    nodes = [await cluster.node(id) for id in ("first", "second", "third")]
    cut = trio.Event()

    async def serve(near: Talk) -> None:
        if cut.is_set():  # nothing gets through any more
            return
        far = await roles.dial(nodes[1].upstream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_when, cut, near, far)
            await join(near, far)

    port = await roles.service(serve)
    await roles.agent_with(agent_config(port, await roles.service(says(b"second")), resume=30))
    client = await roles.dial(nodes[0].proxy)
    assert (await client.ask()).body == b"second"
    cut.set()
    while cluster.members[1].own.entry.endpoints != {"web": -1}:  # noqa: ASYNC110
        await trio.sleep(0.01)
    await roles.agent(nodes[2], await roles.service(says(b"third")))
    for _ in range(10):
        assert (await client.ask()).body == b"third"


# A peer that knows the secret and does what it must not ----------------------------------------------------


async def bad_peer(node: RunningNode, roles: Roles) -> Talk:
    """An open link to the node `first`, by a peer that a test plays."""
    hello = peers.Hello("bad", "first", peers.new_nonce())
    talk = await ask_for_link(node, roles, hello.encode())
    head = await talk.until(b"\r\n\r\n")
    (said,) = values_of(head, peers.FIELD)
    await talk.say(peers.check_answer(SECRET, hello, [(peers.FIELD, said)]))
    return talk


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream, len(data)) + data


async def heard_reset(talk: Talk, stream: int) -> None:
    """Frames up to a RST of the stream; pings and windows come as well."""
    while True:
        _, kind, flags, found, length = struct.unpack(">BBHII", await talk.exactly(12))
        if kind == DATA:
            await talk.exactly(length)
        if flags & RST and found == stream:
            return


@pytest.mark.parametrize(
    "opening",
    [peers.opening("nobody"), b"\0\0", b"\x7f\xff", b"\x80\x05admin", b"\x80\x0dproxy x 99999"],
    ids=["unknown", "empty", "long", "port", "address"],
)
async def test_a_stream_for_nothing_is_reset_and_the_link_goes_on(
    cluster: Cluster, roles: Roles, opening: bytes
) -> None:
    node = await cluster.node("first")
    await roles.agent(node, await roles.service(says(b"ok")))
    talk = await bad_peer(node, roles)
    await talk.say(frame(WINDOW, SYN, 2) + frame(DATA, 0, 2, opening))
    await heard_reset(talk, 2)
    await talk.say(frame(WINDOW, SYN, 4) + frame(DATA, 0, 4, peers.opening("web") + ASK))
    said = b""
    while b"200 OK" not in said:
        said += await talk.hear()


async def test_garbage_on_a_link_ends_it_and_nothing_else(cluster: Cluster, roles: Roles) -> None:
    node = await cluster.node("first")
    await roles.agent(node, await roles.service(says(b"ok")))
    talk, client = await bad_peer(node, roles), await roles.dial(node.proxy)
    await talk.say(b"\xff" * 1000)
    await talk.is_over()
    assert (await client.ask()).status == 200


async def test_streams_that_say_nothing_are_bounded_and_disturb_nobody(cluster: Cluster, roles: Roles) -> None:
    node = await cluster.node("first")
    await roles.agent(node, await roles.service(says(b"ok")))
    talk, client = await bad_peer(node, roles), await roles.dial(node.proxy)
    reset: set[int] = set()

    async def hear() -> None:
        data, position = b"", 0
        while len(reset) < 50:
            data += await talk.hear()
            while len(data) - position >= 12:  # a peer that accepts streams sends no data of its own
                _, _, flags, stream, _ = struct.unpack_from(">BBHII", data, position)
                position += 12
                if flags & RST:
                    reset.add(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        for number in range(MAX_STREAMS + 50):
            await talk.say(frame(WINDOW, SYN, 2 * number + 2) + frame(DATA, 0, 2 * number + 2, b"\0"))
            if number % 1000 == 0:
                assert (await client.ask()).status == 200
    assert min(reset) >= 2 * MAX_STREAMS
    assert (await client.ask()).status == 200
    await talk.close()
    assert (await client.ask()).status == 200
