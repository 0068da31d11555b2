"""What an agent rewrites in requests and answers, as the service and the client see it."""

from __future__ import annotations

import pytest

from engine.config import AgentConfig, RewriteConfig
from engine.config.rewrite import HeaderRules
from tests.roles import Answer, Roles, RunningNode, Talk, agent_config, answer, tell_head, values_of


def config_for(node: RunningNode, service: int, rewrite: RewriteConfig, path: str = "") -> AgentConfig:
    config = agent_config(node.upstream, f"http://127.0.0.1:{service}{path}")
    config.listeners[0].rewrite = rewrite
    return config


async def ask(roles: Roles, node: RunningNode, target: bytes, fields: bytes = b"", method: bytes = b"GET") -> Answer:
    """What is asked twice is looked up the second time, and gives the same."""
    client = await roles.dial(node.proxy)
    request = b"%b %b HTTP/1.1\r\nHost: web.test\r\n%b\r\n" % (method, target, fields)
    first, second = await client.ask(request), await client.ask(request)
    assert first == second
    return first


def line(seen: Answer) -> bytes:
    return seen.body.partition(b"\r\n")[0]


async def test_a_service_is_asked_for_its_own_host_and_told_of_the_clients(roles: Roles) -> None:
    node = await roles.node()
    await roles.agent_with(config_for(node, await roles.service(tell_head), RewriteConfig(host="shop.internal:81")))
    seen = (await ask(roles, node, b"/")).body
    assert values_of(seen, b"host") == [b"shop.internal:81"]
    assert values_of(seen, b"x-forwarded-host") == [b"web.test"]


@pytest.mark.parametrize(
    ("target", "sent", "told"),
    [
        (b"/shop/cart?id=/shop", b"/cart?id=/shop", True),
        (b"/shop", b"/", True),
        (b"/shop?a", b"/?a", True),
        (b"/shop//evil.test/", b"/evil.test/", True),
        (b"/shopping", b"/shopping", False),
        (b"/%73hop/a", b"/%73hop/a", False),
        (b"/", b"/", False),
    ],
)
async def test_a_prefix_of_whole_segments_is_stripped(roles: Roles, target: bytes, sent: bytes, told: bool) -> None:
    node = await roles.node()
    await roles.agent_with(config_for(node, await roles.service(tell_head), RewriteConfig(strip_prefix="/shop"), "/v1"))
    seen = await ask(roles, node, target, b"X-Forwarded-Prefix: /lie\r\n")
    assert line(seen) == b"GET /v1%b HTTP/1.1" % sent
    assert values_of(seen.body, b"x-forwarded-prefix") == [b"/shop"] * told


async def test_a_question_about_the_server_itself_goes_on(roles: Roles) -> None:
    node = await roles.node()
    await roles.agent_with(config_for(node, await roles.service(tell_head), RewriteConfig(host="a"), "/v1"))
    assert line(await ask(roles, node, b"*", method=b"OPTIONS")) == b"OPTIONS * HTTP/1.1"


async def test_headers_are_set_added_and_removed_both_ways(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            await talk.say(answer(head, fields=b"Server: old\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3\r\n"))

    rewrite = RewriteConfig(
        request_headers=HeaderRules(set=["X-Key: s3cret"], add=["X-A: mine"], remove=["cookie"]),
        response_headers=HeaderRules(set=["X-A: one", "X-Frame-Options: DENY"], add=["X-B: 4"], remove=["SERVER"]),
    )
    node = await roles.node()
    await roles.agent_with(config_for(node, await roles.service(serve), rewrite))
    got = await ask(roles, node, b"/", b"x-key: lie\r\nX-A: theirs\r\nCookie: a=b\r\n")
    for name, values in ((b"x-key", [b"s3cret"]), (b"x-a", [b"theirs", b"mine"]), (b"cookie", [])):
        assert values_of(got.body, name) == values
    for name, values in (
        (b"server", []),
        (b"x-a", [b"one"]),
        (b"x-frame-options", [b"DENY"]),
        (b"x-b", [b"3", b"4"]),
        (b"content-length", [b"%d" % len(got.body)]),
    ):
        assert got.values(name) == values


LOCATIONS = [
    (b"/login?next=/", b"/shop/login?next=/"),
    (b"/v1/login", b"/shop/login"),
    (b"/v1", b"/shop/"),
    (b"/shop/login", b"/shop/login"),  # the service heeds X-Forwarded-Prefix
    (b"login", b"login"),
    (b"?page=2", b"?page=2"),
    (b"http://own.test/login", b"/shop/login"),
    (b"//OWN.test/v1/login", b"/shop/login"),
    (b"http://own.test", b"/shop/"),
    (b"http://own.test//evil.test", b"/shop/evil.test"),
    (b"https://own.test/login", b"https://own.test/login"),  # what that would be for clients is not known
    (b"https://web.test/login", b"https://web.test/shop/login"),
    (b"http://other.test/login", b"http://other.test/login"),
]


@pytest.mark.parametrize(("said", "seen"), LOCATIONS)
async def test_a_location_is_one_that_the_client_knows(roles: Roles, said: bytes, seen: bytes) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(status=b"302 Found", fields=b"location: %b\r\n" % said))

    node = await roles.node()
    rewrite = RewriteConfig(host="own.test", strip_prefix="/shop")
    await roles.agent_with(config_for(node, await roles.service(serve), rewrite, "/v1"))
    assert (await ask(roles, node, b"/shop/a")).values(b"location") == [seen]


async def test_a_body_without_a_length_and_an_upgrade_go_through(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        if b"Upgrade: echo" in head:
            assert head.startswith(b"GET /up HTTP/1.1\r\nHost: own.test\r\n")
            await talk.say(b"HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            await talk.say(await talk.until(b"!"))
        else:
            await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    node = await roles.node()
    rewrite = RewriteConfig(host="own.test", strip_prefix="/a", response_headers=HeaderRules(set=["X-A: 1"]))
    await roles.agent_with(config_for(node, await roles.service(serve), rewrite))
    client = await roles.dial(node.proxy)
    await client.say(b"GET /a/x HTTP/1.1\r\nHost: web.test\r\n\r\n")
    head = await client.until(b"0\r\n\r\n")
    assert head.endswith(b"X-A: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    await client.say(b"GET /a/up HTTP/1.1\r\nHost: web.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    await client.until(b"\r\n\r\n")
    await client.say(b"hello!")
    assert await client.until(b"!") == b"hello!"
