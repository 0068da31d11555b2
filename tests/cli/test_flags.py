"""Knobs as flags: Piko's command lines, and ours."""

from __future__ import annotations

import re
import subprocess

import pytest

from engine.cli import main
from tests.cli.command_line import Captured, commands, complains, effective, flags_of, value_of
from tests.programs import piko

AUTH = {
    "audience": "me",
    "disable-disconnect-on-expiry": True,
    "hmac-secret-key": "***",
    "issuer": "you",
    "jwks.cache-ttl": "2h0m0s",
    "jwks.timeout": "5s",
}
ACCESS_LOG = {
    "access-log.disable": True,
    "access-log.level": "warn",
    "access-log.request-headers.allow-list": ["Accept", "Host"],
    "access-log.response-headers.block-list": ["Server"],
}
LOG = {"log.level": "debug", "log.subsystems": ["proxy", "client"]}
# Flag -> the value that it is given, as `config check` shows it. What needs files or excludes others is below.
SERVER = {
    **{f"{port}.auth.{name}": value for port in ("proxy", "upstream", "admin") for name, value in AUTH.items()},
    **{f"{port}.advertise-addr": "10.0.0.1:80" for port in ("proxy", "upstream", "admin", "cluster.gossip")},
    **{f"{port}.tls.client.insecure-skip-verify": True for port in ("proxy", "upstream", "admin")},
    **{f"{port}.tls.client.server-name": "node" for port in ("proxy", "upstream", "admin")},
    **{f"proxy.{name}": value for name, value in ACCESS_LOG.items()},
    **LOG,
    "proxy.bind-addr": "127.0.0.1:18000",
    "upstream.bind-addr": "127.0.0.1:18001",
    "admin.bind-addr": "127.0.0.1:18002",
    "cluster.gossip.bind-addr": "127.0.0.1:18003",
    "cluster.gossip.interval": "200ms",
    "cluster.gossip.max-packet-size": 1200,
    "cluster.abort-if-join-fails": False,
    "cluster.join-timeout": "2m0s",
    "cluster.node-id": "me",
    "cluster.node-id-prefix": "pod-",
    "grace-period": "1m30s",
    "proxy.timeout": "20s",
    "proxy.http.idle-timeout": "1s",
    "proxy.http.max-header-bytes": 8192,
    "proxy.http.read-header-timeout": "2s",
    "proxy.http.read-timeout": "3s",
    "proxy.http.write-timeout": "4s",
    "upstream.rebalance.min-conns": 7,
    "upstream.rebalance.shed-rate": 0.01,
    "upstream.rebalance.threshold": 0.2,
}
FORWARD = {
    **LOG,
    "connect.timeout": "5s",
    "connect.tls.insecure-skip-verify": True,
    "connect.token": "***",
    "connect.url": "https://node:8443",
}
AGENT = {
    **FORWARD,
    "connect.proxy-url": "http://user:***@proxy:3128",
    "connect.tenant-id": "tenant",
    "grace-period": "1m30s",
    "server.bind-addr": "127.0.0.1:15000",
    "server.enabled": True,
}
HTTP = {
    **ACCESS_LOG,
    "http-client.disable-compression": True,
    "http-client.idle-conn-timeout": "1m0s",
    "http-client.keep-alive-timeout": "10s",
    "http-client.max-idle-conns": -1,
    "timeout": "2s",
}
TCP = {"access-log.disable": True, "access-log.level": "warn", "timeout": "2s"}
FILES = ["cert", "key", "root-cas"]
NEEDS_MORE = {
    "server": [
        "config.path",
        "config.expand-env",
        "cluster.join",
        "proxy.access-log.request-headers.block-list",
        "proxy.access-log.response-headers.allow-list",
        *(
            f"{port}.{name}"
            for port in ("proxy", "upstream", "admin")
            for name in (
                "auth.jwks.endpoint",
                "auth.rsa-public-key",
                "auth.ecdsa-public-key",
                "tls.cert",
                "tls.key",
                "tls.client-cas",
                *(f"tls.client.{name}" for name in FILES),
            )
        ),
    ],
    "agent": ["config.path", "config.expand-env", *(f"connect.tls.{name}" for name in FILES)],
    "forward": ["config.path", "config.expand-env", *(f"connect.tls.{name}" for name in FILES)],
    "http": ["access-log.request-headers.block-list", "access-log.response-headers.allow-list"],
}
COMMANDS: dict[str, tuple[dict[str, object], dict[str, object], list[str]]] = {
    # command -> flags of the role, flags of the endpoint, flags that are not in either table
    "server": (SERVER, {}, NEEDS_MORE["server"]),
    "agent http": (AGENT, HTTP, NEEDS_MORE["agent"] + NEEDS_MORE["http"]),
    "agent tcp": (AGENT, TCP, NEEDS_MORE["agent"]),
    "forward tcp": (FORWARD, {}, NEEDS_MORE["forward"]),
}
ARGUMENTS = {"server": [], "agent http": ["shop", "3000"], "agent tcp": ["db", "5432"], "forward tcp": ["3000", "db"]}


def spelt(flag: str, value: object) -> list[str]:
    """A flag as a person would write it."""
    if value is True:
        return [f"--{flag}"]
    if value is False:
        return [f"--{flag}=false"]
    if isinstance(value, list):
        return [f"--{flag}", ",".join(value)]
    return [f"--{flag}", str(value).replace("***", "5ecret" * 6)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_piko_has_its_effect(command: str, capsys: Captured) -> None:
    of_role, of_endpoint, _ = COMMANDS[command]
    flags = [word for flag, value in (of_role | of_endpoint).items() for word in spelt(flag, value)]
    for argv in ([*command.split(), *flags, *ARGUMENTS[command]], [*command.split(), *ARGUMENTS[command], *flags]):
        config = effective(capsys, *argv)
        for flag, value in of_role.items():
            assert value_of(config, flag) == value, flag
        for flag, value in of_endpoint.items():
            listeners = config["listeners"]
            assert isinstance(listeners, list)
            assert value_of(listeners[0], flag) == value, flag


@pytest.mark.parametrize("command", [command for command in COMMANDS if " " in command])
def test_flags_may_stand_before_the_command_that_they_are_for(command: str, capsys: Captured) -> None:
    group, name = command.split()
    of_role, _, _ = COMMANDS[command]
    flags = [word for flag, value in of_role.items() for word in spelt(flag, value)]
    config = effective(capsys, group, *flags, name, *ARGUMENTS[command], "--connect.url", "http://last:1")
    assert value_of(config, "connect.url") == "http://last:1"
    assert value_of(config, "connect.timeout") == "5s"


@pytest.mark.parametrize("command", [*COMMANDS, "agent start", "forward start"])
def test_every_flag_that_piko_lists_is_one_of_ours(command: str) -> None:
    listed = subprocess.run([piko(), *command.split(), "--help"], capture_output=True, text=True, check=True).stdout
    theirs = set(re.findall(r"^ +--([a-z][a-z.-]+)", listed, re.MULTILINE))
    of_role, of_endpoint, others = COMMANDS[command.replace("agent start", "agent tcp").replace("start", "tcp")]
    assert theirs
    assert theirs - {"help"} <= of_role.keys() | of_endpoint.keys() | set(others)
    assert theirs - {"help"} <= flags_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_that_are_not_tried_above_exist(command: str) -> None:
    assert set(COMMANDS[command][2]) <= flags_of(command)


@pytest.mark.parametrize("value", ["true", "True", "1", "t"])
def test_a_switch_takes_a_value_only_behind_an_equals_sign(value: str, capsys: Captured) -> None:
    assert value_of(effective(capsys, "agent", "http", f"--server.enabled={value}", "a", "1"), "server.enabled") is True
    assert value_of(effective(capsys, "agent", "http", "--server.enabled", "a", "1"), "server.enabled") is True
    config = effective(capsys, "agent", "http", "--server.enabled", "--server.enabled=false", "--", "a", "1")
    assert value_of(config, "server.enabled") is False


def test_a_list_may_be_repeated(capsys: Captured) -> None:
    config = effective(capsys, "server", "--log.subsystems", "a,b", "--log.subsystems=c")
    assert value_of(config, "log.subsystems") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("agent http shop 3000 --inspect 70000", "--inspect: '70000': expected a port"),
        ("agent --inspect=x http shop 3000", "--inspect: 'x': expected a port"),
        ("agent http shop 3000 --inspect 1 --inspect.bind-addr 70000", "--inspect.bind-addr: '70000': expected a port"),
        ("server status cluster nodes -o jsn", "-o: 'jsn': expected one of"),
        ("server status cluster nodes -ojsn", "-o: 'jsn': expected one of"),
        ("server status cluster nodes --output jsn", "--output: 'jsn': expected one of"),
    ],
)
def test_a_complaint_names_a_flag_as_it_was_typed(argv: str, line: str, capsys: Captured) -> None:
    complains(argv, line, capsys)


def test_a_number_below_zero_is_a_value(capsys: Captured) -> None:
    config = effective(capsys, "agent", "http", "a", "1", "--http-client.max-idle-conns", "-1")
    assert value_of(config["listeners"][0], "http-client.max-idle-conns") == -1  # type: ignore[index]


def test_the_way_out_is_configured_by_flags_and_variables(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("TRIODUCT_CONNECT_PROXY_USER", "alice")
    monkeypatch.setenv("TRIODUCT_CONNECT_PROXY_PASSWORD", "5ecret")
    argv = [
        "--connect.proxy.url",
        "http://a:1",
        "--connect.proxy.url=socks5h://b:2",
        "--connect.proxy.auth.forbidden=basic",
    ]
    for role in (["agent", *argv, "http", "shop", "1"], ["forward", *argv, "tcp", "1", "shop"]):
        config = effective(capsys, *role)
        assert value_of(config, "connect.proxy.url") == ["http://a:1", "socks5h://b:2"]
        assert value_of(config, "connect.proxy.user") == "alice"
        assert value_of(config, "connect.proxy.password") == "***"
        assert value_of(config, "connect.proxy.auth.forbidden") == ["basic"]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_help_has_an_example_and_says_all_of_every_flag(path: tuple[str, ...], capsys: Captured) -> None:
    assert main([*path, "-h"]) == 0
    text = capsys.readouterr().out
    teaches_itself = path[-1:] in [("config",), ("cluster",), ("upstream",), ("gossip",)] or "gossip" in path
    assert teaches_itself or f"\n    trioduct {' '.join(path)}".rstrip() in text
    for flag in flags_of(" ".join(path)):
        if "." in flag:
            own, shared = (
                f"--{flag}",
                re.sub(r"^(proxy|upstream|admin|cluster)\.", "PORT.", f"--{flag}".removeprefix("--")),
            )
            assert own in text or f"--{shared}" in text, flag
            names = [f"TRIODUCT_{name}".upper().replace(".", "_").replace("-", "_") for name in (flag, shared)]
            # Of two flags that mean the same, one has the variable.
            assert flag == "connect.proxy-url" or any(name in text.replace("\n", "") for name in names), flag


def test_only_what_several_ports_share_is_listed_for_all_of_them(capsys: Captured) -> None:
    for command, shared in (("server", True), ("doctor", False), ("server status", False)):
        assert main([*command.split(), "--help"]) == 0
        assert ("PORT." in capsys.readouterr().out) == shared
