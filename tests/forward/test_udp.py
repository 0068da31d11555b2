"""UDP from a local port through node and agent to a service: what passes, what is bounded, what ends nothing."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from io import StringIO

import pytest
import trio
from trio.testing import MockClock

from engine import log
from engine.config import AgentConfig, ForwardConfig
from tests.programs import Programs, free_port, needs
from tests.roles import (
    GET,
    Role,
    Roles,
    RunningForward,
    RunningNode,
    Talk,
    agent_config,
    echo,
    forward_config,
    join,
    server_config,
    settle,
)
from tests.udp import Service, Udp, started

SIZES = random.Random(14)


class Bed:
    """Node, agent and forward, and the service behind them."""

    node: RunningNode
    forward: RunningForward
    port: int
    service: Service

    def __init__(self, roles: Roles) -> None:
        self.roles = roles

    async def agent(self, service: Service) -> Role:
        return await self.roles.agent_with(udp_agent(self.node, service.number))


@pytest.fixture
async def bed(roles: Roles) -> Bed:
    bed = Bed(roles)
    bed.service = await started(roles)
    bed.node = await roles.node()
    await bed.agent(bed.service)
    bed.forward = await roles.forward_with(udp_forward(bed.node))
    bed.port = bed.forward.ports[0][1]
    return bed


@pytest.fixture
def said() -> Iterator[StringIO]:
    """What is logged."""
    stream = StringIO()
    log.configure("info", (), stream)
    yield stream
    log.configure("warn")


def udp_agent(node: RunningNode, service: int | str, endpoint: str = "web") -> AgentConfig:
    return agent_config(node.upstream, service, endpoint=endpoint, protocol="udp")


def udp_forward(
    node: RunningNode, endpoint: str = "web", *, resume: float = 0, host: str = "127.0.0.1"
) -> ForwardConfig:
    config = forward_config(node.proxy, endpoint, resume=resume)
    config.ports[0].protocol = "udp"
    config.ports[0].addr = f"[{host}]:0" if ":" in host else f"{host}:0"
    return config


async def told(stream: StringIO, text: str) -> None:
    while text not in stream.getvalue():
        await settle()
        log.flush()


@pytest.mark.parametrize(("host", "resume"), [("127.0.0.1", 30), ("::1", 0)])
async def test_500_datagrams_of_unlike_sizes_come_and_go_as_they_are(roles: Roles, host: str, resume: float) -> None:
    service = await started(roles, host, mark=b"!")
    node = await roles.node()
    await roles.agent_with(udp_agent(node, f"[::1]:{service.number}" if ":" in host else service.number))
    forward = await roles.forward_with(udp_forward(node, resume=resume, host=host))
    clients = [Udp(roles, host) for _ in range(3)]
    for number in range(500):
        size = SIZES.choice((0, 1, 11, 512, 1400, 9000, 60_000, 65_500)) if number % 5 == 0 else SIZES.randrange(1500)
        data = (b"%d " % number + bytes(size))[:size]
        assert await clients[number % 3].ask(data, forward.ports[0][1]) == b"!" + data
    assert len(service.peers) == 3


async def test_answers_come_without_being_asked_for_and_in_order(bed: Bed) -> None:
    client = Udp(bed.roles)
    await client.ask(b"hello", bed.port)
    (peer,) = bed.service.peers
    for start in range(0, 500, 50):
        for number in range(start, start + 50):
            await bed.service.sock.sendto(b"%d" % number, peer)
        assert [int(await client.hear()) for _ in range(50)] == [*range(start, start + 50)]


async def test_a_client_that_vanishes_hurts_nobody(bed: Bed) -> None:
    gone, stays = Udp(bed.roles), Udp(bed.roles)
    await gone.ask(b"hello", bed.port)
    gone.sock.close()
    (peer,) = bed.service.peers
    for _ in range(20):
        await bed.service.sock.sendto(b"still there?", peer)
        assert await stays.ask(b"hello", bed.port) == b"hello"


async def test_a_flow_that_is_idle_ends_at_both_ends_and_its_client_may_come_back(
    bed: Bed, mock_clock: MockClock
) -> None:
    client = Udp(bed.roles)
    for flows in (1, 2):
        assert await client.ask(b"hello", bed.port) == b"hello"
        assert len(bed.service.peers) == flows
        await settle()
        mock_clock.jump(61.0)
        await settle()


async def test_for_one_flow_too_many_the_longest_idle_makes_room(roles: Roles, bed: Bed) -> None:
    config = udp_forward(bed.node)
    config.ports[0].udp.max_flows = 2
    port = (await roles.forward_with(config)).ports[0][1]
    clients = [Udp(roles) for _ in range(4)]
    for client in (*clients, *clients):
        assert await client.ask(b"hello", port) == b"hello"
    assert len(bed.service.peers) == 8


async def test_a_service_that_is_not_there_yet_is_waited_for(roles: Roles, said: StringIO) -> None:
    node, number = await roles.node(), free_port()
    await roles.agent_with(udp_agent(node, number))
    port = (await roles.forward_with(udp_forward(node))).ports[0][1]
    client = Udp(roles)
    for _ in range(3):
        await client.say(b"anybody?", port)
        await told(said, "the service takes no datagrams")
    await started(roles, port=number)
    assert await client.ask(b"hello", port) == b"hello"
    assert said.getvalue().count("the service takes no datagrams") == 1


async def test_a_service_at_one_of_the_addresses_of_its_name_is_found(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, service = await roles.node(), await started(roles, "::1")
    places = [(socket.AF_INET, ("127.0.0.1", service.number)), (socket.AF_INET6, ("::1", service.number))]

    async def resolve(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
        return [*places]

    monkeypatch.setattr("engine.agent.udp.resolve_udp", resolve)
    await roles.agent_with(udp_agent(node, f"localhost:{service.number}"))
    port = (await roles.forward_with(udp_forward(node))).ports[0][1]
    for _ in range(2):  # the first datagram finds out for all
        client = Udp(roles)
        heard = b""
        while not heard:
            await client.say(b"hello", port)
            with trio.move_on_after(0.1):
                heard = await client.hear()
    assert len(service.peers) == 2


async def test_a_flow_goes_on_by_another_agent(bed: Bed, roles: Roles) -> None:
    client = Udp(roles)
    assert await client.ask(b"hello", bed.port) == b"hello"
    other = await started(roles, mark=b"other ")
    agent = roles.running[1]
    agent.tell_to_stop()
    await agent.ended.wait()
    await bed.agent(other)
    assert await client.ask(b"hello", bed.port) == b"other hello"


async def test_a_flow_outlives_a_cut_of_its_connection(bed: Bed, roles: Roles) -> None:
    wires: list[Talk] = []

    async def wire(near: Talk) -> None:
        wires.append(near)
        async with await trio.open_tcp_stream("127.0.0.1", bed.node.proxy) as stream:
            await join(near, Talk(stream))

    config = udp_forward(bed.node, resume=30)
    config.connect.url = f"http://127.0.0.1:{await roles.service(wire)}"
    port = (await roles.forward_with(config)).ports[0][1]
    client = Udp(roles)
    assert await client.ask(b"before", port) == b"before"
    await wires[0].reset()
    for number in range(20):
        await client.say(b"%d" % number, port)
    assert [int(await client.hear()) for _ in range(20)] == [*range(20)]
    assert len(wires) == 2
    assert len(bed.service.peers) == 1


# -- Something else at the other end


@pytest.mark.parametrize("protocol", ["tcp", "http"])
async def test_an_endpoint_of_another_kind_is_told_of(roles: Roles, said: StringIO, protocol: str) -> None:
    node = await roles.node()
    await roles.agent(node, await roles.service(echo), protocol=protocol)
    forward = await roles.forward_with(udp_forward(node))
    await Udp(roles).say(b"hello", forward.ports[0][1])
    await told(said, "no UDP endpoint (`agent udp`), or not of this version: expected UDP in a tunnel: b")
    assert "cannot reach the endpoint" in said.getvalue()


async def test_a_client_of_another_kind_is_told_of(bed: Bed, roles: Roles, said: StringIO) -> None:
    client = await roles.dial((await roles.forward(bed.node, "web")).ports[0][1])
    await client.say(b"hello")
    assert await client.rest() == b"this is an endpoint of UDP; expected `trioduct forward udp`\n"
    await told(said, "no `forward udp`, or not of this version: expected UDP in a tunnel: b'hello'")
    http = await roles.dial(bed.node.proxy)
    assert (await http.ask(GET)).status == 502


async def test_an_endpoint_that_nobody_offers_is_told_of_and_its_datagrams_are_dropped(
    roles: Roles, said: StringIO
) -> None:
    node = await roles.node()
    forward = await roles.forward_with(udp_forward(node))
    client = Udp(roles)
    await client.say(b"lost", forward.ports[0][1])
    await told(said, "no available upstreams")
    service = await started(roles)
    await roles.agent_with(udp_agent(node, service.number))
    assert await client.ask(b"hello", forward.ports[0][1]) == b"hello"


async def test_a_forward_that_is_told_to_stop_does_so_at_once(bed: Bed) -> None:
    client = Udp(bed.roles)
    await client.ask(b"hello", bed.port)
    bed.forward.tell_to_stop()
    with trio.fail_after(5):
        await bed.forward.ended.wait()


async def test_a_port_in_use_is_an_error(roles: Roles) -> None:
    taken = Udp(roles)
    await taken.bind()
    config = forward_config(1, "web")
    config.ports[0].protocol, config.ports[0].addr = "udp", f"127.0.0.1:{taken.number}"
    with pytest.raises(OSError, match="in use"):
        await roles.forward_with(config)


# -- Others


async def test_a_flood_does_not_hold_up_others(bed: Bed, roles: Roles) -> None:
    sink = Udp(roles)
    await roles.agent_with(udp_agent(bed.node, await sink.bind(), "sink"))
    await roles.agent(bed.node, await roles.service(echo), endpoint="echo", protocol="tcp")
    config = udp_forward(bed.node, "sink")
    config.ports += [*forward_config(bed.node.proxy, "echo").ports, *udp_forward(bed.node).ports]
    (_, flooded), (_, tcp), (_, udp) = (await roles.forward_with(config)).ports
    over = threading.Event()

    def flood() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not over.is_set():
                sock.sendto(bytes(1000), ("127.0.0.1", flooded))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        victim, client = await roles.dial(tcp), Udp(roles)
        for _ in range(10):
            await victim.say(b"hello")
            assert await victim.exactly(5) == b"hello"
            with trio.move_on_after(2) as waiting:
                assert await client.ask(b"hello", udp) == b"hello"
            assert not waiting.cancelled_caught
    finally:
        over.set()
        thread.join()


@needs("dnsmasq")
async def test_a_name_server_answers_through_it(roles: Roles, programs: Programs) -> None:
    number = free_port()
    options = ("--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--listen-address=127.0.0.1")
    await programs.start(
        "dnsmasq", *options, "--bind-interfaces", "--address=/shop.test/192.0.2.7", f"--port={number}", port=number
    )
    node = await roles.node(server_config())
    await roles.agent_with(udp_agent(node, number))
    port = (await roles.forward_with(udp_forward(node))).ports[0][1]
    for id in range(200):  # each from a port of its own, as resolvers ask
        name = b"\x04shop\x04test\0"
        client = Udp(roles)
        answer = await client.ask(struct.pack(">6H", id, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1), port)
        client.sock.close()
        assert struct.unpack_from(">4H", answer) == (id, 0x8580, 1, 1)
        assert answer.endswith(bytes([192, 0, 2, 7]))
