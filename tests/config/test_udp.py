"""UDP at either end: its keys, and those of others that have no effect with it."""

from __future__ import annotations

import pytest

from engine.config import AgentConfig, ForwardConfig, Section, Target, UdpConfig
from tests.config.reading import ABOVE_ZERO, Write, load, mistake


def test_both_ends_may_say_how_long_and_how_many(write: Write) -> None:
    agent = load(
        AgentConfig,
        write("listeners: [{endpoint_id: dns, addr: 53, protocol: udp, udp: {idle: 5m, max_flows: 9, max_queue: 7}}]"),
    )
    assert isinstance(agent, AgentConfig)
    (listener,) = agent.listeners
    assert listener.udp == UdpConfig(idle=300, max_flows=9, max_queue=7)
    assert listener.target() == Target("udp", "localhost", 53, "")
    forward = load(
        ForwardConfig,
        write(
            "ports: [{addr: 53, endpoint_id: dns, protocol: udp, udp: {idle: 1m}}, {addr: 53, endpoint_id: dns-tcp}]"
        ),
    )
    assert isinstance(forward, ForwardConfig)
    assert [port.protocol for port in forward.ports] == ["udp", "tcp"]


WRONG = [
    (
        ForwardConfig,
        "ports: [{addr: 1, endpoint_id: a, protocol: sctp}]",
        "ports[0].protocol: 'sctp': expected one of tcp, udp",
    ),
    (
        ForwardConfig,
        "ports: [{addr: 1, endpoint_id: a, udp: {idle: 5m}}]",
        "ports[0].udp: the protocol is tcp; expected it with udp",
    ),
    (
        ForwardConfig,
        "ports: [{addr: 1, endpoint_id: a, protocol: udp}, {addr: 1, endpoint_id: b, protocol: udp}]",
        "ports[1].addr: 'localhost:1': ports[0].addr is the same port; expected another one",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, udp: {max_queue: 9}}]",
        "listeners[0].udp: the protocol is http; expected it with udp",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp, udp: {idle: 0}}]",
        f"listeners[0].udp.idle: '0': expected {ABOVE_ZERO}",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp, udp: {max_flows: 0}}]",
        "listeners[0].udp.max_flows: '0': expected a whole number, 1 or more",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: http://b, protocol: udp}]",
        "listeners[0].addr: 'http://b': expected a port from 1 to 65535, host:port",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp, domains: [a.test]}]",
        "listeners[0].domains: 'a.test': UDP clients name no domain; expected none",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp, health: {check: tcp}}]",
        "listeners[0].health.check: 'tcp': the protocol is udp, which accepts no connections; expected off",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp, health: {check: http}}]",
        "listeners[0].health.check: 'http': the protocol is udp; expected off",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp, proxy_protocol: 2}]",
        "listeners[0].proxy_protocol: '2': a datagram has no room for a header; expected off",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_mistake_about_udp_is_told_in_one_line(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:1: {line}"
