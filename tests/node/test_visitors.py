"""Who may use an endpoint: by the node's file and the agent's, whatever a client speaks, and wherever it comes in."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import jwt
import pytest
import trio

from engine.auth.visitors import Users
from engine.config import AgentConfig, ServerConfig, VisitorsConfig
from engine.config.server import TenantConfig
from engine.errors import Refused
from engine.wire.visitors import FIELD
from tests.auth.test_visitors import HASH, basic, hash_of
from tests.node.conftest import Written
from tests.node.test_agent_port import UPGRADE
from tests.node.test_peers import Cluster
from tests.programs import get
from tests.roles import (
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    says,
    server_config,
    settle,
    tell_head,
)

WEB = b"GET /x HTTP/1.1\r\nHost: web.test\r\n%b\r\n"
NOBODY = ["192.0.2.0/24"]
SELF = ["127.0.0.0/8"]
LET_IN_OR_NOT = pytest.mark.parametrize(
    ("visitors", "let_in"), [(VisitorsConfig(allow=SELF), True), (VisitorsConfig(deny=SELF), False)]
)


def request(*fields: bytes) -> bytes:
    return WEB % b"".join(field + b"\r\n" for field in fields)


def shown(user: str, password: str) -> bytes:
    return b"Authorization: " + basic(user, password)


ALICE = shown("alice", "secret")


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    write(path, b"alice:%b\n" % HASH)
    return path


def write(path: Path, content: bytes) -> None:
    """At once, as a careful program does it."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)


def node_config(**visitors: VisitorsConfig) -> ServerConfig:
    config = server_config()
    config.proxy.endpoints = dict(visitors)
    return config


def guarded(upstream: int, service: int, visitors: VisitorsConfig, *, protocol: str = "http") -> AgentConfig:
    config = agent_config(upstream, service, protocol=protocol)
    config.listeners[0].visitors = visitors
    return config


async def refusals(node: RunningNode) -> dict[str, int]:
    _, text = await get(node.admin, "/metrics")
    lines = [line for line in text.splitlines() if line.startswith("trioduct_visitors_refused_total")]
    return {line.split('"')[1]: int(float(line.split()[1])) for line in lines}


@pytest.fixture(params=["node", "agent"])
def whose(request: pytest.FixtureRequest) -> str:
    """Whose file says it."""
    return str(request.param)


async def tunnel(
    roles: Roles, whose: str, visitors: VisitorsConfig, *, protocol: str = "http", config: ServerConfig | None = None
) -> RunningNode:
    """A node, and an agent that offers `web`, which only those visitors may use."""
    config = config or server_config()
    if whose == "node":
        config.proxy.endpoints = {"web": visitors}
    node = await roles.node(config)
    service = await roles.service(tell_head if protocol == "http" else echo)
    theirs = visitors if whose == "agent" else VisitorsConfig()
    await roles.agent_with(guarded(node.upstream, service, theirs, protocol=protocol))
    return node


# Addresses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visitors", "status"),
    [
        (VisitorsConfig(allow=SELF), 200),
        (VisitorsConfig(allow=["::ffff:127.0.0.0/104"]), 200),
        (VisitorsConfig(allow=NOBODY), 403),
        (VisitorsConfig(deny=SELF), 403),
        (VisitorsConfig(deny=NOBODY), 200),
        (VisitorsConfig(allow=SELF, deny=["127.0.0.1/32"]), 403),
    ],
)
async def test_an_address_is_let_in_or_not(roles: Roles, whose: str, visitors: VisitorsConfig, status: int) -> None:
    node = await tunnel(roles, whose, visitors)
    client = await roles.dial(node.proxy)
    for _ in range(2):  # one connection: a refusal ends nothing
        assert (await client.ask()).status == status
    if status == 403:
        got = await client.ask()
        assert got.body == b'{"error":"this client may not use the endpoint"}\n'
        assert (await refusals(node))["address"] == 3
    await settle()
    _, text = await get(node.admin, "/metrics")
    assert "piko_proxy_requests_in_flight 0.0" in text


async def test_behind_a_proxy_that_is_trusted_the_client_is_who_it_names(roles: Roles, whose: str) -> None:
    config = server_config()
    config.proxy.trusted_proxies = ["127.0.0.1"]
    node = await tunnel(roles, whose, VisitorsConfig(allow=["10.0.0.0/8"]), config=config)
    client = await roles.dial(node.proxy)
    for address, status in ((b"10.1.2.3", 200), (b"11.1.2.3", 403), (b"::ffff:10.1.2.3", 200), (b"rubbish", 403)):
        assert (await client.ask(request(b"X-Forwarded-For: " + address))).status == status


async def test_who_is_not_trusted_names_nobody(roles: Roles, whose: str) -> None:
    node = await tunnel(roles, whose, VisitorsConfig(allow=["10.0.0.0/8"]))
    client = await roles.dial(node.proxy)
    assert (await client.ask(request(b"X-Forwarded-For: 10.1.2.3"))).status == 403


async def test_with_the_proxy_protocol_the_client_is_who_it_names(roles: Roles, whose: str) -> None:
    config = server_config()
    config.proxy.trusted_proxies, config.proxy.proxy_protocol = ["127.0.0.1"], True
    node = await tunnel(roles, whose, VisitorsConfig(allow=["10.0.0.0/8"]), config=config)
    for address, status in ((b"10.1.2.3", 200), (b"11.1.2.3", 403)):
        client = await roles.dial(node.proxy, before=b"PROXY TCP4 %b 127.0.0.1 1 2\r\n" % address)
        assert (await client.ask()).status == status


async def test_an_agent_can_only_be_stricter_than_its_node(roles: Roles) -> None:
    node = await roles.node(node_config(web=VisitorsConfig(allow=NOBODY)))
    service = await roles.service(says(b"hello"))
    await roles.agent_with(guarded(node.upstream, service, VisitorsConfig(allow=["0.0.0.0/0", "::/0"])))
    assert (await (await roles.dial(node.proxy)).ask()).status == 403


async def test_a_guard_is_for_its_endpoint_alone(roles: Roles) -> None:
    config = node_config(**{"web": VisitorsConfig(deny=SELF), "admin-*": VisitorsConfig(deny=SELF)})
    node = await roles.node(config)
    service = await roles.service(says(b"hello"))
    for endpoint in ("web", "other", "admin-x"):
        await roles.agent(node, service, endpoint=endpoint)
    client = await roles.dial(node.proxy)
    statuses = {
        endpoint: (await client.ask(b"GET / HTTP/1.1\r\nHost: %b.test\r\n\r\n" % endpoint)).status
        for endpoint in (b"web", b"other", b"admin-x")
    }
    assert statuses == {b"web": 403, b"other": 200, b"admin-x": 403}


async def test_who_may_not_use_an_endpoint_does_not_learn_whether_it_is_served(roles: Roles) -> None:
    node = await roles.node(node_config(web=VisitorsConfig(deny=SELF)))
    assert (await (await roles.dial(node.proxy)).ask()).status == 403


async def test_a_tenants_endpoint_is_named_with_the_tenant(roles: Roles) -> None:
    config = node_config(**{"acme/web": VisitorsConfig(deny=SELF)})
    config.upstream.tenants = [TenantConfig(id=one) for one in ("acme", "beta")]
    for one in config.upstream.tenants:
        one.auth.hmac_secret_key = f"the key of {one.id}, which has more than thirty-two bytes"
    node = await roles.node(config)
    client = await roles.dial(node.proxy)
    assert (await client.ask(request(b"x-piko-tenant-id: acme"))).status == 403
    assert (await client.ask(request(b"x-piko-tenant-id: beta"))).status == 502


# Passwords ---------------------------------------------------------------------------------------------------


async def test_a_right_password_is_let_in_and_does_not_reach_the_service(
    roles: Roles, whose: str, htpasswd: Path
) -> None:
    node = await tunnel(roles, whose, VisitorsConfig(basic_auth_file=str(htpasswd)))
    client = await roles.dial(node.proxy)
    for _ in range(3):  # the first is checked, the others are known
        got = await client.ask(request(ALICE, b"Cookie: c=1"))
        assert got.status == 200
        assert b"uthorization" not in got.body
        assert b"secret" not in got.body
        assert b"Cookie: c=1\r\n" in got.body
    wrong = [
        request(),
        request(shown("alice", "other")),
        request(shown("bob", "secret")),
        request(b"Authorization: Basic !!"),
        request(b"Authorization: Bearer a.b.c"),
        request(ALICE, shown("alice", "other")),
    ]
    for one in wrong:
        got = await client.ask(one)
        assert got.status == 401
        assert got.values(b"www-authenticate") == [b'Basic realm="restricted", charset="UTF-8"']
    assert await refusals(node) == {"address": 0, "credentials": len(wrong), "busy": 0}
    assert (await client.ask(request(ALICE))).status == 200


async def test_a_request_with_a_body_waits_for_the_check(roles: Roles, whose: str, htpasswd: Path) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(await talk.exactly(300_000)))

    config = server_config()
    visitors = VisitorsConfig(basic_auth_file=str(htpasswd))
    if whose == "node":
        config.proxy.endpoints = {"web": visitors}
    node = await roles.node(config)
    theirs = visitors if whose == "agent" else VisitorsConfig()
    await roles.agent_with(guarded(node.upstream, await roles.service(serve), theirs))
    body = os.urandom(300_000)
    for _ in range(2):
        client = await roles.dial(node.proxy)
        async with trio.open_nursery() as nursery:
            head = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 300000\r\n%b\r\n\r\n" % ALICE
            nursery.start_soon(client.say, head + body)
            got = await client.answer()
        assert (got.status, got.body) == (200, body)


async def test_requests_that_come_at_once_are_answered_in_their_order(roles: Roles, whose: str, htpasswd: Path) -> None:
    node = await tunnel(roles, whose, VisitorsConfig(basic_auth_file=str(htpasswd)))
    client = await roles.dial(node.proxy)
    await client.say(request(ALICE) + request(shown("alice", "no")) + request(ALICE) + request())
    assert [(await client.answer()).status for _ in range(4)] == [200, 401, 200, 401]


async def test_a_client_that_leaves_while_its_password_is_checked_harms_nobody(
    roles: Roles, whose: str, htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, checked = trio.Event(), Users.check
    token = trio.lowlevel.current_trio_token()
    may_go_on = threading.Event()

    def check(self: Users, value: bytes) -> bool:
        token.run_sync_soon(begun.set)
        assert may_go_on.wait(20)
        return checked(self, value)

    monkeypatch.setattr(Users, "check", check)
    node = await tunnel(roles, whose, VisitorsConfig(basic_auth_file=str(htpasswd)))
    client = await roles.dial(node.proxy)
    await client.say(request(ALICE))
    await begun.wait()
    await client.reset()
    may_go_on.set()
    assert (await (await roles.dial(node.proxy)).ask(request(ALICE))).status == 200


async def test_other_requests_go_on_while_a_password_is_checked(
    roles: Roles, htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, checked = threading.Event(), Users.check

    def check(self: Users, value: bytes) -> bool:
        assert may_go_on.wait(20)
        return checked(self, value)

    monkeypatch.setattr(Users, "check", check)
    node = await roles.node(node_config(web=VisitorsConfig(basic_auth_file=str(htpasswd))))
    service = await roles.service(says(b"hello"))
    for endpoint in ("web", "other"):
        await roles.agent(node, service, endpoint=endpoint)
    waiting, other = await roles.dial(node.proxy), await roles.dial(node.proxy)
    await waiting.say(request(ALICE))
    for _ in range(20):
        assert (await other.ask(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")).status == 200
    may_go_on.set()
    assert (await waiting.answer()).status == 200


async def test_who_guesses_too_much_at_once_is_told_to_wait(
    roles: Roles, htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()
    monkeypatch.setattr(Users, "check", lambda self, value: not may_go_on.wait(20))
    monkeypatch.setattr("engine.auth.passwords.MAX_WAITING_OF_ONE", 3)
    config = node_config(web=VisitorsConfig(basic_auth_file=str(htpasswd)))
    config.proxy.trusted_proxies = ["127.0.0.1"]
    node = await roles.node(config)
    for number in range(3):
        client = await roles.dial(node.proxy)
        await client.say(request(shown("alice", str(number)), b"X-Forwarded-For: 10.0.0.1"))
    await settle()
    one_more = await roles.dial(node.proxy)
    got = await one_more.ask(request(shown("alice", "more"), b"X-Forwarded-For: 10.0.0.1"))
    assert (got.status, got.values(b"retry-after")) == (503, [b"1"])
    other = await roles.dial(node.proxy)
    await other.say(request(shown("alice", "5"), b"X-Forwarded-For: 10.0.0.2"))
    may_go_on.set()
    assert (await other.answer()).status == 401
    assert (await refusals(node))["busy"] == 1


async def test_a_token_and_a_password_come_in_two_fields(roles: Roles, htpasswd: Path) -> None:
    config = node_config(web=VisitorsConfig(basic_auth_file=str(htpasswd)))
    config.proxy.auth.hmac_secret_key = "a secret of thirty-two characters or more"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    token = b"x-piko-authorization: Bearer " + jwt.encode({}, config.proxy.auth.hmac_secret_key, "HS256").encode()
    client = await roles.dial(node.proxy)
    got = await client.ask(request(token, ALICE))
    assert got.status == 200
    assert b"uthorization" not in got.body
    got = await client.ask(request(token))
    assert (got.status, len(got.values(b"www-authenticate"))) == (401, 1)
    got = await client.ask(request(ALICE))  # which is no token
    assert (got.status, got.values(b"www-authenticate")) == (401, [])


async def test_where_no_password_is_asked_for_authorization_is_the_services(roles: Roles, whose: str) -> None:
    node = await tunnel(roles, whose, VisitorsConfig(allow=SELF))
    got = await (await roles.dial(node.proxy)).ask(request(ALICE))
    assert ALICE in got.body


async def test_a_file_that_changes_is_read_again(
    roles: Roles, htpasswd: Path, monkeypatch: pytest.MonkeyPatch, written: Written
) -> None:
    monkeypatch.setattr("engine.node.visitors.SOON_SECONDS", 0.01)
    node = await roles.node(node_config(web=VisitorsConfig(basic_auth_file=str(htpasswd))))
    await roles.agent(node, await roles.service(says(b"hello")))
    client = await roles.dial(node.proxy)
    assert (await client.ask(request(ALICE))).status == 200
    write(htpasswd, b"bob:%b\n" % hash_of("builder"))
    while (await client.ask(request(shown("bob", "builder")))).status != 200:  # noqa: ASYNC110
        await trio.sleep(0.01)
    assert (await client.ask(request(ALICE))).status == 401
    for content in (b"bob:%b\nalice\n" % hash_of("other"), b""):
        write(htpasswd, content)
        before = len(written("files", "proxy.access"))
        while len(lines := written("files", "proxy.access")) == before:  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert lines[-1]["msg"] == "changed files are of no use, keeping what they were"
        assert (await client.ask(request(shown("bob", "builder")))).status == 200
    htpasswd.unlink()
    before = len(written("files", "proxy.access"))
    while len(lines := written("files", "proxy.access")) == before:  # noqa: ASYNC110
        await trio.sleep(0.01)
    await trio.sleep(0.1)
    assert len(written("files", "proxy.access")) == len(lines) == 4  # each once
    assert "line 2: no NAME:HASH" in str(lines[1]["error"])
    assert (await client.ask(request(shown("bob", "builder")))).status == 200


async def test_an_agents_file_that_changes_is_said_to_the_node(
    roles: Roles, htpasswd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.loop.renewed.WATCH_SECONDS", 0.01)
    node = await tunnel(roles, "agent", VisitorsConfig(basic_auth_file=str(htpasswd)))
    client = await roles.dial(node.proxy)
    assert (await client.ask(request(ALICE))).status == 200
    write(htpasswd, b"bob:%b\n" % hash_of("builder"))
    while (await client.ask(request(ALICE))).status == 200:  # noqa: ASYNC110
        await trio.sleep(0.01)
    assert (await client.ask(request(shown("bob", "builder")))).status == 200


# What is no HTTP ---------------------------------------------------------------------------------------------


async def echoes(roles: Roles, port: int) -> bool:
    """Does a client get its bytes back there? Else it is reset, or its connection ends."""
    try:
        client = await roles.dial(port)
        await client.say(b"hello")
        return await client.exactly(5) == b"hello"
    except (OSError, EOFError, trio.BrokenResourceError):
        return False


async def opened(roles: Roles, node: RunningNode, *fields: bytes) -> Talk:
    """A WebSocket to the TCP endpoint `web`, whose opening was sent."""
    client = await roles.dial(node.proxy)
    more = b"".join(field + b"\r\n" for field in fields)
    await client.say(b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (UPGRADE, more))
    return client


@pytest.mark.parametrize(("visitors", "status"), [(VisitorsConfig(allow=SELF), 101), (VisitorsConfig(deny=SELF), 403)])
async def test_a_websocket_to_a_tcp_endpoint_is_let_in_or_not(
    roles: Roles, whose: str, visitors: VisitorsConfig, status: int
) -> None:
    node = await tunnel(roles, whose, visitors, protocol="tcp")
    client = await opened(roles, node)
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d" % status)


async def test_a_websocket_to_a_tcp_endpoint_may_show_a_password(roles: Roles, htpasswd: Path) -> None:
    node = await tunnel(roles, "node", VisitorsConfig(basic_auth_file=str(htpasswd)), protocol="tcp")
    for fields, status in (((ALICE,), 101), ((), 401), ((shown("alice", "no"),), 401)):
        client = await opened(roles, node, *fields)
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
@pytest.mark.parametrize("resume", [0.0, 30.0])
@pytest.mark.parametrize(
    ("visitors", "let_in"), [(VisitorsConfig(allow=SELF), True), (VisitorsConfig(deny=SELF), False)]
)
async def test_a_forward_is_let_in_or_not(
    roles: Roles, whose: str, visitors: VisitorsConfig, let_in: bool, carrier: str, resume: float
) -> None:
    node = await tunnel(roles, whose, visitors, protocol="tcp")
    forward = await roles.forward_with(forward_config(node.proxy, "web", resume=resume, carriers=[carrier]))
    assert await echoes(roles, forward.ports[0][1]) is let_in


@pytest.mark.parametrize(
    ("visitors", "let_in"), [(VisitorsConfig(allow=SELF), True), (VisitorsConfig(deny=SELF), False)]
)
async def test_a_client_of_a_tcp_port_is_let_in_or_reset(
    roles: Roles, whose: str, visitors: VisitorsConfig, let_in: bool
) -> None:
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    node = await tunnel(roles, whose, visitors, protocol="tcp", config=config)
    assert await echoes(roles, node.addresses.tcp[0][1]) is let_in
    assert (await refusals(node))["address"] == (0 if let_in else 1)


async def test_a_client_of_a_tcp_port_cannot_use_what_needs_a_password(roles: Roles, htpasswd: Path) -> None:
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    node = await tunnel(roles, "agent", VisitorsConfig(basic_auth_file=str(htpasswd)), config=config)
    assert not await echoes(roles, node.addresses.tcp[0][1])


# Other nodes -------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(roles: Roles) -> Cluster:
    return Cluster(roles)


async def remote(cluster: Cluster, roles: Roles, visitors: VisitorsConfig, *, protocol: str = "http") -> RunningNode:
    """A node, of whose endpoint `web` another has the session, whose agent lets in those visitors."""
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    first, second = await cluster.node("first", config=config), await cluster.node("second")
    service = await roles.service(tell_head if protocol == "http" else echo)
    await roles.agent_with(guarded(second.upstream, service, visitors, protocol=protocol))
    return first


async def test_what_an_agent_says_holds_at_other_nodes_too(cluster: Cluster, roles: Roles, htpasswd: Path) -> None:
    node = await remote(cluster, roles, VisitorsConfig(allow=SELF, basic_auth_file=str(htpasswd)))
    client = await roles.dial(node.proxy)
    for fields, status in (([], 401), ([ALICE], 200), ([shown("alice", "no")], 401), ([ALICE], 200)):
        got = await client.ask(request(*fields))
        assert got.status == status
        assert b"uthorization: B" not in got.body
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in got.body
    await settle()
    _, text = await get(node.admin, "/metrics")
    assert "piko_proxy_requests_in_flight 0.0" in text


async def test_an_address_is_that_of_the_client_wherever_it_comes_in(cluster: Cluster, roles: Roles) -> None:
    config = server_config()
    config.proxy.trusted_proxies, config.proxy.proxy_protocol = ["127.0.0.1"], True
    first, second = await cluster.node("first", config=config), await cluster.node("second")
    visitors = VisitorsConfig(allow=["10.0.0.0/8"])
    await roles.agent_with(guarded(second.upstream, await roles.service(tell_head), visitors))
    for address, status in ((b"10.1.2.3", 200), (b"11.1.2.3", 403)):
        client = await roles.dial(first.proxy, before=b"PROXY TCP4 %b 127.0.0.1 1 2\r\n" % address)
        assert (await client.ask()).status == status


async def test_a_client_of_http_1_0_is_answered_by_its_own_version(cluster: Cluster, roles: Roles) -> None:
    node = await remote(cluster, roles, VisitorsConfig(allow=SELF))
    client = await roles.dial(node.proxy)
    await client.say(b"GET / HTTP/1.0\r\nx-piko-endpoint: web\r\n\r\n")
    got = await client.rest()
    assert b" 200 " in got.partition(b"\r\n")[0]
    assert b"Connection: close" in got


@pytest.mark.parametrize(
    ("visitors", "let_in"), [(VisitorsConfig(allow=SELF), True), (VisitorsConfig(deny=SELF), False)]
)
@pytest.mark.parametrize("way", ["port", "websocket", "forward", "poll"])
async def test_tcp_clients_of_another_node_are_let_in_or_not(
    cluster: Cluster, roles: Roles, visitors: VisitorsConfig, let_in: bool, way: str
) -> None:
    node = await remote(cluster, roles, visitors, protocol="tcp")
    if way == "websocket":
        client = await opened(roles, node)
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d" % (101 if let_in else 403))
        return
    port = node.addresses.tcp[0][1]
    if way != "port":
        carriers = ["poll"] if way == "poll" else ["websocket"]
        port = (await roles.forward_with(forward_config(node.proxy, "web", resume=30, carriers=carriers))).ports[0][1]
    assert await echoes(roles, port) is let_in


async def test_an_agent_that_stops_being_choosy_is_reached_as_others_are(
    cluster: Cluster, roles: Roles, htpasswd: Path
) -> None:
    first, second = await cluster.node("first"), await cluster.node("second")
    service = await roles.service(says(b"hello"))
    choosy = await roles.agent_with(guarded(second.upstream, service, VisitorsConfig(deny=SELF)))
    client = await roles.dial(first.proxy)
    assert (await client.ask()).status == 403
    await choosy.kill()
    await roles.agent(second, service)
    fresh = await roles.dial(first.proxy)
    while (await fresh.ask()).status != 200:  # noqa: ASYNC110
        await trio.sleep(0.01)


# Agents ------------------------------------------------------------------------------------------------------


async def test_a_node_that_would_let_in_everybody_is_not_served(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Piko's, which does not know the field."""
    monkeypatch.setattr("engine.node.admission.visitors_in", lambda fields: None)
    node = await roles.node()
    for carrier in ("websocket", "stream", "poll"):
        config = guarded(node.upstream, await roles.service(says(b"hello")), VisitorsConfig(allow=SELF))
        config.connect.carriers = [carrier]
        error = await roles.failure_of_agent(config)
        assert isinstance(error, Refused)
        assert "lets everybody in" in str(error)


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_it_is_said_by_every_carrier(roles: Roles, carrier: str) -> None:
    node = await roles.node()
    config = guarded(node.upstream, await roles.service(says(b"hello")), VisitorsConfig(deny=SELF))
    config.connect.carriers = [carrier]
    await roles.agent_with(config)
    assert (await (await roles.dial(node.proxy)).ask()).status == 403


@pytest.mark.parametrize(
    "value",
    [
        b"rubbish",
        b'{"allow": ["10.0.0.300"]}',
        b'{"users": {"alice": "secret"}}',
        b'{"users": {"alice": "\\u20ac"}}',
        b'{"users": {"#alice": "x"}}',
        b'{"allow": ["' + b"1" * 9000 + b'"]}',
    ],
)
async def test_a_registration_that_says_what_cannot_be_is_refused(roles: Roles, value: bytes) -> None:
    node = await roles.node()
    agent = await roles.dial(node.upstream)
    await agent.say(b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: x\r\n%b%b: %b\r\n\r\n" % (UPGRADE, FIELD, value))
    got = await agent.answer()
    assert got.status == 400
    assert b"secret" not in got.body


# What is told ------------------------------------------------------------------------------------------------


async def test_the_access_log_says_why(roles: Roles, whose: str, htpasswd: Path, written: Written) -> None:
    config = server_config()
    config.proxy.access_log.disable = False
    node = await tunnel(roles, whose, VisitorsConfig(basic_auth_file=str(htpasswd)), config=config)
    client = await roles.dial(node.proxy)
    for fields in ([], [shown("alice", "other")], [ALICE]):
        await client.ask(request(*fields))
    lines = written("files", "proxy.access")
    assert [line.get("refused") for line in lines] == ["credentials", "credentials", None]
    assert [line["endpoint-id"] for line in lines] == ["web"] * 3
    assert "other" not in json.dumps(lines[1])


async def test_nothing_is_asked_for_where_nothing_is_configured(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    got = await (await roles.dial(node.proxy)).ask(request(ALICE))
    assert got.status == 200
    assert ALICE in got.body
