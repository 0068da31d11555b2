"""`trioduct doctor`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from engine.cli import main
from tests.cli.command_line import Captured, complains


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("doctor --patient", "--patient: needs a session; expected ENDPOINT as well"),
        ("doctor --measure", "--measure: needs a session; expected ENDPOINT as well"),
        ("doctor a/b", "ENDPOINT: 'a/b': expected a name without /"),
        ("doctor --connect.proxy.url proxy", "--connect.proxy.url: 'proxy': name the port of the proxy"),
        (
            "doctor --connect.proxy-url http://a:1 --connect.proxy.url http://a:1",
            "--connect.proxy-url: 'http://a:1': set as well as proxy.url; expected one of the two",
        ),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


def test_doctor_ends_with_the_code_of_its_verdict_and_speaks_json(capsys: Captured) -> None:
    with socket.socket() as listener:  # it is bound and does not listen: nobody else gets the port
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["doctor", "--connect.url", url, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["exit_code"]) == ("blocked", 1)
    assert told["steps"][-1]["text"] == "Connection refused"


def test_doctor_takes_the_file_of_an_agent_and_shows_what_it_would_use(capsys: Captured) -> None:
    Path("a.yaml").write_text("connect: {url: 'http://node:1', proxy: {url: ['http://a:5ecret@p:1']}}\nlisteners: []")
    assert main(["doctor", "--config.path", "a.yaml", "--config.check"]) == 0
    assert "http://a:***@p:1" in capsys.readouterr().out
