"""How retries are configured."""

from __future__ import annotations

import pytest

from engine.config import ServerConfig
from engine.config.retry import RetryConfig
from engine.gateway.retry import ATTEMPTS, LOST, REPEATABLE, STATUSES, TIMEOUT
from tests.config.reading import Write, load, mistake

CAUSES = "expected a list of lost, timeout, 502, 503, 504"
METHODS = "expected a list of GET, HEAD, OPTIONS, TRACE, PUT, DELETE, POST, PATCH"


def test_the_default_is_what_a_node_does_without_it() -> None:
    config = RetryConfig()
    assert (config.attempts, config.causes, config.methods, config.budget) == (ATTEMPTS, [LOST], [*REPEATABLE], 1)


def test_what_is_configured_is_read(write: Write) -> None:
    keys = "attempts: 3, causes: [lost, timeout, 502, 503, 504], methods: [get, post], budget: 0.2"
    loaded = load(ServerConfig, write(f"proxy: {{retry: {{{keys}}}}}"))
    assert isinstance(loaded, ServerConfig)
    config = loaded.proxy.retry
    assert (config.attempts, config.methods, config.budget) == (3, ["GET", "POST"], 0.2)
    assert config.causes == [LOST, TIMEOUT, *STATUSES]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("attempts: 0", "attempts: '0': expected a whole number from 1 to 10"),
        ("attempts: 11", "attempts: '11': expected a whole number from 1 to 10"),
        ("causes: 500", f"causes: '500': {CAUSES}"),
        ("causes: [lost, error]", f"causes: 'error': {CAUSES}"),
        ("methods: [GET, CONNECT]", f"methods: 'CONNECT': {METHODS}"),
        ("budget: 20%", "budget: '20%': expected a number from 0 to 1"),
        ("budget: 1.1", "budget: '1.1': expected a number from 0 to 1"),
    ],
)
def test_a_mistake_is_told_in_one_line(keys: str, line: str, write: Write) -> None:
    assert mistake(ServerConfig, write(f"proxy: {{retry: {{{keys}}}}}")) == f"file.yaml:1: proxy.retry.{line}"
