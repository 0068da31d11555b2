"""Pages that browsers are shown in place of errors, by a node and by an agent."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.roles import GET, Roles, agent_config, server_config

BROWSER = GET[:-2] + b"Accept: text/html,*/*;q=0.8\r\n\r\n"


async def closed_port() -> int:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def test_a_node_and_an_agent_have_pages_of_their_own(roles: Roles, tmp_path: Path) -> None:
    nobody, down = tmp_path / "nobody.html", tmp_path / "down.html"
    nobody.write_text("<h1>Nobody – yet</h1>")
    down.write_text("<h1>Down</h1>")
    config = server_config()
    config.proxy.error_pages = [("5xx", str(nobody))]
    node = await roles.node(config)
    client = await roles.dial(node.proxy)
    shown = await client.ask(BROWSER)
    assert (shown.status, shown.body.decode()) == (502, "<h1>Nobody – yet</h1>")
    assert (await client.ask()).body == b'{"error":"no available upstreams"}\n'
    agent = agent_config(node.upstream, await closed_port())
    agent.listeners[0].error_pages = [("502", str(down))]
    await roles.agent_with(agent)
    shown = await client.ask(BROWSER)
    assert (shown.status, shown.body, shown.values(b"cache-control")) == (502, b"<h1>Down</h1>", [b"no-store"])
    assert (await client.ask()).body == b'{"error":"upstream unreachable"}\n'
    await client.say(BROWSER.replace(b"GET", b"HEAD"))
    assert (await client.answer(body=False)).values(b"content-length") == [b"13"]


async def test_a_page_that_has_changed_is_read_again(
    roles: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.loop.renewed.WATCH_SECONDS", 0.02)
    page = tmp_path / "page.html"
    page.write_text("<p>one")
    config = server_config()
    config.proxy.error_pages = [("502", str(page))]
    node = await roles.node(config)
    client = await roles.dial(node.proxy)
    assert (await client.ask(BROWSER)).body == b"<p>one"
    page.write_text("<p>another")
    while (await client.ask(BROWSER)).body != b"<p>another":
        pass
