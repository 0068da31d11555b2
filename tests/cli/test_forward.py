"""`trioduct forward`."""

from __future__ import annotations

import pytest

from tests.cli.command_line import Captured, complains


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("forward start", "ports: empty; expected some in --config.path FILE"),
        ("forward tcp x db", "ADDR: 'x': expected a port from 0 to 65535, or host:port"),
        ("forward tcp 3000 a/b", "ENDPOINT: 'a/b': expected a name without /"),
        ("forward tcp 3000", "Missing argument 'ENDPOINT' (trioduct forward tcp --help)"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)
