"""How rewriting is configured."""

from __future__ import annotations

import pytest

from engine.config import AgentConfig, to_yaml
from tests.config.reading import Write, load, mistake

LISTENER = "listeners: [{endpoint_id: a, addr: 1, protocol: %s, rewrite: {%s}}]"
FRAMING = "it says where a message ends, or is about one connection only; expected other headers"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("host: 'a b'", ".host: 'a b': expected a host, or host:port"),
        ("host: 'http://a'", ".host: 'http://a': expected a host, or host:port"),
        ("strip_prefix: shop", ".strip_prefix: 'shop': expected a path such as /shop, without / at its end"),
        ("strip_prefix: /shop/", ".strip_prefix: '/shop/': expected a path such as /shop, without / at its end"),
        ("strip_prefix: '/a?b'", ".strip_prefix: '/a?b': expected a path such as /shop, without / at its end"),
        ("request_headers: {set: [X-Key]}", ".request_headers.set: '***': expected a list of `Name: value`"),
        ("request_headers: {set: ['Host: a']}", ".request_headers.set: 'Host': expected rewrite.host instead"),
        ("request_headers: {add: ['Content-Length: 1']}", f".request_headers.add: 'Content-Length': {FRAMING}"),
        (
            "response_headers: {remove: [transfer-encoding]}",
            f".response_headers.remove: 'transfer-encoding': {FRAMING}",
        ),
        ("response_headers: {set: ['Connection: close']}", f".response_headers.set: 'Connection': {FRAMING}"),
        (
            "request_headers: {set: ['X-Piko-Endpoint: a']}",
            ".request_headers.set: 'X-Piko-Endpoint': it is between node and agent; expected other headers",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(keys: str, line: str, write: Write) -> None:
    assert mistake(AgentConfig, write(LISTENER % ("http", keys))) == f"file.yaml:1: listeners[0].rewrite{line}"


def test_bytes_have_nothing_to_rewrite(write: Write) -> None:
    said = mistake(AgentConfig, write(LISTENER % ("tcp", "host: a")))
    assert (
        said
        == "file.yaml:1: listeners[0].rewrite: the protocol is tcp, which has nothing to rewrite; expected it with http"
    )


def test_values_are_not_shown(write: Write) -> None:
    config = load(AgentConfig, write(LISTENER % ("http", "request_headers: {set: ['X-Key: s3cret']}")))
    assert "s3cret" not in to_yaml(config)
    assert "s3cret" not in repr(config)
    assert isinstance(config, AgentConfig)
    assert config.listeners[0].rewrite.request_headers.lines == [b"X-Key: s3cret"]
