"""Agents and forwards behind each middlebox, as processes that are told the node's URL and nothing of the box.

(But for what any agent behind a forward proxy is told: the proxy, and who issues what it shows.) TRIODUCT_FULL=1 cuts
dozens of times where else it is a few, uploads and forwards through every box, and waits until a silent cut is noticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from perf.topologies.cutter import Cutter
from tests.carriers.beds import KINDS, Middlebox, open_middlebox
from tests.carriers.facts import FACTS
from tests.conftest import Pki
from tests.programs import TRIODUCT, Node, Program, Programs, free_port, get, needs
from tests.roles import Talk
from tests.system.ledger import load

FULL = "TRIODUCT_FULL" in os.environ
UP_SECONDS = 40
GOOD_BYE_SECONDS = 2
REQUESTS = 1000
MESSAGES = 200
BODY_BYTES = 256 << 20
GROWTH_KIB = 24 << 10
CUTS = 50 if FULL else 2
NUMBER_BYTES = 8
BATCH = 512

# Where each connection falls silent after seconds, what is carried is decided by how soon that is noticed.
BOXES = [name for name in KINDS if name != "cutter_silence"]
CUTTERS = ["cutter_reset", "cutter_close"]
# One for each carrier, and one that cuts them.
UNLIKE = BOXES if FULL else ["nginx_buffering", "nginx_streaming", "squid_lifetime", "cutter_reset"]


@dataclass(frozen=True)
class Tunnel:
    """An agent behind a box, whose service is tests.origin's. `base` is where clients call the node."""

    node: Node
    server: Program
    agent: Program
    box: Middlebox

    @property
    def base(self) -> str:
        return f"127.0.0.1:{self.node.proxy}"


async def say_good_bye(*programs: Program) -> None:
    """Stop them while there is a way to say so. Who has something under way is told again when the box is gone."""
    with trio.move_on_after(GOOD_BYE_SECONDS):
        for program in programs:
            await program.stop()


NAMED = {"x-piko-endpoint": "web"}


@pytest.fixture
async def tunnel(checked: str, programs: Programs, origin: int, pki: Pki) -> AsyncIterator[Tunnel]:
    """It has answered a request: that it is registered is no proof, where a box swallows what comes behind 101."""
    node = Node(programs)
    server = await node.start()
    async with open_middlebox(checked, node.upstream, pki) as box:
        agent = await programs.start(TRIODUCT, "agent", "http", "web", str(origin), *box.flags())
        with trio.fail_after(UP_SECONDS):
            await wait_answered(node, agent)
        yield Tunnel(node, server, agent, box)
        await say_good_bye(agent)


async def wait_answered(node: Node, agent: Program) -> None:
    """Return when a request has been answered by the service; raise when the agent has ended instead."""
    async with httpx.AsyncClient(headers=NAMED, timeout=5, verify=False) as client:
        while agent.process.poll() is None:
            try:
                if (await client.get(f"http://127.0.0.1:{node.proxy}/fields")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await trio.sleep(0.05)  # the node is another process, which sends no events
    raise RuntimeError(f"the agent ended:\n{agent.text}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BOXES)
async def test_all_that_clients_do_at_once_passes(tunnel: Tunnel, name: str) -> None:
    """By the carrier of the table. On a busy machine a stream may look as if it were held back: then it is a poll."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_a_thousand_times, tunnel)
        nursery.start_soon(talk_by_websocket, tunnel)
        nursery.start_soon(hear_events, tunnel)
    if name in FACTS:
        _, said = await get(tunnel.node.admin, "/status/upstream/sessions")
        used = {session["carrier"] for session in json.loads(said) if not session["suspended"]}
        assert used
        assert used <= {FACTS[name].carrier, "poll" if FACTS[name].carrier == "stream" else ""}


async def ask_a_thousand_times(tunnel: Tunnel) -> None:
    """Each way whole, by their hashes."""
    async with load(tunnel.node.proxy, clients=8, largest=20_000) as ledger:
        await ledger.wait_whole(REQUESTS)
    assert ledger.failed == []


async def talk_by_websocket(tunnel: Tunnel) -> None:
    """Messages of many sizes come back in order."""
    headers = [(b"x-piko-endpoint", b"web")]
    async with open_websocket_url(f"ws://{tunnel.base}/echo", extra_headers=headers) as socket:

        async def say() -> None:
            for number in range(MESSAGES):
                await socket.send_message(f"{number} " + "x" * (number % 50 * 100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            for number in range(MESSAGES):
                assert (await socket.get_message()).split()[0] == str(number)


async def hear_events(tunnel: Tunnel) -> None:
    """Server-sent events come in order, and each at once."""
    async with (
        httpx.AsyncClient(base_url=f"http://{tunnel.base}", headers=NAMED, timeout=None, verify=False) as client,
        await trio.open_tcp_stream("127.0.0.1", tunnel.node.proxy) as stream,
    ):
        listener = Talk(stream)
        await listener.say(b"GET /events HTTP/1.1\r\nHost: web.test\r\nX-Piko-Endpoint: web\r\n\r\n")
        await listener.until(b"data: open\n\n")
        # Each is awaited before the next is caused: an event that is kept back until more follow would never come.
        for number in range(50):
            assert (await client.post("/event", content=str(number))).status_code == 204
            assert (await listener.until(b"\n\n")).endswith(b"data: %d\n\n" % number)
        await listener.reset()  # FIN alone would say that it still listens


@needs("curl")
@pytest.mark.timeout(600 if FULL else 240)
@pytest.mark.parametrize("name", UNLIKE)
async def test_a_large_upload_takes_no_memory(tunnel: Tunnel, programs: Programs, name: str, tmp_path: Path) -> None:
    large = tmp_path / "large"

    async def carry(size: int) -> None:
        with large.open("wb") as file:
            file.truncate(size)
        words = ("-sSf", "-H", "x-piko-endpoint: web", "-o", "/dev/null", f"http://{tunnel.base}/mirror", "-T", large)
        curl = await programs.start("curl", *words)
        assert await curl.wait_end() == 0, curl.text

    await carry(32 << 20)
    before = [program.peak_kib() for program in (tunnel.server, tunnel.agent)]
    await carry(BODY_BYTES)
    after = [program.peak_kib() for program in (tunnel.server, tunnel.agent)]
    print(f"{BODY_BYTES >> 20} MiB up through {name}, peak KiB of node and agent: {before} -> {after}")
    assert all(late - early < GROWTH_KIB for early, late in zip(before, after, strict=True))


# A forward: both legs are behind a box ----------------------------------------------------------------------


@dataclass(frozen=True)
class Wire:
    """A local port that leads through two boxes to a service which says what it hears."""

    port: int
    agents: Middlebox
    forwards: Middlebox

    def cuts(self) -> int:
        """How often each leg has been cut, by the one that was cut less."""
        assert self.agents.cutter
        assert self.forwards.cutter
        return min(self.agents.cutter.cuts, self.forwards.cutter.cuts)


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:

        async def echo(stream: trio.SocketStream) -> None:
            try:
                async with stream:
                    async for data in stream:
                        await stream.send_all(data)
            except trio.BrokenResourceError:
                pass

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.fixture
async def wire(checked: str, programs: Programs, echo_port: int, pki: Pki) -> AsyncIterator[Wire]:
    node = Node(programs)
    await node.start()
    port = free_port()
    async with (
        open_middlebox(checked, node.upstream, pki) as agents,
        open_middlebox(checked, node.proxy, pki) as forwards,
    ):
        agent = await programs.start(TRIODUCT, "agent", "tcp", "echo", str(echo_port), *agents.flags())
        forward = await programs.start(TRIODUCT, "forward", "tcp", str(port), "echo", *forwards.flags(), port=port)
        with trio.fail_after(UP_SECONDS):
            await wait_echoed(port, agent)
        yield Wire(port, agents, forwards)
        await say_good_bye(forward, agent)


async def wait_echoed(port: int, agent: Program) -> None:
    """Return when a byte has come back; raise when the agent has ended instead."""
    while agent.process.poll() is None:
        with trio.move_on_after(5):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                try:
                    await stream.send_all(b"?")
                    if await stream.receive_some() == b"?":
                        return
                except trio.BrokenResourceError:
                    pass
            await trio.sleep(0.05)  # the agent is another process, which sends no events
    raise RuntimeError(f"the agent ended:\n{agent.text}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", UNLIKE)
async def test_a_forward_carries_a_connection_to_its_end(wire: Wire, name: str) -> None:
    assert await send_numbers(wire.port, lambda sent: sent < 100_000) >= 100_000


@pytest.mark.timeout(1200 if FULL else 120)
@pytest.mark.parametrize("name", CUTTERS)
async def test_a_connection_outlives_the_cuts_of_both_legs(wire: Wire, name: str) -> None:
    before = wire.cuts()
    assert await send_numbers(wire.port, lambda _: wire.cuts() < before + CUTS) > 0


@pytest.mark.skipif(not FULL, reason="waits for most of a minute; TRIODUCT_FULL=1")
@pytest.mark.timeout(180)
async def test_a_connection_outlives_a_cut_of_which_nobody_is_told(
    programs: Programs, echo_port: int, nursery: trio.Nursery
) -> None:
    node = Node(programs)
    await node.start()
    cutter = Cutter(node.upstream, how="silence")
    url = f"--connect.url=http://127.0.0.1:{await nursery.start(cutter.run)}"
    agent = await programs.start(TRIODUCT, "agent", "tcp", "echo", str(echo_port), url)
    port = free_port()
    straight = f"--connect.url=http://127.0.0.1:{node.proxy}"
    await programs.start(TRIODUCT, "forward", "tcp", str(port), "echo", straight, port=port)
    with trio.fail_after(UP_SECONDS):
        await wait_echoed(port, agent)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        talk = Talk(stream)
        await talk.say(b"before")
        assert await talk.exactly(6) == b"before"
        cutter.cut()
        await talk.say(b"behind")
        assert await talk.exactly(6) == b"behind"


async def send_numbers(port: int, go_on: Callable[[int], bool]) -> int:
    """Send numbers for as long as it says to, given how many were sent, while they come back in order and complete;
    returns how many there were.
    """
    sent = 0
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:

        async def say() -> None:
            nonlocal sent
            while go_on(sent):
                numbers = range(sent, sent + BATCH)
                await stream.send_all(b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in numbers))
                sent += BATCH
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            expected, rest = 0, b""
            async for data in stream:
                rest += data
                whole = len(rest) // NUMBER_BYTES * NUMBER_BYTES
                for at in range(0, whole, NUMBER_BYTES):
                    assert int.from_bytes(rest[at : at + NUMBER_BYTES], "big") == expected
                    expected += 1
                rest = rest[whole:]
    assert rest == b""
    assert expected == sent
    return sent
