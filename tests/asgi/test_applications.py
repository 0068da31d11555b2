"""Applications of four frameworks behind an agent that was started with `--asgi`, through a real node."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest
import trio
import trio_websocket

from tests.programs import TRIODUCT, Program, Programs
from tests.roles import Roles, RunningNode

PROJECT = Path(__file__).parent.parent.parent
FIELD = {"x-piko-endpoint": "shop"}
ALL = ("starlette", "fastapi", "django", "quart")
WITHOUT_DJANGO = ("starlette", "fastapi", "quart")

pytestmark = pytest.mark.timeout(180)


async def _agent(programs: Programs, node: RunningNode, *words: str, folder: Path = PROJECT) -> Program:
    """An agent started in `folder`."""
    url = f"--connect.url=http://127.0.0.1:{node.upstream}"
    return await programs.start("env", "-C", folder, TRIODUCT, "agent", "http", "shop", *words, url)


async def _serving(programs: Programs, node: RunningNode, framework: str, *words: str) -> Program:
    agent = await _agent(programs, node, "--asgi", f"tests.asgi.{framework}_app:app", *words)
    await agent.wait_line('"connected"')
    return agent


def _client(node: RunningNode) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.proxy}", headers=FIELD, timeout=60)


@pytest.mark.parametrize(
    "words", [(framework,) for framework in ALL] + [("starlette", "--asgi-loop", "trio")], ids=" ".join
)
async def test_it_answers_takes_a_form_and_hears_that_a_client_leaves(
    words: tuple[str, ...], roles: Roles, programs: Programs
) -> None:
    node = await roles.node()
    agent = await _serving(programs, node, *words)
    async with _client(node) as client:
        assert (await client.get("/json?name=Ann")).json() == {"name": "Ann"}
        answer = await client.post("/form", files={"file": ("a.bin", bytes(3 << 20))})
        assert answer.json() == {"name": "a.bin", "size": 3 << 20}
    talk = await roles.dial(node.proxy)
    await talk.say(b"GET /endless HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\n\r\n")
    await talk.until(b"part\n")
    await talk.until(b"part\n")
    await talk.reset()
    await agent.wait_line("^left$")
    assert await agent.stop() == 0


@pytest.mark.parametrize("framework", WITHOUT_DJANGO)
async def test_websocket_background_task_and_lifespan(framework: str, roles: Roles, programs: Programs) -> None:
    node = await roles.node()
    agent = await _serving(programs, node, framework)
    url = f"ws://127.0.0.1:{node.proxy}/echo"
    async with trio_websocket.open_websocket_url(url, extra_headers=[(b"x-piko-endpoint", b"shop")]) as websocket:
        await websocket.send_message("ab")
        assert await websocket.get_message() == "abab"
    async with _client(node) as client:
        assert (await client.get("/later")).status_code == 200
        await agent.wait_line("^later$")
    assert await agent.stop() == 0
    assert [line for line in agent.lines if line in ("up", "later", "down")] == ["up", "later", "down"]


@pytest.mark.parametrize("framework", ["starlette", "quart"])
async def test_request_and_answer_stream_at_the_same_time(framework: str, roles: Roles, programs: Programs) -> None:
    node = await roles.node()
    agent = await _serving(programs, node, framework)
    talk = await roles.dial(node.proxy)
    await talk.say(b"POST /both/ HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\nTransfer-Encoding: chunked\r\n\r\n")
    await talk.say(b"5\r\nfirst\r\n")
    await talk.until(b"FIRST")
    await talk.say(b"6\r\nsecond\r\n")
    await talk.until(b"SECOND")
    await talk.say(b"0\r\n\r\n")
    await talk.until(b"0\r\n\r\n")
    assert await agent.stop() == 0


# Reload -----------------------------------------------------------------------------------------------------

SLOW = """
import asyncio, pathlib
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    while scope["path"] == "/slow" and not pathlib.Path("go").exists():
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b" whole"})
"""


async def test_a_change_is_served_by_the_same_session_and_what_is_under_way_ends_in_the_old_one(
    tmp_path: Path, roles: Roles, programs: Programs
) -> None:
    node = await roles.node()
    module = tmp_path / "shop.py"
    module.write_text("1 / 0\n")
    agent = await _agent(programs, node, "--asgi", "shop:app", "--reload", folder=tmp_path)
    await agent.wait_line(r"waiting for a change.*shop\.py:1: ZeroDivisionError")
    module.write_text(SLOW)
    await agent.wait_line('"connected"')
    talk = await roles.dial(node.proxy)
    await talk.say(b"GET /slow HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\n\r\n")
    await talk.until(b"one")
    async with _client(node) as client:
        assert (await client.get("/")).text == "one whole"
        seen = len(agent.lines)
        changed = tmp_path / "shop.new"
        changed.write_text(SLOW.replace("one", "two"))
        shutil.copystat(module, changed)  # as if it were within the moment
        changed.rename(module)
        await agent.wait_line("application started", seen=seen)
        assert (await client.get("/")).text == "two whole"
        seen = len(agent.lines)
        module.write_text("def app(:\n")
        await agent.wait_line(r"waiting for a change.*shop\.py:1: SyntaxError", seen=seen)
        assert (await client.get("/")).text == "two whole"
        (tmp_path / "go").touch()
        await talk.until(b" whole")
    assert len(re.findall('"connected"', agent.text)) == 1
    assert await agent.stop() == 0


async def test_an_agent_whose_application_ends_by_itself_ends(tmp_path: Path, roles: Roles, programs: Programs) -> None:
    node = await roles.node()
    (tmp_path / "shop.py").write_text(
        "import os\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n    os._exit(7)\n"
    )
    agent = await _agent(programs, node, "--asgi", "shop:app", folder=tmp_path)
    await agent.wait_line('"connected"')
    async with _client(node) as client:
        assert (await client.get("/")).status_code == 502
    assert await agent.wait_end() == 1
    assert "trioduct: the application shop:app has ended by itself, with status 7" in agent.lines


async def test_an_application_ends_with_its_agent_that_is_killed(
    tmp_path: Path, roles: Roles, programs: Programs
) -> None:
    node = await roles.node()
    (tmp_path / "shop.py").write_text("import os\nprint('pid', os.getpid(), flush=True)\n" + SLOW)
    agent = await _agent(programs, node, "--asgi", "shop:app", folder=tmp_path)
    pid = int((await agent.wait_line(r"pid (\d+)"))[1])
    await agent.wait_line('"connected"')
    agent.process.kill()
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():  # noqa: ASYNC110
        await trio.sleep(0.05)


async def test_the_agents_variables_are_not_the_applications(
    tmp_path: Path, roles: Roles, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await roles.node()
    monkeypatch.setenv("TRIODUCT_CONNECT_TOKEN", "a.b.c")
    monkeypatch.setenv("SHOP_DATABASE", "here")
    (tmp_path / "shop.py").write_text("import os\nprint('knows', sorted(os.environ), flush=True)\n" + SLOW)
    agent = await _agent(programs, node, "--asgi", "shop:app", folder=tmp_path)
    knows = (await agent.wait_line(r"knows (.*)"))[1]
    assert "'SHOP_DATABASE'" in knows
    assert "TRIODUCT" not in knows


async def test_ctrl_c_drains_what_is_under_way(tmp_path: Path, roles: Roles, programs: Programs) -> None:
    node = await roles.node()
    (tmp_path / "shop.py").write_text("import os\nprint('pid', os.getpid(), flush=True)\n" + SLOW)
    agent = await _agent(programs, node, "--asgi", "shop:app", folder=tmp_path)
    pid = int((await agent.wait_line(r"pid (\d+)"))[1])
    await agent.wait_line('"connected"')
    talk = await roles.dial(node.proxy)
    await talk.say(b"GET /slow HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\n\r\n")
    await talk.until(b"one")
    os.kill(pid, signal.SIGINT)  # a terminal's Ctrl-C is for both
    agent.process.send_signal(signal.SIGINT)
    await agent.wait_line("shutting down")
    (tmp_path / "go").touch()
    await talk.until(b" whole")
    assert await agent.wait_end() == 0


async def test_an_application_that_returns_at_once_has_no_lifespan(
    tmp_path: Path, roles: Roles, programs: Programs
) -> None:
    node = await roles.node()
    (tmp_path / "shop.py").write_text("async def app(scope, receive, send): ...\n")
    agent = await _agent(programs, node, "--asgi", "shop:app", "--asgi-loop", "trio", folder=tmp_path)
    await agent.wait_line('"connected"')
    async with _client(node) as client:
        assert (await client.get("/")).status_code == 500
    assert await agent.stop() == 0


async def test_an_application_that_fails_to_start_up_is_told(tmp_path: Path, roles: Roles, programs: Programs) -> None:
    node = await roles.node()
    (tmp_path / "shop.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    agent = await _agent(programs, node, "--asgi", "shop:app", folder=tmp_path)
    assert await agent.wait_end() == 2
    assert "'shop:app': it fails to start up: no database" in agent.text


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--asgi nothing:app", "there is no module nothing in "),
        ("--asgi shop.more:app", "there is no module shop.more in "),
        ("--asgi shop:nothing", "shop.py has no nothing"),
        ("--asgi shop:number", "number in .*shop.py is of type int"),
        ("--asgi broken:app", "broken.py:2: ZeroDivisionError: division by zero"),
        ("--asgi broken2:app", "broken2.py:1: SystemExit: 3"),
        ("--asgi shop", "'shop': expected module:attribute such as shop:app"),
        ("--asgi shop:app --asgi-loop uvloop", "'uvloop': expected one of asyncio, trio"),
        ("3000 --asgi shop:app", "--asgi: 'shop:app': addr says 3000 as well"),
        ("3000 --reload", "--reload: only an application is started again; expected asgi"),
        ("--reload", "--reload: only an application is started again; expected asgi"),
        ("", "ADDR: missing; expected a port"),
    ],
)
async def test_what_cannot_be_served_is_a_sentence(words: str, text: str, tmp_path: Path, programs: Programs) -> None:
    (tmp_path / "shop.py").write_text("number = 3\n")
    (tmp_path / "broken.py").write_text("def f():\n    return 1 / 0\nf()\n")
    (tmp_path / "broken2.py").write_text("raise SystemExit(3)\n")
    command = ("env", "-C", tmp_path, TRIODUCT, "agent", "http", "shop")
    agent = await programs.start(*command, *words.split(), "--connect.url", "http://127.0.0.1:9")
    assert await agent.wait_end() == 2
    assert len(agent.lines) == 1, agent.text
    assert re.match(f"trioduct: .*{text}", agent.lines[0]), agent.text
