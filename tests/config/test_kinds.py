"""What a value may be, and what is said about text that is none."""

from __future__ import annotations

import pytest

from engine.config import Section, ServerConfig
from tests.config.reading import ABOVE_ZERO, DURATION, Write, mistake

WRONG = [
    (ServerConfig, "proxy:\n  timeout: 10", f"2: proxy.timeout: '10': expected {DURATION}"),
    (ServerConfig, "proxy: {timeout: -1s}", f"1: proxy.timeout: '-1s': expected {DURATION}"),
    (ServerConfig, "grace_period: 0", f"1: grace_period: '0': expected {ABOVE_ZERO}"),
    (ServerConfig, "proxy: {timeout: [1s]}", f"1: proxy.timeout: a list: expected {DURATION}"),
    (ServerConfig, "proxy: {timeout: {a: 1s}}", f"1: proxy.timeout: a mapping: expected {DURATION}"),
    (ServerConfig, "log: {level: WARN}", "1: log.level: 'WARN': expected one of debug, info, warn, error"),
    (ServerConfig, "log: {subsystems: a}", "1: log.subsystems: 'a': expected a list of texts"),
    (ServerConfig, "log: {subsystems: [[a]]}", "1: log.subsystems: a list: expected a list of texts"),
    (
        ServerConfig,
        "proxy: {access_log: {disable: maybe}}",
        "1: proxy.access_log.disable: 'maybe': expected true or false",
    ),
    (
        ServerConfig,
        "proxy: {bind_addr: 8000}",
        "1: proxy.bind_addr: '8000': expected host:port or :port, the port from 0 to 65535",
    ),
    (
        ServerConfig,
        "proxy: {bind_addr: ':65536'}",
        "1: proxy.bind_addr: ':65536': expected host:port or :port, the port from 0 to 65535",
    ),
    (ServerConfig, "proxy: {advertise_addr: ':80'}", "1: proxy.advertise_addr: ':80': expected host:port"),
    (
        ServerConfig,
        "proxy: {http: {max_header_bytes: 1e6}}",
        "1: proxy.http.max_header_bytes: '1e6': expected a whole number, 1 or more",
    ),
    (
        ServerConfig,
        "upstream: {rebalance: {shed_rate: 1.1}}",
        "1: upstream.rebalance.shed_rate: '1.1': expected a number from 0 to 1",
    ),
    (
        ServerConfig,
        "upstream: {rebalance: {threshold: .nan}}",
        "1: upstream.rebalance.threshold: '.nan': expected a number, 0 or more",
    ),
    (
        ServerConfig,
        "upstream: {rebalance: {min_conns: -1}}",
        "1: upstream.rebalance.min_conns: '-1': expected a whole number, 0 or more",
    ),
    (
        ServerConfig,
        "cluster: {gossip: {max_packet_size: 0}}",
        "1: cluster.gossip.max_packet_size: '0': expected a whole number, 1 or more",
    ),
    (ServerConfig, "cluster: {join: [a/b]}", "1: cluster.join: 'a/b': expected a list of host or host:port"),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_value_of_another_kind_is_told_with_what_would_be_right(
    root: type[Section], text: str, line: str, write: Write
) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"
