"""The command line: which words it takes, what it says, and how it ends."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
import trio
import yaml

from engine import __version__
from engine.cli import main
from engine.cli.launch import run
from engine.cli.root import trioduct
from engine.config import AgentConfig, Draft, ForwardConfig, ServerConfig
from engine.errors import ConfigError, Refused, Unreachable
from engine.transport.listen import open_listeners
from tests.conftest import Pki
from tests.programs import clean_environment, piko


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of whoever runs the tests has a say, and no file but those that a test writes."""
    for name in os.environ.keys() - clean_environment().keys() - {"PIKO"}:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


Captured = pytest.CaptureFixture[str]


def effective(capsys: Captured, role: str, *argv: str) -> dict[str, object]:
    """The configuration that a command would run with."""
    assert main([role, "--config.check", *argv]) == 0, capsys.readouterr().err
    found = yaml.safe_load(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def value_of(config: object, flag: str) -> object:
    for name in flag.removeprefix("--").replace("-", "_").split("."):
        assert isinstance(config, dict)
        config = config[name]
    return config


# Piko's command lines ---------------------------------------------------------------------------------------

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
    return [f"--{flag}", str(value).replace("***", "5ecret")]


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


def flags_of(command: str) -> set[str]:
    found: click.Command = trioduct
    for name in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return {option.removeprefix("--") for param in found.params for option in param.opts}


def test_flags_of_the_two_start_commands(capsys: Captured) -> None:
    Path("agent.yaml").write_text("listeners: [{endpoint_id: a, addr: 1}]")
    Path("forward.yaml").write_text("ports: [{endpoint_id: a, addr: 1}]")
    for role in ("agent", "forward"):
        config = effective(capsys, role, "--log.level=warn", "start", "--config.path", f"{role}.yaml")
        assert value_of(config, "log.level") == "warn"


@pytest.mark.parametrize("value", ["true", "True", "1", "t"])
def test_a_switch_takes_a_value_only_behind_an_equals_sign(value: str, capsys: Captured) -> None:
    assert value_of(effective(capsys, "agent", "http", f"--server.enabled={value}", "a", "1"), "server.enabled") is True
    assert value_of(effective(capsys, "agent", "http", "--server.enabled", "a", "1"), "server.enabled") is True
    config = effective(capsys, "agent", "http", "--server.enabled", "--server.enabled=false", "--", "a", "1")
    assert value_of(config, "server.enabled") is False


def test_a_list_may_be_repeated(capsys: Captured) -> None:
    config = effective(capsys, "server", "--log.subsystems", "a,b", "--log.subsystems=c")
    assert value_of(config, "log.subsystems") == ["a", "b", "c"]


def test_a_number_below_zero_is_a_value(capsys: Captured) -> None:
    config = effective(capsys, "agent", "http", "a", "1", "--http-client.max-idle-conns", "-1")
    assert value_of(config["listeners"][0], "http-client.max-idle-conns") == -1  # type: ignore[index]


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


# config check -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["server", "agent", "forward"])
def test_config_check_prints_what_would_be_in_effect(role: str, capsys: Captured) -> None:
    Path("a.yaml").write_text("log: {level: warn}")
    assert main([role, "config", "check", "--config.path", "a.yaml"]) == 0
    checked = capsys.readouterr()
    assert yaml.safe_load(checked.out)["log"] == {"level": "warn", "subsystems": []}
    assert checked.err == ""
    assert main([role, "--config.path", "a.yaml", "config", "check"]) == 0
    assert capsys.readouterr() == checked


def test_config_check_shows_no_secret(capsys: Captured) -> None:
    Path("a.yaml").write_text(
        "connect: {token: 5ecret, proxy_url: 'http://user:5ecret@proxy:1', url: 'http://me:5ecret@node:1'}"
    )
    assert main(["agent", "config", "check", "--config.path", "a.yaml"]) == 0
    out = capsys.readouterr().out
    assert "5ecret" not in out
    assert "http://user:***@proxy:1" in out


def test_config_check_says_what_changes_nothing(capsys: Captured) -> None:
    assert main(["server", "config", "check", "--cluster.gossip.interval", "1s"]) == 0
    said = "trioduct: membership is not gossip here, so these change nothing: cluster.gossip.interval\n"
    assert capsys.readouterr().err == said


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


# The doctor -------------------------------------------------------------------------------------------------


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


# Mistakes ---------------------------------------------------------------------------------------------------


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
        ("agent http shop", "Missing argument 'ADDR' (trioduct agent http --help)"),
        ("agent http shop 3000 x", "Got unexpected extra argument (x) (trioduct agent http --help)"),
        ("agent http shop nowhere", "ADDR: 'nowhere': expected a port, host:port or http(s)://host"),
        ("agent tcp shop http://a", "ADDR: 'http://a': expected a port or host:port"),
        ("agent http a/b 3000", "ENDPOINT: 'a/b': expected a name without /"),
        ("agent http shop 3000 --connect.token=a\tb", "--connect.token: '***': expected a token, no blanks in it"),
        ("agent tcp db 1 --http-client.max-idle-conns 1", "No such option '--http-client.max-idle-conns'"),
        ("agent start", "listeners: there are none; expected some in --config.path FILE"),
        ("forward start", "ports: there are none; expected some in --config.path FILE"),
        ("forward tcp x db", "ADDR: 'x': expected a port or host:port"),
        ("forward tcp 3000 a/b", "ENDPOINT: 'a/b': expected a name without /"),
        ("forward tcp 3000", "Missing argument 'ENDPOINT' (trioduct forward tcp --help)"),
        ("doctor --patient", "--patient: there is no session to look at; expected ENDPOINT as well"),
        ("doctor --measure", "--measure: there is no session to look at; expected ENDPOINT as well"),
        ("doctor a/b", "ENDPOINT: 'a/b': expected a name without /"),
        ("doctor --connect.proxy.url proxy", "--connect.proxy.url: 'proxy': name the port of the proxy"),
        (
            "doctor --connect.proxy-url http://a:1 --connect.proxy.url http://a:1",
            "--connect.proxy-url: 'http://a:1': stands beside proxy.url; expected one of the two",
        ),
        ("nonsense", "No such command 'nonsense' (trioduct --help)"),
        ("server status cluster nodes --status no", "Invalid value for '--status': 'no' is not one of"),
        (
            "server status upstream endpoints --server.url localhost",
            "--server.url: 'localhost': expected a URL such as https://host or http://host:port",
        ),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    assert main(argv.split(" ")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"trioduct: {line}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["agent"], ["forward"], ["server", "status"]])
def test_a_group_alone_shows_its_help(argv: list[str], capsys: Captured) -> None:
    assert main(argv) == 2
    assert "Commands:" in capsys.readouterr().err


# Help -------------------------------------------------------------------------------------------------------


def commands(group: click.Group = trioduct, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_help_has_an_example_and_says_all_of_every_flag(path: tuple[str, ...], capsys: Captured) -> None:
    assert main([*path, "-h"]) == 0
    text = capsys.readouterr().out
    teaches_itself = path[-1:] in [("config",), ("cluster",), ("upstream",), ("gossip",)] or "gossip" in path
    assert teaches_itself or f"\n    trioduct {' '.join(path)}".rstrip() in text
    for flag in flags_of(" ".join(path)):
        if "." in flag:
            own, shared = f"--{flag}", re.sub(r"^(proxy|upstream|admin)\.", "PORT.", f"--{flag}".removeprefix("--"))
            assert own in text or f"--{shared}" in text, flag
            names = [f"TRIODUCT_{name}".upper().replace(".", "_").replace("-", "_") for name in (flag, shared)]
            # Of two flags that mean the same, one has the variable.
            assert flag == "connect.proxy-url" or any(name in text.replace("\n", "") for name in names), flag


def test_only_what_several_ports_share_is_listed_for_all_of_them(capsys: Captured) -> None:
    for command, shared in (("server", True), ("doctor", False), ("server status", False)):
        assert main([*command.split(), "--help"]) == 0
        assert ("PORT." in capsys.readouterr().out) == shared


def test_help_is_a_command_as_well(capsys: Captured) -> None:
    assert main(["help", "agent", "http"]) == 0
    helped = capsys.readouterr().out
    assert main(["agent", "http", "--help"]) == 0
    assert capsys.readouterr().out == helped


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version_is_told(flag: str, capsys: Captured) -> None:
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"trioduct {__version__}\n"


def test_help_imports_nothing_that_takes_long() -> None:
    program = """
import sys
from engine.cli import main
main(["--help"]), main(["server", "--help"])
heavy = {"trio", "yaml", "ssl", "rich", "structlog", "jwt", "cryptography", "starlette", "hypercorn", "http.client"}
sys.exit(", ".join(sorted(heavy & sys.modules.keys())) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --no")])
def test_a_shell_can_complete(shell: str, words: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("trioduct ag", "agent"),
        ("trioduct agent http --connect.tok", "--connect.token"),
        ("trioduct server --log.level w", "warn"),
    ],
)
def test_commands_flags_and_choices_are_completed(typed: str, offered: str) -> None:
    environ = os.environ | {"_TRIODUCT_COMPLETE": "bash_complete", "COMP_WORDS": typed}
    done = subprocess.run(
        [sys.executable, "-c", "from engine.cli import main; main([])"],
        env=environ | {"COMP_CWORD": str(typed.count(" "))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"plain,{offered}\n"


# How it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Refused("node: 401 invalid token"), 1, "node: 401 invalid token"),
        (Unreachable("node: nobody there"), 1, "node: nobody there"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (ConfigError("proxy.tls.cert: gone"), 2, "proxy.tls.cert: gone"),
        (ExceptionGroup("", [Refused("a"), ExceptionGroup("", [Unreachable("b"), Refused("a")])]), 1, "a; b"),
        (ExceptionGroup("", [Refused("a"), ConfigError("b")]), 2, "b"),
    ],
)
def test_what_ends_a_role_is_told_in_one_line(error: Exception, code: int, line: str, capsys: Captured) -> None:
    async def role() -> None:
        raise error

    assert run(role, Draft(AgentConfig)) == code
    assert capsys.readouterr().err == f"trioduct: {line}\n"


def test_a_role_that_is_done_ends_with_0(capsys: Captured) -> None:
    assert run(trio.lowlevel.checkpoint, Draft(ServerConfig)) == 0
    assert capsys.readouterr().err == ""


@pytest.fixture
def control_c() -> Iterator[None]:
    """Ctrl-C is heard, which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("control_c")
def test_control_c_ends_with_130(capsys: Captured) -> None:
    async def role() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    assert run(role, Draft(ServerConfig)) == 130
    assert capsys.readouterr().err == ""


def test_a_defect_of_ours_is_not_hidden() -> None:
    async def role() -> None:
        raise RuntimeError("never")

    with pytest.raises(RuntimeError, match="never"):
        run(role, Draft(ServerConfig))


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_in_use_is_told_with_its_key_and_address(host: str, capsys: Captured) -> None:
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        draft = Draft(ServerConfig)
        draft.read_flags({"--proxy.bind-addr": ["127.0.0.1:0"], "--admin.bind-addr": [f"127.0.0.1:{port}"]})

        async def role() -> None:
            open_listeners(f"127.0.0.1:{port}")

        assert run(role, draft) == 2
    assert capsys.readouterr().err == (
        f"trioduct: --admin.bind-addr: '127.0.0.1:{port}': Address already in use; "
        "expected a free port on an address of this machine\n"
    )


def test_an_address_of_another_machine_is_told_with_its_key(capsys: Captured) -> None:
    draft = Draft(ForwardConfig)
    Path("forward.yaml").write_text("ports:\n- {endpoint_id: a, addr: '192.0.2.1:80'}")
    draft.read_file("forward.yaml")

    async def role() -> None:
        open_listeners("192.0.2.1:80")

    assert run(role, draft) == 2
    assert capsys.readouterr().err == (
        "trioduct: forward.yaml:2: ports[0].addr: '192.0.2.1:80': Cannot assign requested address; "
        "expected a free port on an address of this machine\n"
    )


# server status ----------------------------------------------------------------------------------------------

NODE = {"id": "b", "status": "active", "proxy_addr": "10.0.0.1:8000", "admin_addr": "10.0.0.1:8002"}
NODES = [
    {**NODE, "endpoints": 2, "upstreams": 3},
    {**NODE, "id": "a", "status": "left", "endpoints": 0, "upstreams": 0},
]
ANSWERS: dict[str, object] = {
    "/status/upstream/endpoints": {"shop": 2, "db": 1},
    "/status/cluster/nodes": NODES,
    "/status/cluster/nodes/local": {**NODE, "endpoints": {"shop": 2, "db": 1}},
    "/status/cluster/nodes/a%2Fb": {**NODE, "endpoints": None},
    "/status/upstream/endpoints?forward=other": {"there": 1},
    "/base/status/upstream/endpoints": {"below": 1},
}


@contextmanager
def admin_port(token: str = "", tls: ssl.SSLContext | None = None, body: bytes | None = None) -> Iterator[str]:
    """An admin port that knows the answers above; gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if token and self.headers["Authorization"] != f"Bearer {token}":
                self.send_error(401)
            elif self.path not in ANSWERS:
                self.send_error(404)
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(ANSWERS[self.path]).encode() if body is None else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


Ask = Callable[..., str]


@pytest.fixture
def ask(capsys: Captured) -> Iterator[Ask]:
    """Asks an admin port for its status; gives what was printed."""
    with admin_port() as url:

        def ask_for(*argv: str, base: str = "") -> str:
            assert main(["server", "status", "--server.url", url + base, *argv]) == 0, capsys.readouterr().err
            return capsys.readouterr().out

        yield ask_for


def test_status_is_yaml_where_nobody_looks(ask: Ask) -> None:
    assert yaml.safe_load(ask("upstream", "endpoints")) == {"shop": 2, "db": 1}
    assert [node["id"] for node in yaml.safe_load(ask("cluster", "nodes"))["nodes"]] == ["a", "b"]
    assert yaml.safe_load(ask("cluster", "node", "local")) == ANSWERS["/status/cluster/nodes/local"]
    assert yaml.safe_load(ask("cluster", "node", "a/b")) == ANSWERS["/status/cluster/nodes/a%2Fb"]


def test_status_is_json_when_wanted(ask: Ask) -> None:
    assert json.loads(ask("upstream", "endpoints", "-o", "json")) == {"shop": 2, "db": 1}
    assert json.loads(ask("--output=json", "cluster", "nodes", "--status", "left")) == {"nodes": [NODES[1]]}


def test_status_is_a_table_for_a_person(ask: Ask) -> None:
    rows = [line.split() for line in ask("upstream", "endpoints", "-o", "table").splitlines()]
    assert rows == [["endpoint", "sessions"], ["db", "1"], ["shop", "2"]]
    rows = [line.split() for line in ask("cluster", "nodes", "-o", "table").splitlines()]
    assert rows[0] == ["node", "status", "proxy", "admin", "endpoints", "upstreams"]
    assert [row[0] for row in rows[1:]] == ["a", "b"]
    rows = [line.split() for line in ask("cluster", "node", "local", "-o", "table").splitlines()]
    assert ["endpoint", "shop", "2"] in rows


def test_a_question_can_be_passed_on_to_another_node(ask: Ask) -> None:
    assert yaml.safe_load(ask("upstream", "endpoints", "--forward", "other")) == {"there": 1}


def test_an_admin_port_may_be_below_a_path(ask: Ask) -> None:
    assert yaml.safe_load(ask("upstream", "endpoints", base="/base/")) == {"below": 1}


def test_an_admin_port_may_want_tls_and_a_token(pki: Pki, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    with admin_port("5ecret", pki.server_context()) as url:
        argv = ["server", "status", "upstream", "endpoints", "--server.url", url]
        assert main(argv) == 1
        assert "unable to get local issuer certificate" in capsys.readouterr().err
        argv += ["--tls.root-cas", str(pki.ca)]
        assert main(argv) == 1
        wants = f"trioduct: {url}: it wants a token, or another one; TRIODUCT_TOKEN or --token gives it\n"
        assert capsys.readouterr().err == wants
        assert main([*argv, "--tls.server-name", "localhost", "--token", "5ecret"]) == 0
        monkeypatch.setenv("TRIODUCT_TOKEN", "5ecret")
        assert main(argv) == 0


def test_a_node_that_nobody_knows_or_that_is_none_is_told_in_one_line(capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with admin_port() as url, admin_port(body=b"<html>") as web:
        for argv, said in [
            (["cluster", "node", "nobody", "--server.url", url], f"{url}: it knows no such node, or is no admin port"),
            (["cluster", "nodes", "--server.url", web], f"{web}: no answer of an admin port to /status/cluster/nodes"),
            (["cluster", "nodes", "--server.url", nobody], f"{nobody}: Connection refused"),
        ]:
            assert main(["server", "status", *argv]) == 1
            error = capsys.readouterr().err
            assert error.startswith(f"trioduct: {said}")
            assert error.count("\n") == 1


@pytest.mark.parametrize("argv", [["nodes"], ["node", "a"]])
def test_gossip_is_not_used(argv: list[str], capsys: Captured) -> None:
    assert main(["server", "status", "gossip", *argv]) == 1
    assert capsys.readouterr().err.startswith("trioduct: gossip is not used here; ")
