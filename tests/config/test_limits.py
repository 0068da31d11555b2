"""Limits of a node, as text."""

from __future__ import annotations

import pytest

from engine.config import ServerConfig
from tests.config.reading import Write, load, mistake


def test_limits_are_whole_numbers(write: Write) -> None:
    config = load(ServerConfig, write("proxy: {limits: {requests: 50, connections: 0}}"))
    assert isinstance(config, ServerConfig)
    assert (config.proxy.limits.requests, config.proxy.limits.connections) == (50, 0)
    assert config.upstream.limits.sessions == 1000


@pytest.mark.parametrize("value", ["-1", "1.5", "many"])
def test_what_is_no_limit_is_told(write: Write, value: str) -> None:
    said = mistake(ServerConfig, write(f"upstream: {{limits: {{registrations: {value}}}}}"))
    assert said == f"file.yaml:1: upstream.limits.registrations: '{value}': expected a whole number, 0 or more"
