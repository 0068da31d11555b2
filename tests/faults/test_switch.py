"""A defect in any callback, and any failure of a socket, ends what it hits; the roles go on, and nobody is mixed up."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from engine.agent.http import HttpUpstream
from engine.gateway.inbound import Inbound
from engine.gateway.outbound import Outbound
from engine.loop.reactor import Reactor
from engine.node.client import Client
from engine.session.stream import Stream
from tests.faults.chaos import Chaos
from tests.faults.switch import CALLBACKS, ERRORS, OF_CARRIERS, failing_sockets, raising
from tests.roles import Roles, RunningNode, agent_config, echo, forward_config
from tests.system.ledger import Ledger, load

CLIENTS = 3
EVERY = 15
FAULTS = 5  # as many are waited for, at most for
SECONDS = 0.5
IDLE = 32  # descriptors: both ends of the connections that an agent keeps to its service


@pytest.fixture
def reactors(monkeypatch: pytest.MonkeyPatch) -> list[Reactor]:
    """Those that the test's roles make."""
    made: list[Reactor] = []
    real = Reactor.__init__

    def init(self: Reactor, *, busy_polls: bool = False) -> None:
        real(self, busy_polls=busy_polls)
        made.append(self)

    monkeypatch.setattr(Reactor, "__init__", init)
    return made


@pytest.fixture
def kind() -> str:
    """The carrier; sessions of any but WebSocket outlive theirs."""
    return "websocket"


@pytest.fixture
async def node(roles: Roles, origin: int, reactors: list[Reactor], kind: str) -> RunningNode:
    """A node with an agent of HTTP and one of TCP."""
    return await start(roles, origin, kind)


async def start(roles: Roles, origin: int, kind: str = "websocket") -> RunningNode:
    node = await roles.node()
    for port, name, protocol in ((origin, "web", "http"), (await roles.service(echo), "tcp", "tcp")):
        config = agent_config(
            node.upstream, port, endpoint=name, protocol=protocol, carriers=[kind], resume=resume_of(kind)
        )
        await roles.agent_with(config)
    return node


def resume_of(kind: str) -> float:
    return 0 if kind == "websocket" else 1


@pytest.fixture
async def forwarded(roles: Roles, node: RunningNode, kind: str) -> int:
    """The port of a forward that leads to what echoes."""
    config = forward_config(node.proxy, "tcp", carriers=[kind], resume=resume_of(kind))
    return (await roles.forward_with(config)).ports[0][1]


@asynccontextmanager
async def mixed_load(node: RunningNode, forwarded: int) -> AsyncIterator[Ledger]:
    """Requests with books, a TCP connection through a forward that echoes, and clients that do what they like."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Chaos(node.proxy, seed=1).run)
        nursery.start_soon(_echoes, forwarded)
        async with load(node.proxy, clients=CLIENTS, largest=20_000) as ledger:
            await ledger.wait_whole(5)
            yield ledger
        nursery.cancel_scope.cancel()


async def _echoes(port: int) -> None:
    """What comes back is what was said, or nothing more comes."""
    while True:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                for number in range(100):
                    said = b"%d " % number * 100
                    await stream.send_all(said)
                    heard = b""
                    while len(heard) < len(said):
                        more = await stream.receive_some()
                        if not more:
                            break
                        heard += more
                    assert said.startswith(heard), "mixed up"
        except (OSError, trio.BrokenResourceError):
            await trio.sleep(0.01)


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def all_is_paid(reactors: list[Reactor], before: int) -> None:
    """Return when nothing is held for anybody any more, and there are no more descriptors than `before`: whoever was
    charged and has gone has taken it along.
    """
    for _ in range(500):
        if not any(reactor.memory.used for reactor in reactors) and descriptors() <= before + IDLE:
            return
        await trio.sleep(0.02)
    raise AssertionError([reactor.memory.used for reactor in reactors], before, descriptors())


# What ends one exchange, and not the session that carries others.
OF_ONE_EXCHANGE = (Inbound, Outbound, Client, HttpUpstream, Stream)


CASES = [
    *(("websocket", owner, name) for owner, name in CALLBACKS),
    *((kind, owner, name) for kind, found in OF_CARRIERS.items() for owner, name in found),
]


@pytest.mark.parametrize("behind", [False, True], ids=["in place of it", "behind it"])
@pytest.mark.parametrize(
    ("kind", "owner", "name"), CASES, ids=[f"{kind}-{owner.__name__}.{name}" for kind, owner, name in CASES]
)
async def test_a_defect_ends_its_own_connection(
    roles: Roles,
    node: RunningNode,
    forwarded: int,
    reactors: list[Reactor],
    kind: str,
    owner: type,
    name: str,
    behind: bool,
) -> None:
    before = descriptors()
    async with mixed_load(node, forwarded) as ledger:
        with raising(owner, name, every=EVERY, seed=1, behind=behind) as faults, trio.move_on_after(SECONDS):
            await faults.wait(FAULTS)
        await ledger.wait_whole(10)  # all is as before; an agent that had lost its session is back
    assert not any(role.ended.is_set() for role in roles.running)
    if resume_of(kind):  # as long as a session lasts, what is not confirmed is held
        for role in roles.running:
            if role is not node:
                role.tell_to_stop()
                await role.ended.wait()
    await all_is_paid(reactors, before)
    assert sum(sum(reactor.internal_errors.values()) for reactor in reactors) >= faults.raised
    if owner in OF_ONE_EXCHANGE:
        assert len(ledger.failed) <= faults.raised


@pytest.mark.parametrize("error", [*ERRORS.values(), None], ids=[*ERRORS, "short writes"])
async def test_a_socket_that_fails_is_one_connection_that_fails(
    roles: Roles, origin: int, reactors: list[Reactor], error: Callable[[], Exception] | None
) -> None:
    with failing_sockets(error, every=60, seed=1) as faults:
        node = await start(roles, origin)
        forward = await roles.forward(node, "tcp")
        before = descriptors()
        async with mixed_load(node, forward.ports[0][1]) as ledger:
            with trio.move_on_after(SECONDS):
                await faults.wait(4 * FAULTS)
    await all_is_paid(reactors, before)
    assert faults.raised
    assert not any(role.ended.is_set() for role in roles.running)
    if error is None:
        assert not ledger.failed
    assert not any(reactor.internal_errors for reactor in reactors)


@pytest.mark.parametrize("seed", [1, 2])
async def test_chaos_is_survived(
    roles: Roles, node: RunningNode, origin: int, reactors: list[Reactor], seed: int
) -> None:
    chaos = Chaos(node.proxy, seed)
    before = descriptors()
    async with load(node.proxy, clients=CLIENTS, largest=20_000) as ledger, trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(chaos.run)
        for _ in range(3):  # agents die under it, and others take their place
            await ledger.wait_whole(20)
            agent = await roles.agent(node, origin)
            await ledger.wait_whole(5)
            agent.scope.cancel()
            await agent.ended.wait()
        nursery.cancel_scope.cancel()
    await all_is_paid(reactors, before)
    assert chaos.moves
    assert not any(reactor.internal_errors for reactor in reactors)
