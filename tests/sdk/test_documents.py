"""The programs of docs/sdk.md run as they are, but for the ports of the node."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.programs import TRIODUCT, Programs
from tests.roles import Roles, RunningNode

PROJECT = Path(__file__).parent.parent.parent
ASGI, ECHO, CONNECT, ASK = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/sdk.md").read_text(), re.DOTALL)


@asynccontextmanager
async def _running(text: str, node: RunningNode) -> AsyncIterator[None]:
    text = text.replace(":8000", f":{node.proxy}").replace(":8001", f":{node.upstream}")
    async with trio.open_nursery() as nursery:
        process = await nursery.start(trio.run_process, [sys.executable, "-c", text])
        assert isinstance(process, trio.Process)
        yield
        nursery.cancel_scope.cancel()


async def _output(text: str, node: RunningNode) -> str:
    """What the program prints, once it succeeds: the other one may have to begin."""
    text = text.replace(":8000", f":{node.proxy}").replace(":8001", f":{node.upstream}")
    while True:
        done = await trio.run_process(
            [sys.executable, "-c", text], capture_stdout=True, stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode == 0 and b"error" not in done.stdout:
            return done.stdout.decode()


async def test_the_echo_and_who_connects_to_it(roles: Roles) -> None:
    node = await roles.node()
    async with _running(ECHO, node):
        assert await _output(CONNECT, node) == "b'hello'\n"


async def test_the_application_and_who_asks_it(roles: Roles) -> None:
    node = await roles.node()
    async with _running(ASGI, node):
        assert await _output(ASK, node) == "hello\n"


SHELL = re.findall(r"^trioduct (agent .*?)(?:  +#.*)?$", (PROJECT / "docs/sdk.md").read_text(), re.M)


@pytest.mark.parametrize("line", SHELL)
async def test_a_line_for_the_shell_serves_an_application(
    line: str, roles: Roles, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text(re.sub(r"(?s)async def main.*", "", ASGI))
    node = await roles.node()
    url = f"--connect.url=http://127.0.0.1:{node.upstream}"
    agent = await programs.start("env", "-C", tmp_path, TRIODUCT, *line.split(), url)
    await agent.wait_line('"connected"')
    assert await _output(ASK, node) == "hello\n"
    assert await agent.stop() == 0
