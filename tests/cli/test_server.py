"""`trioduct server`."""

from __future__ import annotations

import pytest

from engine.cli import main
from tests.cli.command_line import Captured, complains
from tests.programs import Node, Programs


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("server --proxy.timeout 5", "--proxy.timeout: '5': expected a duration such as 1m30s, 100ms or 0"),
        ("server --proxy.access-log.disable=maybe", "--proxy.access-log.disable: 'maybe': expected true or false"),
        ("server --config.path none.yaml", "none.yaml: No such file or directory; expected a YAML file"),
        (
            "server --cluster.join a",
            "--cluster.join: 'a': nodes do not gossip; expected cluster.store instead",
        ),
        ("server foo", "No such command 'foo' (trioduct server --help)"),
        ("server --proxy.bind-add :1", "No such option '--proxy.bind-add'"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


def test_config_check_says_what_changes_nothing(capsys: Captured) -> None:
    at_home = "--upstream.bind-addr=127.0.0.1:8001"
    assert main(["server", "config", "check", at_home, "--cluster.gossip.interval", "1s"]) == 0
    said = "trioduct: cluster.gossip.interval has no effect: nodes do not gossip, see cluster.store\n"
    assert capsys.readouterr().err == said


def test_config_check_says_that_the_upstream_port_is_open_to_everybody(capsys: Captured) -> None:
    assert main(["server", "config", "check"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        "trioduct: upstream.bind_addr :8001: any agent may register any endpoint there; set upstream.auth."
    )
    assert said.count("\n") == 1


async def test_a_node_says_in_one_line_each_what_has_no_effect_and_where_heads_end(programs: Programs) -> None:
    options = ("--cluster.join-timeout=1s", "--upstream.rebalance.threshold=0.2", "--proxy.http.max-header-bytes=40000")
    server = await Node(programs, options=options).start()
    await server.wait_line("node started")
    warnings = [line for line in server.lines if '"level":"warn"' in line]
    assert len(warnings) == 2, server.text
    alone = "upstream.rebalance.threshold, cluster.join_timeout have no effect: nodes do not gossip, see cluster.store"
    assert alone in warnings[0]
    assert "proxy.http.max_header_bytes 40000: the maximum is 32768 bytes" in warnings[1]
