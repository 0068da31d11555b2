"""A UDP listener: its flows are bounded, counted, and told of when they end. How datagrams pass is in tests/forward."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from io import StringIO

import pytest

from engine import log
from engine.loop.udp import Place, connect_udp
from engine.wire.datagrams import OPEN, READY, encode_head, encode_over
from tests.agent.upstream_port import Port, start
from tests.peers import DATA, FIN, RST, SYN, WINDOW
from tests.programs import free_port
from tests.roles import Roles, agent_config, settle
from tests.udp import Udp


@pytest.fixture
def stream() -> Iterator[StringIO]:
    stream = StringIO()
    log.configure("info", (), stream)
    yield stream
    log.configure("warn")


async def test_flows_are_bounded_counted_and_logged(roles: Roles, port: Port, stream: StringIO) -> None:
    udp, metrics = Udp(roles), free_port()
    config = agent_config(port.number, await udp.bind(), endpoint="dns", protocol="udp")
    config.listeners[0].access_log.disable = False
    config.listeners[0].udp.max_flows = 2
    config.server.enabled, config.server.bind_addr = True, f"127.0.0.1:{metrics}"
    peer = await start(roles, port, config)
    await peer.say(DATA, SYN, 2, OPEN)
    await peer.hear_data(2, READY)
    asked_by = []
    for flow in (1, 2, 3, 1):  # the third ends the first
        await peer.say(DATA, 0, 2, encode_head(flow, 5) + b"hello")
        data, name = await udp.sock.recvfrom(100)
        asked_by.append(name)
        await udp.sock.sendto(data.upper() + b"!", name)
        await peer.hear_data(2, encode_head(flow, 6) + b"HELLO!")
    assert len(set(asked_by)) == 4
    await peer.say(DATA, 0, 2, encode_over(1) + encode_over(99))
    await settle()
    client = await roles.dial(metrics)
    body = (await client.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).body.decode()
    figures = {
        'flows_open{endpoint="dns"} 1.0',
        'flows_total{endpoint="dns"} 4.0',
        'datagrams_total{direction="in",endpoint="dns"} 4.0',
        'bytes_total{direction="in",endpoint="dns"} 20.0',
        'bytes_total{direction="out",endpoint="dns"} 24.0',
        'dropped_total{endpoint="dns"} 0.0',
    }
    assert figures <= {line.removeprefix("trioduct_udp_") for line in body.splitlines()}
    await peer.say(WINDOW, FIN, 2)
    await peer.hear_until(WINDOW, FIN, 2)
    await settle()
    log.flush()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    ends = [line for line in lines if line["subsystem"] == "proxy.udp.access"]
    assert [line["reason"] for line in ends] == ["too many flows"] * 2 + ["ended by the forward"] * 2
    assert (ends[0]["datagrams_in"], ends[0]["bytes_out"], ends[0]["dropped"]) == (1, 6, 0)


async def test_without_a_descriptor_the_longest_idle_flow_gives_up_its_own(
    roles: Roles, port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = iter([False, False, True, False])

    def connect(place: Place) -> socket.socket:
        if next(is_full):
            raise OSError(errno.EMFILE, "Too many open files")
        return connect_udp(place)

    monkeypatch.setattr("engine.agent.udp.connect_udp", connect)
    udp = Udp(roles)
    peer = await start(roles, port, agent_config(port.number, await udp.bind(), protocol="udp"))
    await peer.say(DATA, SYN, 2, OPEN)
    await peer.hear_data(2, READY)
    for flow in (1, 2, 3):
        await peer.say(DATA, 0, 2, encode_head(flow, 1) + b"%d" % flow)
        data, name = await udp.sock.recvfrom(10)
        assert data == b"%d" % flow
        await udp.sock.sendto(data, name)
        await peer.hear_data(2, encode_head(flow, 1) + data)


async def test_what_is_no_frame_ends_its_tunnel_and_no_other(roles: Roles, port: Port) -> None:
    udp = Udp(roles)
    peer = await start(roles, port, agent_config(port.number, await udp.bind(), protocol="udp"))
    for id in (2, 4):
        await peer.say(DATA, SYN, id, OPEN)
        await peer.hear_data(id, READY)
    await peer.say(DATA, 0, 2, encode_head(1, 65530))
    await peer.hear_until(WINDOW, FIN, 2)
    await peer.say(DATA, 0, 4, encode_head(1, 2) + b"ok")
    assert await udp.sock.recv(10) == b"ok"


async def test_a_service_whose_name_is_unknown_is_told_of(roles: Roles, port: Port, stream: StringIO) -> None:
    peer = await start(roles, port, agent_config(port.number, "nowhere.invalid:53", protocol="udp"))
    await peer.say(DATA, SYN, 2, OPEN)
    await peer.hear_until(WINDOW, RST, 2)
    log.flush()
    assert "upstream unreachable" in stream.getvalue()
