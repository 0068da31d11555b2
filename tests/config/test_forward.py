"""Everything about a forward."""

from __future__ import annotations

import pytest

from engine.config import ForwardConfig, PortConfig, Section, shown
from tests.config.reading import Write, load, mistake, unchanged


def test_a_forward_file_may_hold_every_key_of_piko_and_ours(write: Write) -> None:
    config = load(
        ForwardConfig,
        write("""
            connect: {url: http://node:8000, token: t0ken, tenant_id: a, timeout: 1m, proxy_url: http://proxy:3128}
            ports:
              - {addr: 3000, endpoint_id: database}
              - {addr: "0.0.0.0:3001", endpoint_id: database}
            """),
    )
    assert isinstance(config, ForwardConfig)
    left = unchanged(shown(config.connect), shown(ForwardConfig().connect))
    assert [key for key in left if not key.startswith(("proxy.", "token_file", "token_command"))] == [
        "carriers",
        "resume",
        "memory",
    ] + [f"tls.{name}" for name in ("cert", "key", "root_cas", "insecure_skip_verify", "server_name")]
    assert config.listens() == [("ports[0].addr", "localhost:3000"), ("ports[1].addr", "0.0.0.0:3001")]


WRONG = [
    (
        ForwardConfig,
        "ports: [{endpoint_id: a}]",
        "1: ports[0].addr: missing; expected a port from 0 to 65535, or host:port",
    ),
    (ForwardConfig, "ports: [{addr: 1}]", "1: ports[0].endpoint_id: missing; expected the name of an endpoint"),
    (
        ForwardConfig,
        "ports: [{addr: 1, endpoint_id: a}, {addr: 1, endpoint_id: b}]",
        "1: ports[1].addr: 'localhost:1': ports[0].addr is the same port; expected another one",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_mistake_about_a_port_is_told_in_one_line(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


def test_a_port_alone_is_listened_on_at_localhost() -> None:
    assert PortConfig(addr="3000").bind_addr == "localhost:3000"
    assert PortConfig(addr="0.0.0.0:3000").bind_addr == "0.0.0.0:3000"
