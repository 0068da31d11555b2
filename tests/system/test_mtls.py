"""docs/mtls.md, typed as it is written: with free ports in the place of its own."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import pytest
import trio

from tests.conftest import Web
from tests.programs import TRIODUCT, Node, Program, Programs, free_port, needs

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


@needs("curl", "nginx", "openssl")
async def test_the_pages_commands_run_as_they_are_written(
    programs: Programs, nginx: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    proxy, upstream, admin, local = (free_port() for _ in range(4))
    ports = {"8000": proxy, "8001": upstream, "8002": admin, "3000": nginx.port, "3001": nginx.port, "4000": local}
    reader = Reader(programs, ports)
    [[certs], [server, agent, forward, curl, refused], [more, renew, take]] = reader.blocks
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
    await reader.runs(renew)
    await reader.runs(take)
    renewed = Path("certs/node.pem").read_text().split()
    # Asked again and again: the node is another process, which sends no events.
    while ssl.get_server_certificate(("127.0.0.1", proxy)).split() != renewed:  # noqa: ASYNC110
        await trio.sleep(0.1)
    assert "HTTP/1.1 200" in await reader.runs(f"{curl} -isS")
