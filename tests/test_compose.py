"""The compose file in deploy/: its services, run as processes of this machine, each with an address of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from tests.faults.bed import ask
from tests.programs import TRIODUCT, Program, Programs, needs

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "deploy/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = ["node1", "node2", "node3"]
SECRET = "5ecret-5ecret-5ecret-5ecret-5ecret"


def environment_of(service: str, known: dict[str, str]) -> dict[str, str]:
    """With what the file asks for; every secret has to be asked for."""

    def fill(match: re.Match[str]) -> str:
        assert match[2], f"{match[1]} may be missing, and nobody is told"
        return known[match[1]]

    said = SERVICES[service].get("environment", {})
    return {name: re.sub(r"\$\{(\w+)(:\?[^}]+)?\}", fill, value) for name, value in said.items()}


def secrets() -> dict[str, str]:
    key = dict(TRIODUCT_TOKEN_KEY=SECRET)
    words = [sys.executable, "-m", "engine", "token", "--endpoints", "web"]
    token = subprocess.run(words, env=os.environ | key, check=True, capture_output=True, text=True, cwd=PROJECT).stdout
    return {
        "TRIODUCT_CLUSTER_SECRET": SECRET,
        "VALKEY_PASSWORD": "pa55word",
        "TRIODUCT_AGENT_KEY": SECRET,
        "TRIODUCT_CONNECT_TOKEN": token.strip(),
    }


class Machines:
    """Addresses of this machine, in the place of containers."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.known = secrets()
        net = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}"
        self.addresses = {name: f"{net}.{number}" for number, name in enumerate(SERVICES, 1)}

    def here(self, text: str, service: str) -> str:
        """`text` with addresses for names, ports at the address of the service, and files in our folder."""
        names = "|".join(SERVICES)
        text = re.sub(rf"(?<![\w.-])({names})(?=:\d)", lambda match: self.addresses[match[1]], text)
        text = re.sub(r"(?<=[= ]):(?=\d{4}\b)", f"{self.addresses[service]}:", text)
        return text.replace("172.29.0.0/24", "127.0.0.0/8")

    def config(self, name: str, more: str = "") -> Path:
        path = self.folder / name
        path.write_text(self.here((FOLDER / name).read_text(), name.partition(".")[0]) + more)
        return path

    async def start_ours(self, service: str) -> Program:
        words = [self.here(word, service) for word in SERVICES[service]["command"]]
        environment = {name: self.here(value, service) for name, value in environment_of(service, self.known).items()}
        return await self.programs.start(TRIODUCT, *words, env=environment)

    async def start_valkey(self) -> Program:
        shell, flag, script = SERVICES["valkey"]["command"]
        at = f"redis-server - --bind {self.addresses['valkey']} --dir {self.folder}"
        script = script.replace("$$", "$").replace("valkey-server -", at)
        return await self.programs.start(shell, flag, script, env=environment_of("valkey", self.known))

    async def start_web(self) -> Program:
        _, *words = SERVICES["web"]["entrypoint"]
        return await self.programs.start(sys.executable, *words, "--bind", self.addresses["web"])

    async def start_squid(self) -> Program:
        more = f"pid_filename {self.folder}/squid.pid\naccess_log none\ncache_log stdio:/dev/stdout\n"
        more += f"coredump_dir {self.folder}\n"
        path = self.config("squid.conf", more)
        path.write_text(path.read_text().replace("http_port ", f"http_port {self.addresses['squid']}:"))
        return await self.programs.start("squid", "-N", "-f", path)

    async def start_haproxy(self) -> Program:
        return await self.programs.start("haproxy", "-db", "-f", self.config("haproxy.cfg"))


@needs("haproxy", "redis-server", "squid")
async def test_its_services_serve_and_go_on_without_a_node(programs: Programs, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # squid is another user, if the test is root
    machines = Machines(programs, tmp_path)
    await machines.start_valkey()
    await machines.start_web()
    nodes = {name: await machines.start_ours(name) for name in NODES}
    await machines.start_haproxy()
    await machines.start_squid()
    for agent in ("agent1", "agent2"):
        await machines.start_ours(agent)
    clients = machines.addresses["haproxy"]
    while (await ask(8000, "web", clients))[0] != 404:  # `/mirror` is not there, says the service  # noqa: ASYNC110
        await trio.sleep(0.1)
    nodes["node2"].process.kill()
    await nodes["node2"].wait_end()
    while (await ask(8000, "web", clients))[0] != 404:  # noqa: ASYNC110  # its agent, or both, are on their way
        await trio.sleep(0.1)
    await trio.sleep(1.5)  # HAProxy asks twice before it gives a node up
    assert [(await ask(8000, "web", clients))[0] for _ in range(30)] == [404] * 30
    assert (await ask(8000, "nobody", clients))[0] == 502
    # The site's way out leads to the tunnel, and nowhere else.
    async with await trio.open_tcp_stream(machines.addresses["squid"], 3128) as stream:
        await stream.send_all(f"CONNECT {clients}:8000 HTTP/1.1\r\n\r\n".encode())
        assert (await stream.receive_some()).split()[1] == b"403"


def test_only_the_ports_for_clients_and_agents_are_public() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "haproxy": ["8000:8000", "8001:8001"]
    }
    assert all(COMPOSE["networks"][name]["internal"] for name in ("cluster", "site"))
    for name in ("agent1", "agent2", "web"):
        assert SERVICES[name]["networks"] == ["site"]
    for name in (*NODES, "valkey"):
        assert SERVICES[name]["networks"] == ["cluster"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        assert (FOLDER / volume.partition(":")[0]).is_file()
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    if build := service.get("build"):
        assert (FOLDER / build["context"] / build["dockerfile"]).resolve().is_file()


def test_the_image_is_of_what_is_here_and_runs_as_nobody_in_particular() -> None:
    lines = re.sub(r"\\\n", " ", (PROJECT / "deploy/Containerfile").read_text()).splitlines()
    said = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    copied = {
        source for word, _, rest in said if word == "COPY" and "--from" not in rest for source in rest.split()[:-1]
    }
    assert all((PROJECT / source).exists() for source in copied)
    pyproject = (PROJECT / "pyproject.toml").read_text()
    packages = re.findall(r"wheel\]\npackages = \[(.*)\]", pyproject)[0]
    assert copied >= {*re.findall(r'"(\w+)"', packages), "pyproject.toml", "README.md", "LICENSE"}
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", "\n".join(lines))
    assert all(re.search(rf"^{extra} = \[", pyproject, re.M) for extra in extras.split(","))
    users = [rest for word, _, rest in said if word == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
