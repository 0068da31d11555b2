"""How the checks of a service are configured."""

from __future__ import annotations

import pytest

from engine.config import AgentConfig
from tests.config.reading import ABOVE_ZERO, Write, mistake

LISTENER = "listeners: [{endpoint_id: a, addr: 1, protocol: %s, health: {%s}}]"


@pytest.mark.parametrize(
    ("protocol", "keys", "line"),
    [
        ("http", "check: ping", "check: 'ping': expected one of off, tcp, http"),
        ("tcp", "check: http", "check: 'http': the protocol is tcp; expected tcp, or off"),
        ("http", "path: /up", "path: '/up': check is off, which asks for nothing; expected check: http"),
        ("http", "check: http, path: up", "path: 'up': expected a path that begins with /, without blanks"),
        ("http", "check: tcp, interval: 0", f"interval: '0': expected {ABOVE_ZERO}"),
        ("http", "check: tcp, unhealthy_after: 0", "unhealthy_after: '0': expected a whole number, 1 or more"),
    ],
)
def test_a_mistake_is_told_in_one_line(protocol: str, keys: str, line: str, write: Write) -> None:
    assert mistake(AgentConfig, write(LISTENER % (protocol, keys))) == f"file.yaml:1: listeners[0].health.{line}"
