"""`trioduct agent`."""

from __future__ import annotations

import pytest

from tests.cli.command_line import Captured, complains


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            "agent http shop",
            "ADDR: missing; expected a port from 1 to 65535, host:port or http(s)://host, or an application (asgi)",
        ),
        ("agent http shop 3000 x", "Got unexpected extra argument (x) (trioduct agent http --help)"),
        ("agent http shop nowhere", "ADDR: 'nowhere': expected a port from 1 to 65535, host:port or http(s)://host"),
        ("agent tcp shop http://a", "ADDR: 'http://a': expected a port from 1 to 65535, host:port"),
        ("agent http a/b 3000", "ENDPOINT: 'a/b': expected a name without /"),
        ("agent http shop 3000 --connect.token=a\tb", "--connect.token: '***': expected a token, no blanks in it"),
        ("agent tcp db 1 --http-client.max-idle-conns 1", "No such option '--http-client.max-idle-conns'"),
        ("agent start", "listeners: empty; expected some in --config.path FILE"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)
