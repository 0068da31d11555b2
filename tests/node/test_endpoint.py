"""Which endpoint a request is for, who of its agents gets it, and what the node says when nobody can."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from engine.node.node import PATIENCE_SECONDS
from tests.roles import GET, Answer, Roles, RunningNode, Talk, agent_config, says, server_config, settle, tell_head


async def ask(roles: Roles, node: RunningNode, request: bytes = GET) -> Answer:
    """One request on a connection of its own."""
    client = await roles.dial(node.proxy)
    answer = await client.ask(request)
    await client.close()
    return answer


async def endpoints(roles: Roles, node: RunningNode) -> object:
    admin = await roles.dial(node.admin)
    answer = await admin.ask(b"GET /status/upstream/endpoints HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await admin.close()
    return json.loads(answer.body)


def assert_error(answer: Answer, status: int, message: str) -> None:
    assert (answer.status, json.loads(answer.body)) == (status, {"error": message})
    assert answer.values(b"content-type") == [b"application/json"]
    assert answer.values(b"x-content-type-options") == [b"nosniff"]


# -- Which endpoint


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: web.test",
        b"GET / HTTP/1.1\r\nHost: web.test:8000",
        b"GET / HTTP/1.1\r\nHost: web.a.long.name.test",
        b"GET / HTTP/1.1\r\nHost: other.test\r\nx-piko-endpoint: web",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-PIKO-Endpoint: web",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nx-piko-endpoint: web",
        b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\nx-piko-endpoint: web",
        b"GET http://web.test/ HTTP/1.1\r\nHost: other.test",
        b"GET / HTTP/1.0\r\nHost: web.test\r\nConnection: keep-alive",
        b"GET / HTTP/1.0\r\nx-piko-endpoint: web\r\nConnection: keep-alive",
    ],
)
async def test_an_endpoint_is_named_by_its_field_or_else_by_the_first_label_of_the_host(
    roles: Roles, request_head: bytes
) -> None:
    node = await roles.tunnel(tell_head)
    assert (await ask(roles, node, request_head + b"\r\n\r\n")).status == 200


@pytest.mark.parametrize(
    "host", [b"localhost", b"localhost:8000", b"127.0.0.1", b"127.0.0.1:8000", b"[::1]", b"[::1]:8000", b".test"]
)
async def test_a_host_that_is_an_address_or_has_no_label_before_a_dot_names_none(roles: Roles, host: bytes) -> None:
    node = await roles.tunnel(tell_head)
    answer = await ask(roles, node, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert_error(answer, 400, "missing endpoint id")


async def test_a_name_that_only_begins_like_an_address_is_one(roles: Roles) -> None:
    node = await roles.node()
    await roles.agent(node, await roles.service(tell_head), endpoint="10")
    assert (await ask(roles, node, b"GET / HTTP/1.1\r\nHost: 10.test\r\n\r\n")).status == 200


async def test_an_endpoint_may_have_a_name_that_has_to_be_escaped(roles: Roles) -> None:
    node = await roles.node()
    await roles.agent(node, await roles.service(tell_head), endpoint="häuser & co %41")
    request = "GET / HTTP/1.1\r\nHost: x.test\r\nx-piko-endpoint: häuser & co %41\r\n\r\n".encode()
    assert (await ask(roles, node, request)).status == 200


# -- Which agent


async def test_the_agents_of_an_endpoint_take_turns(roles: Roles) -> None:
    node = await roles.node()
    for name in (b"a", b"b", b"c"):
        await roles.agent(node, await roles.service(says(name)))
    client = await roles.dial(node.proxy)
    assert [(await client.ask()).body for _ in range(7)] == [b"a", b"b", b"c", b"a", b"b", b"c", b"a"]


async def test_endpoints_do_not_share_agents(roles: Roles) -> None:
    node = await roles.node()
    for name in ("one", "two"):
        await roles.agent(node, await roles.service(says(name.encode())), endpoint=name)
    client = await roles.dial(node.proxy)
    for asked in (b"two", b"one", b"two"):
        assert (await client.ask(GET.replace(b"web", asked))).body == asked
    assert await endpoints(roles, node) == {"one": 1, "two": 1}


@pytest.mark.parametrize("how", ["told", "killed"])
async def test_an_agent_that_leaves_is_taken_out_once_and_no_other_with_it(roles: Roles, how: str) -> None:
    node = await roles.node()
    leaving = await roles.agent(node, await roles.service(says(b"leaving")))
    for _ in range(2):
        await roles.agent(node, await roles.service(says(b"staying")))
    assert await endpoints(roles, node) == {"web": 3}
    if how == "told":
        leaving.tell_to_stop()
        await leaving.ended.wait()
    else:
        await leaving.kill()
    await settle()
    assert await endpoints(roles, node) == {"web": 2}
    assert {(await ask(roles, node)).body for _ in range(4)} == {b"staying"}


async def test_the_last_agent_takes_its_endpoint_with_it(roles: Roles) -> None:
    node = await roles.node()
    agent = await roles.agent(node, await roles.service(tell_head))
    await agent.kill()
    await settle()
    assert await endpoints(roles, node) == {}
    assert_error(await ask(roles, node), 502, "no available upstreams")


async def test_an_idempotent_request_whose_session_dies_unanswered_goes_to_another(roles: Roles) -> None:
    node = await roles.node()
    asked = trio.Event()

    async def never_answers(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await trio.sleep_forever()

    dying = await roles.agent(node, await roles.service(never_answers))
    await roles.agent(node, await roles.service(says(b"second")))
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await asked.wait()
    await dying.kill()
    assert (await client.answer()).body == b"second"


# -- Nobody


async def test_an_endpoint_that_nobody_serves_is_a_502(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    assert_error(await ask(roles, node, GET.replace(b"web", b"other")), 502, "no available upstreams")


async def test_a_service_that_is_not_there_is_a_502(roles: Roles) -> None:
    node = await roles.node()
    with trio.socket.socket() as bound:  # so that nobody else listens there, and neither does it
        await bound.bind(("127.0.0.1", 0))
        await roles.agent(node, bound.getsockname()[1])
        assert_error(await ask(roles, node), 502, "upstream unreachable")


async def test_a_service_that_hangs_up_without_an_answer_is_a_502(roles: Roles) -> None:
    asked = 0

    async def hang_up(talk: Talk) -> None:
        nonlocal asked
        await talk.until(b"\r\n\r\n")
        asked += 1

    node = await roles.tunnel(hang_up)
    request = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n"
    assert_error(await ask(roles, node, request), 502, "upstream unreachable")
    assert asked == 1  # a POST is not repeated


@pytest.mark.parametrize(("listener_seconds", "proxy_seconds"), [(10, 30), (100, 20)], ids=["agent", "node"])
async def test_a_service_that_does_not_answer_is_a_504(
    roles: Roles, mock_clock: MockClock, listener_seconds: float, proxy_seconds: float
) -> None:
    async def never_answer(talk: Talk) -> None:
        await talk.rest()

    config = server_config()
    config.proxy.timeout = proxy_seconds
    node = await roles.node(config)
    listening = agent_config(node.upstream, await roles.service(never_answer))
    listening.listeners[0].timeout = listener_seconds
    await roles.agent_with(listening)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await settle()
    mock_clock.jump(min(listener_seconds, proxy_seconds) + 0.5)
    assert_error(await client.answer(), 504, "upstream timeout")


async def test_a_node_that_has_just_started_waits_for_agents_that_are_on_their_way(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr("engine.node.node.PATIENCE_SECONDS", PATIENCE_SECONDS)
    node = await roles.node()
    service = await roles.service(tell_head)
    early, hopeless, gone, half, bad = [await roles.dial(node.proxy) for _ in range(5)]
    await early.say(b"PUT / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhello")
    await hopeless.say(GET.replace(b"web", b"other"))
    await gone.say(GET)
    await half.say(b"PUT / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhell")
    await bad.say(b"PUT / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    await settle()
    await bad.say(b"0x5\r\n")
    await gone.reset()
    await half.finish()
    await settle()
    await roles.agent(node, service)
    assert (await early.answer()).status == 200
    mock_clock.jump(PATIENCE_SECONDS + 1)
    assert_error(await hopeless.answer(), 502, "no available upstreams")
    assert_error(await ask(roles, node, GET.replace(b"web", b"other")), 502, "no available upstreams")


# -- What the service hears of the client and of the node


async def test_what_is_said_to_the_node_never_reaches_the_service(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    seen = await ask(
        roles,
        node,
        b"GET /a?b=%zz HTTP/1.1\r\nHost: web.test\r\nX-Own: 1\r\nx-piko-endpoint: web\r\nx-piko-forward: true\r\n"
        b"X-Piko-Authorization: Bearer x\r\nX-PIKO-TENANT-ID: t\r\nx-piko-anything: 1\r\n"
        b"Connection: x-piko-endpoint, Host, keep-alive\r\nKeep-Alive: 5\r\nProxy-Authorization: Basic x\r\n\r\n",
    )
    assert b"piko" not in seen.body.lower()
    assert b"Basic" not in seen.body
    assert seen.body.startswith(b"GET /a?b=%zz HTTP/1.1\r\nHost: web.test\r\nX-Own: 1\r\n")


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ([b"web", b"web"], 200),
        ([b"web", b"other"], 400),
        ([b"other", b"web"], 400),
        ([b"", b"web"], 400),
        ([b"web", b"WEB"], 400),
        ([b"web", b"other", b"web"], 400),
    ],
)
async def test_a_request_that_names_two_endpoints_is_refused(roles: Roles, named: list[bytes], status: int) -> None:
    node = await roles.tunnel(tell_head)
    fields = b"".join(b"x-piko-endpoint: %b\r\n" % name for name in named)
    for _ in range(3):
        assert (await ask(roles, node, b"GET / HTTP/1.1\r\nHost: web.test\r\n%b\r\n" % fields)).status == status


async def test_who_asked_is_told_by_the_usual_name_where_a_port_listens_on_all_addresses(roles: Roles) -> None:
    config = server_config()
    config.proxy.bind_addr = ":0"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    seen = await ask(roles, node)
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in seen.body


async def test_without_tokens_of_our_own_the_clients_credentials_are_the_services(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    seen = await ask(roles, node, b"GET / HTTP/1.1\r\nHost: web.test\r\nAuthorization: Basic abc\r\n\r\n")
    assert b"\r\nAuthorization: Basic abc\r\n" in seen.body


@pytest.mark.parametrize(
    ("public_url", "scheme"), [("https://*.example.com", b"https"), ("http://*.example.com", b"http")]
)
async def test_a_service_is_told_the_scheme_of_the_public_url_where_something_else_ends_tls(
    roles: Roles, public_url: str, scheme: bytes
) -> None:
    config = server_config()
    config.proxy.public_url = public_url
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    told = await ask(roles, node)
    assert b"\r\nX-Forwarded-Proto: %b\r\n" % scheme in told.body
