"""`trioduct server`."""

from __future__ import annotations

import pytest

from engine.cli import main
from tests.cli.command_line import Captured, complains


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("server --proxy.timeout 5", "--proxy.timeout: '5': expected a duration such as 1m30s, 100ms or 0"),
        ("server --proxy.access-log.disable=maybe", "--proxy.access-log.disable: 'maybe': expected true or false"),
        ("server --config.path none.yaml", "none.yaml: No such file or directory; expected a YAML file"),
        (
            "server --cluster.join a",
            "--cluster.join: 'a': clusters are not supported in this version; expected none to join",
        ),
        ("server foo", "No such command 'foo' (trioduct server --help)"),
        ("server --proxy.bind-add :1", "No such option '--proxy.bind-add'"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


def test_config_check_says_what_changes_nothing(capsys: Captured) -> None:
    assert main(["server", "config", "check", "--cluster.gossip.interval", "1s"]) == 0
    said = "trioduct: membership is not gossip here, so these change nothing: cluster.gossip.interval\n"
    assert capsys.readouterr().err == said
