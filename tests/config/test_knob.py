"""What a declaration says, as data."""

from __future__ import annotations

import pytest

from engine.config import (
    MASK,
    AgentConfig,
    ConnectConfig,
    Draft,
    ForwardConfig,
    ListenerConfig,
    Section,
    ServerConfig,
    knobs,
    shown,
    to_yaml,
)
from tests.config.reading import ROOTS, Write, load


@pytest.mark.parametrize("root", ROOTS)
def test_every_knob_says_what_it_does_in_one_line_and_every_variable_is_of_one_knob(root: type[Section]) -> None:
    found = list(knobs(root))
    for knob in found:
        assert knob.help.endswith("."), knob.key
        assert len(knob.help) <= 90, knob.key
        assert knob.title, knob.key
    variables = [knob.variable for knob in found if knob.key != "connect.proxy_url"]  # has that of connect.proxy.url
    for names in ([knob.flag for knob in found], variables):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("root", ROOTS)
def test_every_default_is_what_a_person_could_have_written(root: type[Section]) -> None:
    shown_before = shown(root())
    draft = Draft(root)
    draft.read_flags({knob.flag: [text] for knob in knobs(root) if (text := knob.default(root))})
    assert shown(draft.config) == shown_before


@pytest.mark.parametrize("root", [ServerConfig, AgentConfig, ForwardConfig])
def test_the_defaults_are_valid_and_what_is_shown_of_them_reads_back_the_same(
    root: type[Section], write: Write
) -> None:
    defaults = Draft(root).finish()
    assert load(root, write(to_yaml(defaults))) == defaults


def test_the_defaults_are_those_of_piko_but_for_the_admin_ports_address() -> None:
    server, agent, forward = ServerConfig(), AgentConfig(), ForwardConfig()
    assert (server.proxy.bind_addr, server.upstream.bind_addr, server.admin.bind_addr) == (
        ":8000",
        ":8001",
        "127.0.0.1:8002",
    )
    assert (server.proxy.timeout, server.grace_period, agent.grace_period) == (30, 60, 60)
    http = server.proxy.http
    assert (http.read_timeout, http.read_header_timeout, http.write_timeout, http.idle_timeout) == (10, 10, 10, 300)
    assert http.max_header_bytes == 1048576
    rebalance = server.upstream.rebalance
    assert (rebalance.threshold, rebalance.shed_rate, rebalance.min_conns) == (0, 0.005, 50)
    cluster = server.cluster
    assert (cluster.join_timeout, cluster.abort_if_join_fails, cluster.gossip.interval) == (60, True, 0.1)
    assert (agent.connect.url, agent.connect.timeout) == ("http://localhost:8001", 30)
    assert (forward.connect.url, forward.connect.timeout) == ("http://localhost:8000", 30)
    assert (agent.server.enabled, agent.server.bind_addr) == (False, ":5000")
    assert server.log.level == server.proxy.access_log.level == "info"
    listener = ListenerConfig()
    assert (listener.protocol, listener.timeout, listener.access_log.disable) == ("http", 10, False)
    client = listener.http_client
    assert (client.keep_alive_timeout, client.idle_conn_timeout, client.max_idle_conns) == (30, 90, 100)


def test_a_section_is_printed_without_its_secrets() -> None:
    connect = ConnectConfig(
        url="http://me:pa55@node", token="t0ken", proxy_url="http://u:pa55@a:1 -> http://v:pa55@b:2"
    )
    assert "t0ken" not in repr(connect)
    assert "pa55" not in repr(connect)
    assert f"http://u:{MASK}@a:1 -> http://v:{MASK}@b:2" in repr(connect)
