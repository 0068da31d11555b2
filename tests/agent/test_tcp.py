"""TCP listeners: what the access log says of their connections. How bytes pass is in tests/node/test_tcp.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO

import pytest

from engine import log
from tests.agent.upstream_port import Port, start
from tests.peers import DATA, FIN, SYN, WINDOW
from tests.roles import Roles, agent_config, echo, settle


@pytest.fixture
def stream() -> Iterator[StringIO]:
    stream = StringIO()
    log.configure("info", (), stream)
    yield stream
    log.configure("warn")


@pytest.mark.parametrize(
    ("level", "disabled", "lines"),
    [("info", False, 2), ("warn", False, 2), ("debug", False, 0), ("info", True, 0)],
)
async def test_a_connection_is_logged_when_it_is_opened_and_when_it_is_closed(
    roles: Roles, port: Port, stream: StringIO, level: str, disabled: bool, lines: int
) -> None:
    config = agent_config(port.number, await roles.service(echo), endpoint="database", protocol="tcp")
    config.listeners[0].access_log.level = level  # type: ignore[assignment]
    config.listeners[0].access_log.disable = disabled
    peer = await start(roles, port, config)
    await peer.say(DATA, SYN, 2, b"hello")
    await peer.hear_data(2, b"hello")
    await peer.say(WINDOW, FIN, 2)
    await peer.hear_until(WINDOW, FIN, 2)
    await settle()
    log.flush()
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = [line for line in said if line["subsystem"] == "proxy.tcp.access"]
    assert len(found) == lines
    if lines:
        opened, closed = found
        assert (opened["msg"], opened["endpoint-id"], opened["level"]) == ("connection opened", "database", level)
        assert (closed["msg"], closed["bytes_in"], closed["bytes_out"]) == ("connection closed", 5, 5)
