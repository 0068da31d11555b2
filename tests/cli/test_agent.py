"""`trioduct agent`."""

from __future__ import annotations

import sys

import pytest

from engine.cli import main
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
        ("agent tcp db", "ADDR: missing; expected a port from 1 to 65535, host:port"),
        ("agent http 3000 --connect.url http://a:1", "ADDR: missing; expected a port from 1 to 65535, host:port or"),
        ("agent tcp shop http://a", "ADDR: 'http://a': expected a port from 1 to 65535, host:port"),
        ("agent http a/b 3000", "ENDPOINT: 'a/b': expected a name without /"),
        ("agent http shop 3000 --connect.token=a\tb", "--connect.token: '***': expected a token, no blanks in it"),
        ("agent tcp db 1 --http-client.max-idle-conns 1", "No such option '--http-client.max-idle-conns'"),
        ("agent start", "listeners: empty; expected some in --config.path FILE"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


@pytest.mark.parametrize(
    ("argv", "next_line"),
    [
        ("agent http 3000", "  trioduct agent http shop 3000"),
        ("agent http localhost:3000", "  trioduct agent http shop localhost:3000"),
        ("agent http http://a", "  trioduct agent http shop http://a"),
        ("agent tcp 5432", "  trioduct agent tcp shop 5432"),
    ],
)
def test_who_names_neither_endpoint_nor_node_is_told_how_to_get_one(
    argv: str, next_line: str, capsys: Captured
) -> None:
    assert main(argv.split()) == 2
    first, *others = capsys.readouterr().err.splitlines()
    *_, protocol, service = argv.split()
    assert first == (
        f"trioduct: `{argv}` names no endpoint and no node; expected agent {protocol} NAME {service} --connect.url URL"
    )
    assert others[1].startswith("  trioduct server ")
    assert others[2] == next_line
    assert "trioduct init" in others[-1]


def test_on_a_terminal_an_agent_without_a_node_says_how_to_get_one_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("engine.cli.agent.listens", lambda host, port: False)
    monkeypatch.setattr("engine.cli.agent.launch", lambda ctx, draft: 7)
    assert main(["agent", "http", "web", "3000"]) == 7
    assert "none runs on this machine yet\nA node of your own" in capsys.readouterr().err
    assert main(["agent", "http", "web", "3000", "--connect.url", "http://a:1"]) == 7
    assert capsys.readouterr().err == ""
