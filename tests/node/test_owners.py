"""Whose an endpoint is, on the upstream port: of whose token has registered it first, and told in status and log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from urllib.parse import quote

import jwt
import pytest

from engine import log
from engine.config import ServerConfig
from engine.errors import Refused
from tests.node.test_agent_port import UPGRADE
from tests.node.test_tokens import SECRET, protected
from tests.roles import Roles, RunningNode, Talk, agent_config, says, settle


def sharing(how: str) -> ServerConfig:
    config = protected("upstream")
    config.upstream.sharing = how  # type: ignore[assignment]
    return config


async def registered(roles: Roles, node: RunningNode, endpoint: str, subject: str | None) -> tuple[int, Talk]:
    """The status that whoever would register is told, and the connection."""
    token = jwt.encode({"sub": subject} if subject is not None else {}, SECRET, "HS256")
    agent = await roles.dial(node.upstream)
    await agent.say(
        f"GET /piko/v1/upstream/{quote(endpoint, safe='')} HTTP/1.1\r\nHost: x\r\n".encode()
        + UPGRADE
        + f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    head = await agent.until(b"\r\n\r\n")
    return int(head[9:12]), agent


async def test_a_taken_endpoint_is_refused_to_another_principal_and_so_is_a_name_like_it(roles: Roles) -> None:
    node = await roles.node(sharing("balanced"))
    status, first = await registered(roles, node, "häuser", "alice")
    assert status == 101
    for name in ("häuser", "Häuser", "HÄUSER", "xn--huser-gra", "häu\ufe0fser", "häuser\u3164", "häuser。"):
        for subject in ("bob", "Alice", "", None):
            status, _ = await registered(roles, node, name, subject)
            assert status == 403
    assert (await registered(roles, node, "häuser", "alice"))[0] == 101
    assert (await registered(roles, node, "other", "bob"))[0] == 101
    await first.reset()


async def test_an_endpoint_that_nobody_has_any_more_is_free(roles: Roles) -> None:
    node = await roles.node(sharing("balanced"))
    _, first = await registered(roles, node, "shop", "alice")
    await first.reset()
    await settle()
    assert (await registered(roles, node, "shop", "bob"))[0] == 101


async def test_tokens_that_name_nobody_share_as_before(roles: Roles) -> None:
    node = await roles.node(sharing("balanced"))
    for _ in range(3):
        assert (await registered(roles, node, "shop", None))[0] == 101


async def test_an_exclusive_endpoint_has_one_session_and_the_next_may_come_again(roles: Roles) -> None:
    node = await roles.node(sharing("exclusive"))
    _, first = await registered(roles, node, "shop", "alice")
    assert (await registered(roles, node, "shop", "alice"))[0] == 503  # an agent tries again
    assert (await registered(roles, node, "shop", "bob"))[0] == 403
    await first.reset()
    await settle()
    assert (await registered(roles, node, "shop", "alice"))[0] == 101


async def test_an_agent_that_may_not_have_an_endpoint_ends_and_says_why(roles: Roles) -> None:
    node = await roles.node(sharing("balanced"))
    await registered(roles, node, "web", "alice")
    config = agent_config(node.upstream, await roles.service(says(b"")))
    config.connect.token = jwt.encode({"sub": "bob"}, SECRET, "HS256")
    error = await roles.failure_of_agent(config)
    assert isinstance(error, Refused)
    assert "taken by somebody else" in str(error)


@pytest.mark.parametrize("name", ["shop.", " shop", "a\u202eb", "a\u0308"])
async def test_a_name_that_can_be_misread_is_refused(roles: Roles, name: str) -> None:
    node = await roles.node(sharing("balanced"))
    assert (await registered(roles, node, name, "alice"))[0] == 400


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("info", (), stream)
    yield stream
    log.configure("warn")


async def test_who_has_registered_what_is_in_the_status_and_the_log(roles: Roles, logged: io.StringIO) -> None:
    node = await roles.node(sharing("balanced"))
    await registered(roles, node, "shop", "alice")
    await registered(roles, node, "api", None)
    admin = await roles.dial(node.admin)
    answered = await admin.ask(b"GET /status/upstream/sessions HTTP/1.1\r\nHost: localhost\r\n\r\n")
    rides_on = {"carrier": "websocket", "suspended": False}
    unsaid = {"version": "", "way": "", "weight": 1, "domains": []}
    assert json.loads(answered.body) == [
        {"endpoint": "api", "principal": "", "client": "127.0.0.1", "seconds": 0, **rides_on, **unsaid},
        {"endpoint": "shop", "principal": "alice", "client": "127.0.0.1", "seconds": 0, **rides_on, **unsaid},
    ]
    assert log.flush()
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    connected = [line for line in lines if line["msg"] == "upstream connected"]
    assert [(line["endpoint-id"], line["principal"]) for line in connected] == [("shop", "alice"), ("api", None)]
