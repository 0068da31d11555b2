"""Sessions that only measure, between a doctor's end and a node: what is asked for comes, and not more."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
import trio
from trio.testing import MockClock

from engine.carriers.carrier import LADDER, Kind
from engine.carriers.ladder import Ladder, probe
from engine.errors import Refused, Unreachable
from engine.loop.dial import Server
from engine.loop.duplex import Nobody
from engine.loop.reactor import Reactor
from engine.node import agent_port
from engine.node.agent_port import PROBE_SECONDS
from engine.session.probe import MOST_BYTES, MOST_STREAMS, transfer
from engine.session.session import Session
from engine.session.stream import Stream
from engine.wire import piko
from proxy_adapters import Router
from tests.programs import get
from tests.roles import Roles, RunningNode, server_config, settle

SECRET = "a secret of some forty characters, or more"
every_kind = pytest.mark.parametrize("kind", LADDER)


@asynccontextmanager
async def measuring(node: RunningNode, kind: Kind = Kind.WEBSOCKET, token: str = "") -> AsyncIterator[Session]:
    """A doctor's end of a session."""
    server = Server(f"http://127.0.0.1:{node.upstream}", router=Router(["direct"]))
    carrier, _ = await Ladder(probe(server, lambda: piko.credentials(token, "")), [kind]).open(lambda: None)
    session = Session(carrier, accepts=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        session.close()


@every_kind
async def test_each_way_is_measured_and_nothing_is_registered(roles: Roles, reactor: Reactor, kind: Kind) -> None:
    node = await roles.node()
    async with measuring(node, kind) as session:
        for size in (0, 1, 100_000, MOST_BYTES):
            assert await transfer(session, down=size) > 0
            assert await transfer(session, up=size) > 0
        assert json.loads((await get(node.admin, "/status/upstream/endpoints"))[1]) == {}


class Hears(Nobody):
    """What a stream that is said by hand brings, and how it ends."""

    def __init__(self, stream: Stream, said: bytes) -> None:
        self.heard = 0
        self.how = ""
        self.over = trio.Event()
        stream.receiver = self
        stream.put(said)
        stream.end()

    def received(self, data: memoryview) -> int:
        self.heard += len(data)
        return len(data)

    def ended(self) -> None:
        self.how = "ended"
        self.over.set()

    def lost(self, error: Exception) -> None:
        self.how = "lost"
        self.over.set()


@pytest.mark.parametrize(
    ("said", "heard", "how"),
    [
        (b"5\n", 5, "ended"),
        (b"5\n" + bytes(100_000), 5, "ended"),
        (b"", 0, "ended"),
        (b"12", 0, "ended"),
        (b"%d\n" % (MOST_BYTES + 1), 0, "lost"),
        (b"-1\n", 0, "lost"),
        (b"GET / HTTP/1.1\r\n\r\n", 0, "lost"),
        (b"1" * 100, 0, "lost"),
    ],
)
async def test_what_is_no_number_or_too_much_ends_its_stream(
    roles: Roles, reactor: Reactor, said: bytes, heard: int, how: str
) -> None:
    async with measuring(await roles.node()) as session:
        hears = Hears(session.open(), said)
        await hears.over.wait()
        assert (hears.heard, hears.how) == (heard, how)
        await transfer(session, down=10)


async def test_a_number_that_comes_byte_by_byte_is_one(roles: Roles, reactor: Reactor) -> None:
    async with measuring(await roles.node()) as session:
        stream = session.open()
        for byte in b"70000":
            stream.put(bytes([byte]))
            await settle()
        hears = Hears(stream, b"\n")
        await hears.over.wait()
        assert (hears.heard, hears.how) == (70_000, "ended")


async def test_a_session_has_so_many_streams_and_no_more(roles: Roles, reactor: Reactor) -> None:
    async with measuring(await roles.node()) as session:
        for _ in range(MOST_STREAMS):
            await transfer(session, down=1)
        with pytest.raises(ConnectionResetError):
            await transfer(session, down=1)


async def test_so_many_measure_at_a_time_and_each_for_so_long(
    roles: Roles, reactor: Reactor, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(agent_port, "MAX_PROBES", 2)
    node = await roles.node()
    async with measuring(node) as first, measuring(node, Kind.POLL):
        with pytest.raises(Unreachable, match=r"429.*too many others measure"):
            async with measuring(node, Kind.STREAM):
                pass
        await settle()
        mock_clock.jump(PROBE_SECONDS)
        await settle()
        assert not first.alive
    async with measuring(node) as again:
        await transfer(again, down=1)


@every_kind
async def test_any_good_token_may_measure_whatever_endpoints_it_is_for(
    roles: Roles, reactor: Reactor, kind: Kind
) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = SECRET
    node = await roles.node(config)
    async with measuring(node, kind, jwt.encode({"piko": {"endpoints": ["web"]}}, SECRET, "HS256")) as session:
        await transfer(session, down=1)
    for token in ("", jwt.encode({"exp": time.time() - 60}, SECRET, "HS256")):
        with pytest.raises(Refused, match="401"):
            async with measuring(node, kind, token):
                pass
