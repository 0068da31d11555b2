"""Mutual TLS with real programs: docs/mtls.md as it is written, and authorities that change under load."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import httpx
import pytest
import trio

from engine.auth.authority import Authority
from tests.conftest import Web
from tests.programs import TRIODUCT, Node, Program, Programs, free_port, needs
from tests.system.ledger import load

PAGE = Path(__file__).parents[2].joinpath("docs/mtls.md").read_text()


class Reader:
    """Somebody who follows the page, in a folder of his own. `ports`: what stands there for each of the page's."""

    def __init__(self, programs: Programs, ports: dict[str, int]) -> None:
        self.programs = programs
        text = re.sub(rf"\b({'|'.join(ports)})\b", lambda match: str(ports[match[1]]), PAGE)
        self.files = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL))
        self.blocks = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]

    async def types(self, line: str, port: int | None = None) -> Program:
        line = re.sub(r"^trioduct ", "exec trioduct ", line)  # it gets the signals, not its shell
        path = {"PATH": f"{Path(TRIODUCT).parent}:{os.environ['PATH']}"}
        return await self.programs.start("sh", "-c", line, env=path, port=port)

    async def runs(self, line: str) -> str:
        """What a line printed that ends well."""
        program = await self.types(line)
        assert await program.wait_end() == 0, program.text
        return program.text


@needs("curl", "nginx")
async def test_the_pages_commands_run_as_they_are_written(
    programs: Programs, nginx: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    proxy, upstream, admin, local = (free_port() for _ in range(4))
    ports = {"8000": proxy, "8001": upstream, "8002": admin, "3000": nginx.port, "3001": nginx.port, "4000": local}
    reader = Reader(programs, ports)
    [[certs], [server, agent, forward, curl, refused], [more, remove, renew]] = reader.blocks
    printed = await reader.runs(certs)
    for name, text in reader.files.items():
        Path(name).write_text(text)
        for file in re.findall(r"certs/\S+\.(?:pem|key)", text):
            assert file in printed
    await reader.types(server, port=admin)
    await reader.types(agent)
    await reader.types(forward, port=local)
    node = Node(programs, admin=admin)
    for endpoint in ("shop", "echo"):
        await node.wait_registered(endpoint)
    assert "HTTP/1.1 200" in await reader.runs(f"{curl} -isS")
    assert "HTTP/1.1 200" in await reader.runs(f"curl -isS http://127.0.0.1:{local}/")
    assert await (await reader.types(refused)).wait_end() != 0
    other = curl.replace("alice", "shop")  # an agent's certificate is no client's
    assert await (await reader.types(other)).wait_end() != 0

    assert "certs/warehouse.key" in await reader.runs(more)
    old = Path("certs/node.pem").read_text()
    await reader.runs(remove)
    await reader.runs(renew)
    renewed = Path("certs/node.pem").read_text().split()
    assert renewed != old.split()
    # Asked again and again: the node is another process, which sends no events.
    while ssl.get_server_certificate(("127.0.0.1", proxy)).split() != renewed:  # noqa: ASYNC110
        await trio.sleep(0.1)
    assert "HTTP/1.1 200" in await reader.runs(f"{curl} -isS")


class Clients:
    """An authority of clients, and the certificate that it has given one of them."""

    def __init__(self, folder: Path, name: str) -> None:
        authority = Authority.make(name)
        self.ca = authority.certificate
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in zip((self.cert, self.key), authority.issue(name, days=1), strict=True):
            path.write_bytes(content)


async def is_let_in(port: int, context: ssl.SSLContext) -> bool:
    async with httpx.AsyncClient(verify=context, timeout=None) as client:
        try:
            answer = await client.post(f"https://127.0.0.1:{port}/mirror", headers={"x-piko-endpoint": "web"})
        except httpx.TransportError:
            return False
    assert answer.status_code == 200, answer.text
    return True


async def wait_until_it_is(let_in: bool, port: int, context: ssl.SSLContext) -> None:
    # Asked again and again: the node is another process, which sends no events.
    while await is_let_in(port, context) != let_in:  # noqa: ASYNC110
        await trio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_authorities_of_clients_change_under_load_and_no_request_fails(
    programs: Programs, origin: int, tmp_path: Path
) -> None:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / "new").write_bytes(content)
        return (tmp_path / "new").replace(tmp_path / name)

    def context(who: Clients) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(tmp_path / "nodes.pem"))
        made.load_cert_chain(who.cert, who.key)
        return made

    nodes = Authority.make("nodes")
    write("nodes.pem", nodes.certificate)
    pair = [
        write(*part) for part in zip(("node.pem", "node.key"), nodes.issue("n", ["127.0.0.1"], days=1), strict=True)
    ]
    agent, first = Clients(tmp_path, "agent"), Clients(tmp_path, "clients0")
    cas = {"proxy": write("clients.pem", first.ca), "upstream": write("agents.pem", agent.ca)}
    options = [
        f"--{port}.tls.{key}={path}"
        for port, ca in cas.items()
        for key, path in (("cert", pair[0]), ("key", pair[1]), ("client-cas", ca))
    ]
    node = Node(programs, options=tuple(options))
    await node.start()
    tls = [f"--connect.tls.{key}={path}" for key, path in (("cert", agent.cert), ("key", agent.key))]
    url = f"--connect.url=https://127.0.0.1:{node.upstream}"
    await node.start_agent("web", origin, url, *tls, f"--connect.tls.root-cas={tmp_path}/nodes.pem")
    await node.wait_registered("web")

    current = context(first)  # of who makes a new connection for each request
    async with (
        load(node.proxy, clients=2, tls=context(first)) as kept,
        load(node.proxy, clients=1, tls=current, keep=False, largest=1000) as fresh,
    ):
        old = first
        for number in range(1, 3):
            new = Clients(tmp_path, f"clients{number}")
            assert not await is_let_in(node.proxy, context(new))
            write("clients.pem", old.ca + new.ca)
            await wait_until_it_is(True, node.proxy, context(new))
            assert await is_let_in(node.proxy, context(old))
            current.load_cert_chain(new.cert, new.key)
            await fresh.wait_whole(2)  # the second has begun with the new certificate
            write("clients.pem", new.ca)
            write("agents.pem", new.ca)  # the agent's session goes on
            await wait_until_it_is(False, node.proxy, context(old))
            await fresh.wait_whole(4)
            await kept.wait_whole(4)
            old = new
    assert kept.failed == fresh.failed == []
    assert await node.endpoints() == {"web": 1}
