"""Workers of one node, whose supervisor is played: what they are told, what they tell, and how they end."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from engine.cluster.channel import Channel
from engine.cluster.entry import Entry
from engine.cluster.messages import (
    Accept,
    Answer,
    Ask,
    Beat,
    Begin,
    Changed,
    Count,
    Farewell,
    Gone,
    Held,
    Leave,
    Leaves,
    Leaving,
    Lose,
    Message,
    Peers,
    Ready,
    Share,
    Sockets,
    State,
    Stop,
    Taken,
    ToSupervisor,
)
from engine.config import ServerConfig
from engine.errors import ConfigError
from engine.loop.listen import open_shared_listeners
from engine.loop.memory import process_limit
from engine.loop.reactor import Reactor
from engine.node.node import Node, open_node
from engine.node.worker import _Listening, run_worker
from engine.wire.workers import Seat, seat_in
from tests.roles import GET, Role, Roles, Talk, agent_config, server_config, settle, tell_head, values_of

SECRET = b"a secret of thirty-two characters"
REGISTER = (
    b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiAgbGV0dGVycw==\r\n"
)


class Told:
    """A worker, and its channel's other end."""

    def __init__(self, channel: Channel[Any], role: Role | None = None) -> None:
        self.channel = channel
        self.role = role
        self.entry = Entry("", "", "")

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.channel.send(message)

    async def hear(self, kind: type[Any]) -> Any:
        """The next message of this kind, whatever comes before it."""
        while not isinstance(message := await self.channel.next(), kind):
            assert message is not None, f"gone without {kind.__name__}"
        return message


class Supervisor:
    """Starts workers that share ports."""

    def __init__(self, roles: Roles, folder: Path, nursery: trio.Nursery, count: int = 2) -> None:
        self.roles = roles
        self.folder = folder
        self.nursery = nursery
        self.ports = [open_shared_listeners("127.0.0.1:0", count) for _ in range(2)]
        self.proxy, self.upstream = (port[0][0].getsockname()[1] for port in self.ports)
        self.workers: list[Told] = []

    def begin(self, index: int, config: ServerConfig) -> Begin:
        # A worker takes descriptors over, as if it were another process.
        proxy, upstream = ([[os.dup(sock.fileno()) for sock in each] for each in port] for port in self.ports)
        sockets = [Sockets(proxy[number], upstream[number], []) for number in range(2)]
        id = f"node.{index + 1}"
        return Begin(index, 2, id, "node", SECRET, str(self.folder / str(index)), sockets, config.listens())

    async def start(self, config: ServerConfig | None = None) -> Told:
        """The next worker, ready, and accepting at its own sockets."""
        config = config or server_config()
        config.workers = 2
        ours, theirs = socket.socketpair()
        channel: Channel[Any] = Channel(ours, ToSupervisor, lambda: Peers([]))
        self.nursery.start_soon(channel.run)
        index = len(self.workers)
        told = Told(channel)
        told.say(self.begin(index, config), Peers([one.entry for one in self.workers]))
        told.role = await self.roles.worker(config, theirs.detach())
        told.entry = (await told.hear(Ready)).entry
        self.workers.append(told)
        for one in self.workers:
            one.say(Peers([one.entry for one in self.workers]))
        told.say(Accept([index]))
        return told

    def close(self) -> None:
        for told in self.workers:
            told.channel.close()
        for sock in (sock for port in self.ports for each in port for sock in each):
            sock.close()


@pytest.fixture
async def supervisor(roles: Roles, tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with trio.open_nursery() as nursery:
        played = Supervisor(roles, tmp_path, nursery)
        yield played
        played.close()
        nursery.cancel_scope.cancel()


async def test_what_comes_to_a_worker_without_a_session_is_served_by_the_other(
    supervisor: Supervisor, roles: Roles
) -> None:
    alone = server_config()
    alone.upstream.sharing = "exclusive"  # the agent is not to have a session on each
    first = await supervisor.start(alone)
    first.say(Accept([0, 1]))  # wherever the agent comes
    await roles.agent_with(agent_config(supervisor.upstream, await roles.service(tell_head), carriers=["websocket"]))
    change = (await first.hear(Changed)).change
    assert (change.endpoint, change.count, change.revision) == ("web", 1, 1)
    second = await supervisor.start()
    second.say(Changed(change))  # its first worker's entry was of the time before it
    # From now on all that come are the second's.
    first.say(Accept([]))
    second.say(Accept([0, 1]))
    await settle()
    for _ in range(10):
        client = await roles.dial(supervisor.proxy)
        assert (await client.ask(GET.replace(b"\r\n\r\n", b"\r\nx-piko-endpoint: web\r\n\r\n"))).status == 200
        await client.close()
    second.say(Ask(1))
    answer: Answer = await second.hear(Answer)
    assert answer.sessions == []
    values = {(name, *labels.values()): value for _, _, _, got in answer.metrics for name, labels, value in got}
    # It is the same node, and no other of a cluster.
    assert values["piko_upstreams_remote_requests_total", "node"] == 10
    assert values["piko_cluster_nodes", "active"] == 1
    first.say(Ask(2))
    (session,) = (await first.hear(Answer)).sessions
    assert (session.endpoint, session.client) == ("web", "127.0.0.1")


@pytest.mark.parametrize("sharing", ["balanced", "exclusive"])
async def test_an_agent_is_told_which_worker_it_has_come_to(sharing: Any, supervisor: Supervisor, roles: Roles) -> None:
    config = server_config()
    config.upstream.sharing = sharing
    first = await supervisor.start(config)
    first.say(Accept([0, 1]))
    for ours in (True, False):
        talk = await roles.dial(supervisor.upstream)
        await talk.say(REGISTER + (b"x-trioduct-summaries: 1\r\n\r\n" if ours else b"\r\n"))
        head = await talk.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        said = seat_in([(b"x-trioduct-workers", one) for one in values_of(head, b"x-trioduct-workers")])
        assert said == (Seat(1, 2) if sharing == "balanced" else None)
        await talk.reset()
        assert (await first.hear(Held)).held
        assert not (await first.hear(Held)).held


async def test_an_endpoint_that_another_worker_holds_is_taken_and_one_that_was_second_is_lost(
    supervisor: Supervisor, roles: Roles
) -> None:
    first = await supervisor.start()
    first.say(Accept([0, 1]), Held("node.2", "web", "alice", True))
    await settle()
    talk = await roles.dial(supervisor.upstream)
    assert (await talk.ask(REGISTER + b"\r\n")).status == 403
    first.say(Held("node.2", "web", "alice", False), Leaves("node.2"), Gone("node.2"))
    await settle()
    talk = await roles.dial(supervisor.upstream)
    await talk.say(REGISTER + b"\r\n")
    assert (await talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert (await first.hear(Held)) == Held("node.1", "web", "", True)
    first.say(Lose("web"))
    assert b"taken by somebody else" in await talk.rest()


async def test_what_a_principal_has_with_other_workers_counts_here(supervisor: Supervisor, roles: Roles) -> None:
    config = server_config()
    config.upstream.limits.sessions = 2
    config.upstream.auth.hmac_secret_key = SECRET.decode()
    token = jwt.encode({"sub": "alice"}, SECRET, "HS256").encode()
    first = await supervisor.start(config)

    async def register() -> Talk:
        talk = await roles.dial(supervisor.upstream)
        await talk.say(REGISTER + b"Authorization: Bearer %b\r\n\r\n" % token)
        return talk

    first.say(Accept([0, 1]), Count("node.2", "upstream.sessions", "alice", 1))
    await settle()
    talk = await register()
    assert (await talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await first.hear(Count) == Count("node.1", "upstream.sessions", "alice", 1)
    assert (await (await register()).answer()).status == 429
    first.say(Gone("node.2"))
    await settle()
    second = await register()
    assert (await second.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await first.hear(Count) == Count("node.1", "upstream.sessions", "alice", 2)
    for one in (talk, second):
        await one.reset()
    assert (await first.hear(Count)).count == 1
    assert (await first.hear(Count)).count == 0
    first.say(Taken("upstream.registrations", "alice", 1e6), Taken("no such limit", "", 1), Count("a", "nor", "", 1))
    await settle()
    assert (await (await register()).answer()).status == 429


async def test_streams_that_a_principal_has_at_other_workers_count(supervisor: Supervisor, roles: Roles) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = SECRET.decode()
    config.upstream.limits.streams = 4
    token = jwt.encode({"sub": "alice"}, SECRET, "HS256").encode()
    first = await supervisor.start(config)
    first.say(Accept([0, 1]), Count("node.2", "upstream.streams", "alice", 3))
    await settle()
    agent = await roles.dial(supervisor.upstream)
    await agent.say(REGISTER + b"Authorization: Bearer %b\r\n\r\n" % token)
    await agent.until(b"\r\n\r\n")
    await (await roles.dial(supervisor.proxy)).say(GET)
    assert await first.hear(Count) == Count("node.1", "upstream.streams", "alice", 1)
    assert (await (await roles.dial(supervisor.proxy)).ask(GET)).status == 503
    first.say(Gone("node.2"))
    await settle()
    await (await roles.dial(supervisor.proxy)).say(GET)
    assert await first.hear(Count) == Count("node.1", "upstream.streams", "alice", 2)


async def test_it_leaves_when_it_is_told_to_and_says_what_it_has_counted(supervisor: Supervisor, roles: Roles) -> None:
    first = await supervisor.start()
    first.say(Accept([0, 1]))
    client = await roles.dial(supervisor.proxy)
    await client.ask(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    first.say(Leave(), Leave(), Accept([0]))
    await first.hear(Leaving)
    counted: Farewell = await first.hear(Farewell)
    values = {name: value for _, _, _, got in counted.metrics for name, _, value in got}
    assert values["piko_proxy_requests_total"] == 1
    assert first.role is not None
    await first.role.ended.wait()
    assert not (supervisor.folder / "0").exists()
    # The sockets are the supervisor's still: what comes waits for the next worker.
    waiting = await roles.dial(supervisor.proxy)
    await waiting.close()


async def test_what_is_under_way_ends_at_once_when_it_is_told_to_stop(supervisor: Supervisor, roles: Roles) -> None:
    first = await supervisor.start()
    first.say(Accept([0, 1]))
    client = await roles.dial(supervisor.proxy)
    await client.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12")
    await settle()
    first.say(Leave())
    await first.hear(Leaving)
    first.say(Stop())
    assert first.role is not None
    with trio.fail_after(5):
        await first.role.ended.wait()


async def test_what_may_wait_is_shared_by_all(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    reactors: list[Reactor] = []

    async def note(config: ServerConfig, reactor: Reactor, nursery: trio.Nursery) -> Node:
        reactors.append(reactor)
        return await open_node(config, reactor, nursery)

    monkeypatch.setattr("engine.node.worker.open_node", note)
    first = await supervisor.start()
    await supervisor.start()
    assert [2 * one.memory.limit for one in reactors] == [process_limit() // 2 * 2] * 2
    assert (await first.hear(Beat)).waiting == 0
    first.say(Share(1000))
    while reactors[0].memory.limit != 1000:  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_it_leaves_when_the_supervisor_is_gone(supervisor: Supervisor) -> None:
    first = await supervisor.start()
    first.channel.close()
    assert first.role is not None
    with trio.fail_after(10):
        await first.role.ended.wait()


async def test_peers_that_are_told_no_more_are_gone(supervisor: Supervisor, roles: Roles) -> None:
    first = await supervisor.start()
    other = Entry("node.2", "a", "unix:/none", 1, {"web": 1}, worker_of="node", workers=2)
    first.say(Accept([0, 1]), Peers([other], {"node.2": {"web": "alice"}}))
    await settle()
    talk = await roles.dial(supervisor.upstream)
    assert (await talk.ask(REGISTER + b"\r\n")).status == 403
    first.say(Peers([]))
    await settle()
    talk = await roles.dial(supervisor.upstream)
    await talk.say(REGISTER + b"\r\n")
    assert (await talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def failure(config: ServerConfig, *messages: Message, more: bytes = b"") -> str:
    """What a worker says that cannot begin."""
    ours, theirs = socket.socketpair()
    with ours:
        channel: Channel[Any] = Channel(ours.dup(), ToSupervisor, lambda: State(Entry("", "", "")))
        for message in messages:
            channel.send(message)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            await channel.wait_sent()
            nursery.cancel_scope.cancel()
        ours.sendall(more)
        channel.close()
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(ConfigError) as caught:
            await run_worker(config, theirs.detach())
    return str(caught.value)


async def test_it_begins_only_with_its_supervisor_and_on_its_ports(supervisor: Supervisor) -> None:
    config = server_config()
    config.workers = 2
    no_channel = "is no supervisor's channel, or the supervisor is gone"
    assert no_channel in await failure(config)
    assert no_channel in await failure(config, Accept([0]), Accept([1]))
    assert no_channel in await failure(config, more=b"GET / HTTP/1.1\r\n\r\n")
    begun = [supervisor.begin(0, config)]
    config.proxy.bind_addr = "127.0.0.1:1"
    told = await failure(config, begun[0], Peers([]))
    assert told == "proxy.bind_addr: '127.0.0.1:1': the addresses to listen on change by a restart, not by a reload"
    begun.append(supervisor.begin(0, config))
    config.workers = 3
    assert "workers: 3: their number, 2, changes by a restart" in await failure(config, begun[1], Peers([]))
    for descriptor in (one for begin in begun for sockets in begin.sockets for one in sockets.all()):
        socket.close(descriptor)


def test_who_copies_the_sockets_of_another_worker_does_not_make_them_block() -> None:
    """They are open in both, and O_NONBLOCK is one for all."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.setblocking(False)
        listening = _Listening([one], [one], [[one]], [one])
        copies = listening.copy()
        assert not os.get_blocking(one.fileno())
        for each in (*copies.proxy, *copies.upstream, *copies.tcp[0], *copies.links):
            assert each.fileno() != one.fileno()
            each.close()
