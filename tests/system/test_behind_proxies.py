"""Agents behind real proxies, as processes: they serve, lose their proxy under load, and are back by themselves."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from tests.conftest import Pki
from tests.programs import TRIODUCT, Node, Program, Programs, clean_environment
from tests.proxy_adapters.beds.bed import bed
from tests.proxy_adapters.beds.proxies import BEDS, Lab, Proxy, Squid, no_realm, write_passwords
from tests.system.ledger import load


@dataclass(frozen=True)
class Nodes:
    """Two nodes for all tests here: proxies that inspect TLS lead to the one that has TLS to inspect."""

    plain: Node
    secure: Node

    def behind(self, proxy: Proxy) -> Node:
        return self.secure if proxy.inspector else self.plain


@pytest.fixture(scope="module")
def nodes(pki: Pki) -> Iterator[Nodes]:
    tls = (f"--upstream.tls.cert={pki.cert}", f"--upstream.tls.key={pki.key}")
    made = Nodes(Node(), Node(options=tls))
    with bed("nodes") as where:
        for node in (made.plain, made.secure):
            where.start(*node.words(), port=node.admin, env=clean_environment())
        yield made


@pytest.fixture(scope="module")
def lab(nodes: Nodes, pki: Pki) -> Iterator[Lab]:
    with Lab(pki, [nodes.plain.upstream, nodes.secure.upstream]) as opened:
        yield opened


@pytest.fixture
def proxy(name: str, lab: Lab) -> Proxy:
    return lab.open(name)


class Agent:
    """An agent whose way out is a proxy (or a list of proxies with one login), after which its endpoint is called."""

    def __init__(self, proxy: Proxy, node: Node, program: Program) -> None:
        self.node = node
        self._proxy = proxy
        self._program = program
        self._lines = len(proxy.access_log.read_text().splitlines()) if isinstance(proxy, Squid) else 0
        self.wait_line = program.wait_line
        self.wait_end = program.wait_end

    async def wait_registered(self) -> None:
        await self.node.wait_registered(self._proxy.name)

    async def exchange(self) -> None:
        """Carry a megabyte down, a megabyte up, and a WebSocket."""
        base, named = f"127.0.0.1:{self.node.proxy}", [(b"x-piko-endpoint", self._proxy.name.encode())]
        body = random.randbytes(1_000_000)
        async with httpx.AsyncClient(base_url=f"http://{base}", headers=named, verify=False) as client:
            down = await client.get("/mirror?answer=1000000")
            assert hashlib.sha256(down.content).hexdigest() == down.headers["x-sent-sha256"]
            up = await client.put("/mirror", content=body)
            assert up.headers["x-got-sha256"] == hashlib.sha256(body).hexdigest()
        async with open_websocket_url(f"ws://{base}/echo", extra_headers=named) as socket:
            for message in ("text", b"bytes" * 10_000):
                await socket.send_message(message)
                assert await socket.get_message() == message

    @asynccontextmanager
    async def losing_its_proxy(self) -> AsyncIterator[None]:
        """Clients ask while the block runs, from the death of the proxy on; in the end it is back, by itself.

        Who fails meanwhile is told so: by a status, or in an answer that had begun and was broken off.
        """
        async with load(self.node.proxy, endpoint=self._proxy.name, clients=2, largest=20_000) as ledger:
            await ledger.wait_whole(5)
            seen = len(self._program.lines)
            self._proxy.stop()
            await self.wait_line("session ended, connecting again", seen=seen)
            yield
            await self.wait_registered()
            await ledger.wait_whole(5)
            failed = len(ledger.failed)
            await ledger.wait_whole(10)
            assert len(ledger.failed) == failed
        told = re.compile(r": (502|504) |Connection reset by peer|without sending complete message")
        assert [failure for failure in ledger.failed if not told.search(failure)] == []

    def denied(self, having: str = "") -> int:
        """How often the proxy has wanted to know more of it."""
        assert isinstance(self._proxy, Squid)
        lines = self._proxy.access_log.read_text().splitlines()[self._lines :]
        return sum("TCP_DENIED" in line and having in line for line in lines)

    def assert_discreet(self, *secrets: str) -> None:
        """It has had no mishap, and written none of these down."""
        assert self._program.process.poll() is None
        for word in ("Traceback", *secrets):
            assert word not in self._program.text


class Agents:
    """Starts agents. `password_file` is what they read a proxy's password from."""

    def __init__(self, programs: Programs, service: int, folder: Path, nodes: Nodes) -> None:
        self.password_file = folder / "password"
        self._programs = programs
        self._service = service
        self._folder = folder
        self._nodes = nodes

    async def start(self, proxy: Proxy, *others: Proxy) -> Agent:
        """It logs in to all as to the first."""
        node = self._nodes.behind(proxy)
        program = await self._programs.start(
            TRIODUCT,
            *("agent", "http", proxy.name, str(self._service)),
            f"--connect.url={'https' if proxy.inspector else 'http'}://localhost:{node.upstream}",
            # The way out alone is tried here. What else may carry a session has tests of its own (tests/carriers).
            *("--connect.carriers=websocket", "--connect.resume=0s"),
            *proxy.flags(self.password_file),
            *(f"--connect.proxy.url={other.url}" for other in others),
            env=proxy.env or no_realm(self._folder),
        )
        return Agent(proxy, node, program)

    def rotate(self, password: str) -> None:
        """Give agents another password, in one step: there is no moment at which the file is empty."""
        new = self.password_file.with_suffix(".new")
        new.write_text(password + "\n")
        new.chmod(0o600)
        new.rename(self.password_file)


@pytest.fixture
def agents(programs: Programs, origin: int, tmp_path: Path, nodes: Nodes) -> Agents:
    return Agents(programs, origin, tmp_path, nodes)


@pytest.mark.parametrize("name", [name for name in BEDS if name != "squid_inspecting"])
async def test_an_agent_serves_through_it_and_is_back_when_it_is(proxy: Proxy, agents: Agents) -> None:
    agent = await agents.start(proxy)
    await agent.wait_registered()
    await agent.exchange()
    async with agent.losing_its_proxy():
        await agent.wait_line(rf"cannot connect.*{proxy.port}.*refused")
        await trio.to_thread.run_sync(proxy.start)
    await agent.exchange()
    agent.assert_discreet("refused for", *filter(None, [proxy.password]))
    if isinstance(proxy, Squid):
        # A question without a login and NTLM's first leg; for the second tunnel that leg, or Digest's stale nonce.
        assert agent.denied() <= 3
        assert agent.denied("alice") == 0 or proxy.name == "squid_digest"


@pytest.mark.parametrize("name", ["squid_inspecting"])
async def test_where_the_upgrade_is_removed_the_agent_says_so(proxy: Proxy, agents: Agents) -> None:
    agent = await agents.start(proxy)
    await agent.wait_line("a proxy on the way removed the WebSocket upgrade")
    assert await agent.wait_end() == 1


@pytest.mark.parametrize("name", ["squid_hasty"])  # which ends what is silent for four seconds
async def test_an_agent_learns_how_long_its_proxy_bears_silence(proxy: Proxy, agents: Agents) -> None:
    agent = await agents.start(proxy)
    await agent.wait_line("silent sessions are cut, pinging sooner")
    await agent.wait_registered()
    await agent.exchange()


@pytest.mark.parametrize("name", ["squid_ntlm"])
async def test_the_loss_of_the_first_proxy_of_a_list_moves_the_tunnel_to_the_second(
    proxy: Proxy, lab: Lab, agents: Agents
) -> None:
    agent = await agents.start(proxy, lab.open("squid_digest"))
    await agent.wait_registered()
    async with agent.losing_its_proxy():
        pass
    agent.assert_discreet("refused for", proxy.password)
    proxy.start()


@pytest.mark.parametrize("name", ["squid_basic"])
async def test_a_password_that_is_rotated_on_both_sides_needs_no_restart(proxy: Proxy, agents: Agents) -> None:
    agent = await agents.start(proxy)
    await agent.wait_registered()
    async with agent.losing_its_proxy():
        write_passwords(proxy.bed, "n3w:p@ss")
        agents.rotate("n3w:p@ss")
        await trio.to_thread.run_sync(proxy.start)
    assert agent.denied("alice") == 0
    async with agent.losing_its_proxy():
        write_passwords(proxy.bed, proxy.password)
        await trio.to_thread.run_sync(proxy.start)
        await agent.wait_line("basic: refused for alice")
        agents.rotate(proxy.password)
    assert agent.denied("alice") == 1
    agent.assert_discreet("n3w:p@ss", proxy.password)
