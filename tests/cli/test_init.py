"""`trioduct init`."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
import yaml

from engine.cli import main
from tests.cli.command_line import Captured, complains
from tests.roles import GET, Roles, agent_config, server_config, tell_head

UNIT = re.compile(r"^(\w+)=(.*)$", re.M)


def read(path: str) -> dict[str, object]:
    found = yaml.safe_load(Path(path).read_text())
    assert isinstance(found, dict)
    return found


def passes_config_check(role: str, path: str, *more: str) -> None:
    assert main([role, "config", "check", "--config.path", path, *more]) == 0


def types(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def said(capsys: Captured) -> str:
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_node_gets_a_key_and_its_first_agent_a_token(capsys: Captured) -> None:
    assert main(["init", "--yes", "--role", "node", "--public-url=http://*.a.example:8080", "--endpoints=web,api"]) == 0
    assert "trioduct init --role agent --url http://a.example:8001 --secret-file agent.token" in said(capsys)
    passes_config_check("server", "server.yaml")
    file = read("server.yaml")
    assert file["proxy"] == {"bind_addr": ":8080", "public_url": "http://*.a.example:8080"}
    assert mode("tunnel.key") == mode("agent.token") == 0o600
    claims = jwt.decode(Path("agent.token").read_text().strip(), Path("tunnel.key").read_text().strip(), ["HS256"])
    assert claims["piko"] == {"endpoints": ["web", "api"]}


def test_the_page_for_beginners_says_what_works(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever presses Enter at each question, as far as it goes without starting anything."""
    page = (Path(__file__).parents[2] / "docs/start.md").read_text().partition("## With a public machine")[2]
    written = re.findall(r"^trioduct (.*)$", page, re.M)
    assert [line.split()[0] for line in written] == ["init", "server", "init", "agent"]
    folder = tmp_path / "tunnel"
    monkeypatch.chdir(tmp_path)
    for line in written:
        words = shlex.split(line.replace("/etc/trioduct", str(folder)))
        if words[0] == "init":
            types("\n" * 9, monkeypatch)
        elif words[1] == "start":
            words.append("--config.check")
        code = main(words)
        text = said(capsys)
        if "--public" not in words:
            assert code == 0, text
        elif code:  # it says what is missing
            assert "proxy.tls" in text, text
        if words[:3] == ["init", "--role", "node"]:
            shutil.copy(folder / "agent.token", tmp_path)
            assert (folder / "trioduct-server.service").exists()


async def test_what_is_written_for_both_ends_fits(roles: Roles) -> None:
    assert main(["init", "--yes", "--role", "node"]) == main(["init", "--yes", "--role", "agent"]) == 0
    config = server_config()
    config.upstream.auth.hmac_secret_key_file = read("server.yaml")["upstream"]["auth"]["hmac_secret_key_file"]  # type: ignore[index]
    node = await roles.node(config)
    agent = agent_config(node.upstream, await roles.service(tell_head), endpoint="shop")
    agent.connect.token_file = read("agent.yaml")["connect"]["token_file"]  # type: ignore[index]
    await roles.agent_with(agent)
    client = await roles.dial(node.proxy)
    assert (await client.ask(GET.replace(b"web", b"shop"))).status == 200


def test_five_questions_are_asked_and_each_answer_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    answers = "agent", "ftp://x", "http://node:8001", "http://proxy", "http://al@proxy:3128", "x", "db=tcp://:5432", ""
    types("\n".join([*answers, "a.b.c", "5ecret", ""]), monkeypatch)
    assert main(["init"]) == 0
    asked = said(capsys)
    assert asked.count("?") == 8  # five questions, three of them twice
    for problem in ("'ftp://x': expected a URL", "'http://proxy': name the port", "'x': expected NAME=PORT"):
        assert f"Error: {problem}" in asked
    passes_config_check("agent", "agent.yaml")
    file = read("agent.yaml")
    assert file["listeners"] == [{"endpoint_id": "db", "addr": ":5432", "protocol": "tcp"}]
    password = str(Path("proxy-password").absolute())
    assert file["connect"] == {
        "url": "http://node:8001",
        "token_file": str(Path("agent.token").absolute()),
        "proxy": {"url": "http://proxy:3128", "user": "al", "password_file": password},
    }
    assert (Path("agent.token").read_text(), mode("agent.token")) == ("a.b.c\n", 0o600)
    assert (Path("proxy-password").read_text(), mode("proxy-password")) == ("5ecret\n", 0o600)
    assert "5ecret" not in Path("agent.yaml").read_text() + asked


def test_whoever_presses_enter_gets_the_defaults_and_no_token(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    types("\n" * 6, monkeypatch)
    assert main(["init"]) == 0
    assert [path.name for path in Path().iterdir()] == ["agent.yaml"]
    assert read("agent.yaml") == {
        "connect": {"url": "http://localhost:8001"},
        "listeners": [{"endpoint_id": "shop", "addr": "3000", "protocol": "http"}],
    }


@pytest.mark.parametrize(
    ("url", "agents"), [("http://[::1]:80", "http://[::1]:8001"), ("https://a.b", "https://a.b:8001")]
)
def test_the_url_for_agents_is_told(url: str, agents: str, capsys: Captured) -> None:
    assert main(["init", "--yes", "--role=node", "--public-url", url]) == 0
    assert f" --url {agents} " in said(capsys)


@pytest.mark.parametrize(("role", "name"), [("node", "server"), ("agent", "agent")])
def test_a_unit_reads_the_secrets_as_credentials(role: str, name: str, capsys: Captured) -> None:
    Path("agent.token").write_text("a.b.c")
    Path("agent.token").chmod(0o600)
    folder = Path.cwd()
    more = ["--proxy", "http://al:5ecret@proxy:3128"] if role == "agent" else []
    assert main(["init", "--yes", "--role", role, "--unit", *more]) == 0
    assert f"enable --now trioduct-{name}.service" in said(capsys)
    unit = Path(f"trioduct-{name}.service").read_text()
    entries = UNIT.findall(unit)
    loaded = ["agent.token", "proxy-password"] if role == "agent" else ["tunnel.key"]
    assert [text for key, text in entries if key == "LoadCredential"] == [f"{one}:{folder / one}" for one in loaded]
    start, before = dict(entries)["ExecStart"], dict(entries)["ExecStartPre"]
    assert before == f"/bin/sh -c 'exec {start} --config.check >/dev/null'"
    assert f"--config.path {folder}/{name}.yaml --config.expand-env" in start
    assert "/etc/trioduct" not in unit
    assert "EnvironmentFile" not in unit
    passes_config_check(name, f"{name}.yaml", "--config.expand-env")  # without credentials: the files themselves
    assert main([name, "config", "check", "--config.path", f"{name}.yaml"]) == 2
    assert "expected a file with the secret, or --config.expand-env" in said(capsys)
    if shutil.which("systemd-analyze"):
        verified = subprocess.run(
            ["systemd-analyze", "verify", f"./trioduct-{name}.service"], capture_output=True, text=True
        )
        assert f"trioduct-{name}" not in verified.stderr, verified.stderr


def test_nothing_is_overwritten_without_being_asked(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert main(["init", "--yes", "--role=node"]) == 0
    key, token = Path("tunnel.key").read_text(), Path("agent.token").read_text()
    Path("server.yaml").write_text("mine")
    said(capsys)
    complains("init --yes --role=node", f"{Path('server.yaml').absolute()} is there already; expected --force", capsys)
    types("n\n", monkeypatch)
    flags = ["--role=node", "--public-url=http://a.example", "--tls=", "--endpoints=a", "--secret-file=tunnel.key"]
    assert main(["init", *flags]) == 130
    assert Path("server.yaml").read_text() == "mine"
    types("y\n", monkeypatch)
    assert main(["init", *flags]) == 0
    assert read("server.yaml")["proxy"] == {"bind_addr": ":80", "public_url": "http://a.example"}
    assert main(["init", "--yes", "--role=node", "--force"]) == 0
    assert read("server.yaml")["proxy"] == {"bind_addr": ":8000"}
    assert (Path("tunnel.key").read_text(), Path("agent.token").read_text()) == (key, token)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("--yes", "role: missing; expected --role node, or --role agent"),
        ("--yes --role=both", "--role: 'both': expected one of node, agent"),
        ("--yes --role=agent --service 3000", "--service: '3000': expected NAME=PORT"),
        ("--yes --role=agent --service a=http://", "--service: 'a=http://': expected NAME=PORT"),
        ("--yes --role=agent --proxy http://proxy", "--proxy: 'http://proxy': name the port of the proxy"),
        ("--yes --role=agent --proxy http://al:5ecret@proxy", "--proxy: '***': name the port of the proxy"),
        ("--yes --role=agent --proxy http://al@proxy:1", "--proxy: 'al@…': has a user and no password"),
        (
            "--yes --role=agent --secret-file none",
            "--secret-file: '{here}/none': is not there, and nobody gave a token",
        ),
        (
            "--yes --role=node --secret-file short",
            "--secret-file: '{here}/short': a secret of 6 bytes; HS256 requires 32",
        ),
        ("--yes --role=node --secret-file open", "--secret-file: '{here}/open': {here}/open can be read by others"),
        (
            "--yes --role=node --tls none",
            "{here}/server.yaml:9: proxy.tls.cert: '",
        ),
        ("--yes --role=node --folder file", "{here}/file: File exists; nothing was written"),
        ("--yes --role=node --unit --folder a,b", "--unit: '{here}/a,b': expected a path of letters"),
        ("--role=agent", "no answer to 'Where is the node?"),
    ],
)
def test_a_mistake_costs_one_line_and_nothing_is_written(
    argv: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Path("short").write_text("5ecret")
    Path("short").chmod(0o600)
    Path("open").write_text("a secret of some forty characters, or more")
    Path("open").chmod(0o644)
    Path("file").touch()
    line = line.format(here=Path.cwd())
    there = sorted(Path().rglob("*"))
    types("", monkeypatch)
    if argv == "--role=agent":
        assert main(["init", argv]) == 2
        assert f"trioduct: {line}" in said(capsys)
    else:
        complains(f"init {argv}", line, capsys)
    assert sorted(Path().rglob("*")) == there


def test_an_answer_with_a_dollar_is_none_for_a_unit(capsys: Captured) -> None:
    assert main(["init", "--yes", "--role=agent", "--url=http://$a.example", "--unit"]) == 2
    assert "an answer has a $" in said(capsys)
    assert main(["init", "--yes", "--role=agent", "--url=http://$a.example"]) == 0
    assert read("agent.yaml")["connect"] == {"url": "http://$a.example"}
