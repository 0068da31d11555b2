"""What an agent on a terminal says of where its services can be reached."""

from __future__ import annotations

import os
import pty

import pytest
import trio

from engine import log
from engine.config import ListenerConfig
from tests.agent.upstream_port import Port
from tests.peers import accept
from tests.programs import free_port
from tests.roles import Roles, agent_config


async def said_on_a_terminal(
    roles: Roles, port: Port, url: bytes, level: str = "info", inspected: str = ""
) -> list[str]:
    """What an agent with three services shows, the lines of the log left out."""
    config = agent_config(port.number, 1, endpoint="shop")
    config.inspect.bind_addr = inspected
    config.listeners += [
        ListenerConfig(endpoint_id="My App's", addr="127.0.0.1:1"),
        ListenerConfig(endpoint_id="database", addr="127.0.0.1:1", protocol="tcp"),
    ]
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as reader, os.fdopen(theirs, "w") as terminal:
        log.configure(level, (), terminal)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(roles.agent_with, config)
                for _ in config.listeners:
                    talk, head = await port.arrivals.receive()
                    await accept(talk, head, fields=b"x-trioduct-public-url: %b\r\n" % url if url else b"")
            log.get_logger("client").error("the end")
            log.flush()
            said = reader.read1(65536).decode()
        finally:
            log.configure("warn")
    return [line for line in said.splitlines() if not line[:2].isdigit() and "\x1b" not in line]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


async def test_below_a_wildcard_a_name_is_a_url_if_it_can_be(roles: Roles, port: Port) -> None:
    assert await said_on_a_terminal(roles, port, b"https://*.example.com") == [
        "",
        "Clients reach",
        "  shop      https://shop.example.com",
        """  My App's  curl -H 'x-piko-endpoint: My App'"'"'s' https://tunnel.example.com""",
        "  database  trioduct forward tcp PORT database --connect.url https://database.example.com",
        "",
    ]


async def test_without_a_wildcard_the_field_names_the_endpoint(roles: Roles, port: Port) -> None:
    assert await said_on_a_terminal(roles, port, b"http://tunnel.example.com:8000") == [
        "",
        "Clients reach",
        "  shop      curl -H 'x-piko-endpoint: shop' http://tunnel.example.com:8000",
        """  My App's  curl -H 'x-piko-endpoint: My App'"'"'s' http://tunnel.example.com:8000""",
        "  database  trioduct forward tcp PORT database --connect.url http://tunnel.example.com:8000",
        "",
    ]


async def test_the_inspectors_url_is_shown_and_not_logged(
    roles: Roles, port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.agent.agent.token_urlsafe", lambda: "s3cret-of-this-agent")
    inspected = f"127.0.0.1:{free_port()}"
    said = await said_on_a_terminal(roles, port, b"", inspected=inspected)
    assert said == ["", "Inspect what passes", f"  http://{inspected}/s3cret-of-this-agent/", ""]


async def test_nothing_is_said_of_what_is_not_known_or_below_its_level(roles: Roles, port: Port) -> None:
    assert await said_on_a_terminal(roles, port, b"") == []
    assert await said_on_a_terminal(roles, port, b"https://*.example.com", "warn") == []
