"""Three newcomers' first day, each with the commands that they would type: the README, a move from Piko, a proxy."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import trio

from tests.conftest import Web
from tests.programs import PIKO, TRIODUCT, Node, Programs, free_port, get, needs
from tests.proxy_adapters.beds.conftest import dead, lab, no_realm, secure_web, squid_basic, web
from tests.proxy_adapters.beds.proxies import PASSWORD, USER, Squid

__all__ = ["dead", "lab", "no_realm", "secure_web", "squid_basic", "web"]  # fixtures

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
SWAP = (PROJECT / "docs/moving.md").read_text().partition("## From Piko\n")[2].partition("\n## ")[0]


def commands(heading: str) -> list[str]:
    """The command lines of the first block below a heading of the README, without comments."""
    block = README.partition(f"\n### {heading}\n")[2].partition("```sh\n")[2].partition("```")[0]
    return [line.partition(" #")[0].rstrip() for line in block.splitlines() if not line.startswith("#")]


def on_this_machine(node: Node) -> dict[str, str]:
    """Ports that are free, for a `trioduct server` that is told nothing."""
    return {
        "TRIODUCT_PROXY_BIND_ADDR": f"127.0.0.1:{node.proxy}",
        "TRIODUCT_UPSTREAM_BIND_ADDR": f"127.0.0.1:{node.upstream}",
        "TRIODUCT_ADMIN_BIND_ADDR": f"127.0.0.1:{node.admin}",
    }


class Newcomer:
    """Types the README's lines, in which its host and ports are those of this machine."""

    def __init__(self, programs: Programs, services: dict[str, int]) -> None:
        self.node = Node(programs)
        self._programs = programs
        self._names = {
            "http://tunnel.example.com:8000": f"http://127.0.0.1:{self.node.proxy}",
            "http://tunnel.example.com:8001": f"http://127.0.0.1:{self.node.upstream}",
            **{f" {name}": f" {port}" for name, port in services.items()},
        }

    async def types(self, line: str, *, port: int | None = None, code: int | None = None) -> str:
        """What it printed, if it is to end with this code; else it goes on."""
        for name, here in self._names.items():
            line = re.sub(rf"{re.escape(name)}(?!\d)", here, line)
        line = re.sub(r"(?<!\S)trioduct ", "exec trioduct ", line, count=1)  # it gets the signals, not its shell
        path = f"{Path(TRIODUCT).parent}:{os.environ['PATH']}"
        env = on_this_machine(self.node) | {"PATH": path}
        program = await self._programs.start("sh", "-c", line, env=env, port=port)
        if code is None:
            return ""
        assert await program.wait_end() == code, program.text
        return program.text


@needs("curl", "nginx", "openssl")
async def test_the_readmes_first_commands_run_as_they_are_written(
    programs: Programs, nginx: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tcp_port = free_port()
    newcomer = Newcomer(programs, {"3000": nginx.port, "5432": nginx.port, "15432": tcp_port})
    key, token, server, agent, curl = commands("A web service")
    assert not await newcomer.types(key, code=0)
    assert not await newcomer.types(token, code=0)
    assert await newcomer.types(f"{agent} --config.check", code=0)
    await newcomer.types(server, port=newcomer.node.admin)
    assert "401 Unauthorized" in await newcomer.types(agent.partition(") ")[2], code=1)
    await newcomer.types(agent)
    await newcomer.node.wait_registered("shop")
    assert "HTTP/1.1 200" in await newcomer.types(f"{curl} -isS", code=0)

    agent, forward, _ = commands("TCP, through a local port of the client's machine")
    await newcomer.types(f"TRIODUCT_CONNECT_TOKEN=$(cat agent.token) {agent}")
    await newcomer.node.wait_registered("database")
    await newcomer.types(forward, port=tcp_port)
    assert "HTTP/1.1 200" in await newcomer.types(f"curl -isS http://127.0.0.1:{tcp_port}/", code=0)

    public_port = free_port()
    newcomer = Newcomer(programs, {"5432": public_port})
    server, _ = commands("TCP, through a public port of the node")
    await newcomer.types(server, port=public_port)
    await newcomer.node.start_agent("database", nginx.port, kind="tcp")
    await newcomer.node.wait_registered("database")
    assert "HTTP/1.1 200" in await newcomer.types(f"curl -isS http://127.0.0.1:{public_port}/", code=0)


# Files as they stand beside a Piko: its own keys, in its own order.
PIKO_SERVER = """
proxy:
  bind_addr: 127.0.0.1:{proxy}
  timeout: 30s
  http: {{read_header_timeout: 10s, idle_timeout: 5m, max_header_bytes: 32768}}
  access_log: {{level: info, disable: true}}
upstream:
  bind_addr: 127.0.0.1:{upstream}
admin:
  bind_addr: 127.0.0.1:{admin}
cluster:
  node_id_prefix: ${{POD_NAME:piko}}-
  gossip: {{bind_addr: "127.0.0.1:{gossip}", interval: 200ms}}
log:
  level: info
  subsystems: []
grace_period: 5s
"""
PIKO_AGENT = """
listeners:
  - endpoint_id: shop
    addr: "{service}"
    protocol: http
    timeout: 15s
    http_client: {{keep_alive_timeout: 30s, idle_conn_timeout: 90s, max_idle_conns: 100}}
connect:
  url: http://127.0.0.1:{upstream}
  timeout: 10s
log: {{level: info}}
"""


@needs("nginx")
@pytest.mark.parametrize(("server", "agent"), [("ours", "ours"), ("ours", "piko's"), ("piko's", "ours")])
async def test_pikos_files_are_taken_over_on_either_side(
    server: str, agent: str, programs: Programs, nginx: Web, tmp_path: Path
) -> None:
    if "piko's" in (server, agent) and not PIKO:
        pytest.skip("PIKO does not name a Piko binary")
    node = Node(programs)
    ports = {"proxy": node.proxy, "upstream": node.upstream, "admin": node.admin}
    (tmp_path / "server.yaml").write_text(PIKO_SERVER.format(**ports, gossip=free_port()))
    (tmp_path / "agent.yaml").write_text(PIKO_AGENT.format(upstream=node.upstream, service=nginx.port))
    command = {"ours": TRIODUCT, "piko's": PIKO}
    flags = ("--config.expand-env", "--config.path")
    begun = await programs.start(command[server], "server", *flags, tmp_path / "server.yaml", port=node.admin)
    await programs.start(command[agent], "agent", "start", *flags, tmp_path / "agent.yaml")
    await node.wait_registered("shop")
    stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.0\r\nx-piko-endpoint: shop\r\n\r\n")
        answer = b"".join([chunk async for chunk in stream])
    assert answer.split()[1] == b"200"
    assert (await get(node.proxy, "/"))[0] == 400

    # What docs/moving.md says of monitoring.
    _, metrics = await get(node.admin, "/metrics")
    stays = {"piko_proxy_requests_total", "piko_upstreams_connected_upstreams", "piko_cluster_nodes"}
    names = set(re.findall(r"^(\w+)", metrics, re.MULTILINE))
    assert stays <= names
    assert any(name.startswith("piko_gossip_") for name in names) == (server == "piko's")
    assert any(name.startswith("go_") for name in names) == (server == "piko's")
    assert (await get(node.admin, "/debug/pprof/"))[0] == (200 if server == "piko's" else 404)
    await begun.wait_line("upstream connected")
    lines = [json.loads(line) for line in begun.lines if line.startswith("{")]
    assert all({"level", "ts", "subsystem", "msg"} <= line.keys() for line in lines)
    (connected,) = [line for line in lines if line["msg"] == "upstream connected"]
    assert (connected["endpoint-id"], connected["client-ip"]) == ("shop", "127.0.0.1")
    assert [line["node-id"].partition("-")[0] for line in lines if "node-id" in line][:1] == ["piko"]
    if server == "ours":
        assert "cluster.gossip.bind_addr, cluster.gossip.interval have no effect" in begun.text


async def test_what_is_not_taken_over_from_piko_is_refused_by_its_key(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text("cluster: {join: [piko-1, piko-2]}")
    server = await programs.start(TRIODUCT, "server", "--config.path", tmp_path / "server.yaml")
    assert await server.wait_end() == 2
    assert "cluster.join: 'piko-1,piko-2': nodes do not gossip; expected cluster.store instead" in server.text
    assert "`cluster.join`" in SWAP
    other = await programs.start(TRIODUCT, "test", "cluster")
    assert await other.wait_end() == 2
    assert "`test cluster`" in SWAP


@needs("squid")
async def test_a_wrong_password_behind_squid_is_found_and_mended(
    programs: Programs, squid_basic: Squid, no_realm: None, tmp_path: Path
) -> None:
    node = Node(programs)
    await node.start()
    secret = tmp_path / "proxy-password"
    secret.write_text("wr0ng-5ecret\n")
    secret.chmod(0o600)
    file = tmp_path / "agent.yaml"
    file.write_text(
        f"connect:\n  url: http://127.0.0.1:{node.upstream}\n"
        f"  proxy: {{url: 'http://127.0.0.1:{squid_basic.port}', user: {USER}, password_file: {secret}}}\n"
    )
    doctor = await programs.start(TRIODUCT, "doctor", "--config.path", file)
    assert await doctor.wait_end() == 1, doctor.text
    assert f"The proxy http://127.0.0.1:{squid_basic.port} refused the credentials" in doctor.text
    assert (
        "Who can act: you - check user and password: connect.proxy.user and connect.proxy.password_file" in doctor.text
    )
    assert "another setting" not in doctor.text
    assert "wr0ng-5ecret" not in doctor.text

    secret.write_text(f"{PASSWORD}\n")
    doctor = await programs.start(TRIODUCT, "doctor", "shop", "--config.path", file)
    assert await doctor.wait_end() == 0, doctor.text
    assert f"basic: accepted as {USER}" in doctor.text
