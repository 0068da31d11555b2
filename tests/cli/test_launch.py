"""From a command line to a running role."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import yaml

from engine.cli import main
from engine.cli.launch import role_of
from engine.config import ServerConfig
from engine.config.draft import Draft
from engine.loop.leaving import heed_signals
from engine.node.node import run_node
from tests.cli.command_line import Captured, complains, effective, value_of

OFFERS = {
    "server": "\nupstream: {bind_addr: '127.0.0.1:8001'}",
    "agent": "\nlisteners: [{endpoint_id: a, addr: 1}]",
    "forward": "\nports: [{endpoint_id: a, addr: 1}]",
}
NOTHING = {"agent": "listeners: empty", "forward": "ports: empty"}


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("TRIODUCT_CONNECT_URL", "http://a:1")
    monkeypatch.setenv("TRIODUCT_CONNECT_TOKEN", "5ecret")
    monkeypatch.setenv("TRIODUCT_TIMEOUT", "3s")
    config = effective(capsys, "agent", "http", "a", "1", "--connect.url", "http://b:1")
    assert value_of(config, "connect.url") == "http://b:1"
    assert value_of(config, "connect.token") == "***"
    assert value_of(config["listeners"][0], "timeout") == "3s"  # type: ignore[index]


def test_the_file_may_come_from_the_environment_and_is_expanded_when_told_to(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Path("a.yaml").write_text("connect: {url: 'http://${HOST}:1'}")
    monkeypatch.setenv("HOST", "a")
    monkeypatch.setenv("TRIODUCT_CONFIG_PATH", "a.yaml")
    config = effective(capsys, "agent", "http", "a", "1", "--config.expand-env", "--connect.url", "http://b:1")
    assert value_of(config, "connect.url") == "http://a:1"


def test_flags_of_the_two_start_commands(capsys: Captured) -> None:
    Path("agent.yaml").write_text("listeners: [{endpoint_id: a, addr: 1}]")
    Path("forward.yaml").write_text("ports: [{endpoint_id: a, addr: 1}]")
    for role in ("agent", "forward"):
        config = effective(capsys, role, "--log.level=warn", "start", "--config.path", f"{role}.yaml")
        assert value_of(config, "log.level") == "warn"


@pytest.mark.parametrize("role", ["agent", "forward"])
def test_config_check_finds_that_there_is_nothing_to_start(role: str, capsys: Captured) -> None:
    Path("a.yaml").write_text("log: {level: warn}")
    complains(f"{role} config check --config.path a.yaml", NOTHING[role], capsys)
    complains(f"{role} start --config.path a.yaml", NOTHING[role], capsys)


@pytest.mark.parametrize("role", ["server", "agent", "forward"])
def test_config_check_prints_what_would_be_in_effect(role: str, capsys: Captured) -> None:
    Path("a.yaml").write_text(f"log: {{level: warn}}{OFFERS[role]}")
    assert main([role, "config", "check", "--config.path", "a.yaml"]) == 0
    checked = capsys.readouterr()
    assert yaml.safe_load(checked.out)["log"] == {"level": "warn", "subsystems": []}
    assert checked.err == ""
    assert main([role, "--config.path", "a.yaml", "config", "check"]) == 0
    assert capsys.readouterr() == checked


def test_config_check_shows_the_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", "http://alice:5ecret@proxy:3128")
    for words in ("agent http shop 3000", "agent tcp shop 3000", "forward tcp 3000 shop", "doctor"):
        command = [*words.split(), "--config.check", "--connect.url", "https://node:1"]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert out.startswith("# the way to the node: http://proxy:3128 (environment: https_proxy)\nconnect:\n")
        assert "5ecret" not in out
        assert yaml.safe_load(out)["connect"]["url"] == "https://node:1"
        for other in ("--connect.proxy.url=direct", "--connect.proxy.no-proxy=node", "--connect.url=http://node:1"):
            assert main([*command, other]) == 0
            assert capsys.readouterr().out.startswith("connect:\n")


def test_config_check_shows_no_secret(capsys: Captured) -> None:
    Path("a.yaml").write_text(
        "connect: {token: 5ecret, proxy_url: 'http://user:5ecret@proxy:1', url: 'http://me:5ecret@node:1'}"
        + OFFERS["agent"]
    )
    assert main(["agent", "config", "check", "--config.path", "a.yaml"]) == 0
    out = capsys.readouterr().out
    assert "5ecret" not in out
    assert "http://user:***@proxy:1" in out


def test_one_worker_is_the_node_that_runs_without_the_option() -> None:
    told, untold = Draft(ServerConfig), Draft(ServerConfig)
    told.read_flags({"--workers": ["1"]})
    assert told.finish() == untold.finish()
    role = role_of(told.finish())
    assert isinstance(role, partial)
    assert role.func is heed_signals
    assert role.args[0].func is run_node
