"""Tenants: a name in two of them is two endpoints, and each stream reaches its own tenant's, whoever names another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest
from jwt.algorithms import HMACAlgorithm

from engine.config import AuthConfig, ServerConfig
from engine.config.auth import JWKSConfig
from engine.config.server import TenantConfig
from engine.errors import ConfigError, Refused
from engine.wire import posts
from engine.wire.posts import Hello
from tests.carriers.posting import ID, error, poster
from tests.node.test_agent_port import UPGRADE
from tests.node.test_peers import Cluster
from tests.roles import (
    Roles,
    RunningNode,
    Talk,
    agent_config,
    echo,
    forward_config,
    says,
    server_config,
    settle,
    values_of,
)

KEYS = {tenant: f"the key of {tenant}, which has more than thirty-two bytes" for tenant in ("acme", "beta")}
CLIENTS = "the key of the proxy port, which has more than thirty-two bytes"


def config_of(*, tokens: bool = False) -> ServerConfig:
    """Two tenants; clients need `tokens`, or name theirs."""
    config = server_config()
    config.upstream.tenants = [TenantConfig(one, AuthConfig(hmac_secret_key=key)) for one, key in KEYS.items()]
    config.proxy.tenant_hosts = "{endpoint}.{tenant}.example.com"
    if tokens:
        config.proxy.auth.hmac_secret_key = CLIENTS
    return config


def token(key: str, **piko: object) -> str:
    return jwt.encode({"piko": piko} if piko else {}, key, "HS256")


def shown(**piko: object) -> bytes:
    """A client's token."""
    return f"Authorization: Bearer {token(CLIENTS, **piko)}\r\n".encode()


async def agent_of(
    roles: Roles, node: RunningNode, tenant: str, service: int, *, header: bool = True, **kwargs: Any
) -> None:
    """An agent of a tenant, whose tenant is in Piko's field, or in its token alone."""
    config = agent_config(node.upstream, service, **kwargs)
    config.connect.token = token(KEYS[tenant]) if header else token(KEYS[tenant], tenant=tenant)
    config.connect.tenant_id = tenant if header else ""
    await roles.agent_with(config)


async def both(roles: Roles, node: RunningNode) -> None:
    """Both tenants serve `web`, each with its own name."""
    await agent_of(roles, node, "acme", await roles.service(says(b"acme")))
    await agent_of(roles, node, "beta", await roles.service(says(b"beta")), header=False)


async def ask(roles: Roles, node: RunningNode, fields: bytes, host: bytes = b"web.test") -> tuple[int, bytes]:
    """Status and body; each by a connection of its own."""
    got = await (await roles.dial(node.proxy)).ask(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, fields))
    return got.status, got.body


def refused(text: str) -> bytes:
    return json.dumps({"error": text}, separators=(",", ":")).encode() + b"\n"


NOBODY = (502, refused("no available upstreams"))
UNKNOWN = (401, refused("unknown tenant"))
NAMED = b"x-piko-tenant-id: %b\r\n"


async def test_without_tokens_the_field_or_the_host_names_the_tenant(roles: Roles) -> None:
    node = await roles.node(config_of())
    await both(roles, node)
    for tenant in (b"acme", b"beta"):
        assert await ask(roles, node, NAMED % tenant) == (200, tenant)
        assert await ask(roles, node, b"", b"web." + tenant + b".example.com") == (200, tenant)
        assert await ask(roles, node, NAMED % tenant, b"web." + tenant + b".example.com") == (200, tenant)
        assert await ask(roles, node, b"x-piko-endpoint: web\r\n", b"x." + tenant + b".example.com") == (200, tenant)
    for nobody in (b"", NAMED % b"other", NAMED % b"Acme", NAMED % b"acme" + b"x-piko-endpoint: other\r\n"):
        assert await ask(roles, node, nobody) == NOBODY
    two = (400, refused("the request names two tenants"))
    assert await ask(roles, node, NAMED % b"acme" + NAMED % b"beta") == two
    assert await ask(roles, node, NAMED % b"acme", b"web.beta.example.com") == two


async def test_no_name_of_an_endpoint_is_anothers_key(roles: Roles) -> None:
    node = await roles.node(config_of())
    await agent_of(roles, node, "acme", await roles.service(echo), protocol="tcp")
    for name in (b"acme%00web", b"%00acme%00web", b"acme/web".replace(b"/", b"%2F"), b"acme%2500web"):
        client = await roles.dial(node.proxy)
        await client.say(b"GET /_piko/v1/tcp/%b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (name, UPGRADE))
        assert (await client.answer()).status == 502
    reached = await roles.dial(node.proxy)
    await reached.say(b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (UPGRADE, NAMED % b"acme"))
    assert (await reached.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")


async def test_with_tokens_the_token_says_it_and_who_names_another_is_refused(roles: Roles) -> None:
    node = await roles.node(config_of(tokens=True))
    await both(roles, node)
    for tenant, other in (("acme", b"beta"), ("beta", b"acme")):
        mine = tenant.encode()
        for _ in range(2):  # the second time the token is known
            assert await ask(roles, node, shown(tenant=tenant)) == (200, mine)
            assert await ask(roles, node, shown(tenant=tenant) + NAMED % mine) == (200, mine)
            assert await ask(roles, node, shown(tenant=tenant), b"web." + mine + b".example.com") == (200, mine)
            assert await ask(roles, node, shown(tenant=tenant) + NAMED % other) == UNKNOWN
            assert await ask(roles, node, shown(tenant=tenant), b"web." + other + b".example.com") == UNKNOWN
            two = await ask(roles, node, shown(tenant=tenant) + NAMED % mine + NAMED % other)
            assert two == (400, refused("the request names two tenants"))
        elsewhere = shown(tenant=tenant, endpoints=["other"])
        assert await ask(roles, node, elsewhere) == (401, refused("endpoint not permitted"))
    assert await ask(roles, node, shown()) == NOBODY  # it is good in none
    assert await ask(roles, node, shown() + NAMED % b"acme") == UNKNOWN
    assert await ask(roles, node, shown(), b"web.acme.example.com") == UNKNOWN
    assert await ask(roles, node, shown(tenant="other")) == UNKNOWN
    assert await ask(roles, node, shown(tenant=["acme"])) == (401, refused("invalid token"))
    assert await ask(roles, node, NAMED % b"acme") == (401, refused("missing authorization"))
    for key in KEYS.values():  # an agent's token opens nothing here
        agents = f"Authorization: Bearer {token(key, tenant='acme')}\r\n".encode()
        assert await ask(roles, node, agents) == (401, refused("invalid token"))


@pytest.mark.parametrize("tokens", [True, False])
async def test_requests_of_two_tenants_on_one_connection_are_told_apart(roles: Roles, tokens: bool) -> None:
    node = await roles.node(config_of(tokens=tokens))
    await both(roles, node)
    client = await roles.dial(node.proxy)
    for tenant in ("acme", "acme", "beta", "acme", "beta", "beta"):
        fields = shown(tenant=tenant) if tokens else NAMED % tenant.encode()
        got = await client.ask(b"GET / HTTP/1.1\r\nHost: web.test\r\n%b\r\n" % fields)
        assert (got.status, got.body) == (200, tenant.encode())


async def test_a_client_is_asked_for_each_websocket(roles: Roles) -> None:
    async def greet(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        await talk.rest()

    node = await roles.node(config_of(tokens=True))
    await agent_of(roles, node, "acme", await roles.service(greet))
    for tenant, status in (("acme", b"101"), ("beta", b"502")):
        client = await roles.dial(node.proxy)
        await client.say(b"GET / HTTP/1.1\r\nHost: web.test\r\n%b%b\r\n" % (UPGRADE, shown(tenant=tenant)))
        assert (await client.until(b"\r\n\r\n"))[9:12] == status


# Agents -----------------------------------------------------------------------------------------------------


async def registering(
    roles: Roles, node: RunningNode, key: str, fields: bytes = b"", session: bytes = b"", **piko: object
) -> tuple[int, bytes]:
    """What an agent's registration of `web` is answered: status and head."""
    agent = await roles.dial(node.upstream)
    bearer = f"Authorization: Bearer {token(key, **piko)}\r\n".encode() if key else b""
    wish = b"X-Trioduct-Session: %b\r\n" % session if session else b""
    await agent.say(b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: x\r\n" + UPGRADE + bearer + fields + wish + b"\r\n")
    head = await agent.until(b"\r\n\r\n")
    return int(head[9:12]), head if head[9:12] == b"101" else await agent.rest()


async def test_an_agents_token_is_verified_by_its_tenants_keys(roles: Roles) -> None:
    node = await roles.node(config_of())
    acme, beta = KEYS["acme"], KEYS["beta"]
    for key, fields, piko in (
        (acme, NAMED % b"acme", {}),
        (acme, NAMED % b"acme", {"tenant": "acme"}),
        (acme, b"", {"tenant": "acme"}),
        (beta, NAMED % b"beta", {"endpoints": ["web"]}),
    ):
        assert (await registering(roles, node, key, fields, **piko))[0] == 101
    for key, fields, piko, said in (
        (acme, b"", {}, "unknown tenant"),  # as in Piko
        (acme, NAMED % b"other", {}, "unknown tenant"),
        (acme, NAMED % b"beta", {}, "invalid token"),
        (acme, b"", {"tenant": "beta"}, "invalid token"),
        (acme, NAMED % b"acme", {"tenant": "beta"}, "unknown tenant"),
        (acme, NAMED % b"acme" + NAMED % b"beta", {}, "unknown tenant"),
        ("", NAMED % b"acme", {}, "missing authorization"),
        (acme, NAMED % b"acme", {"endpoints": ["other"]}, "endpoint not permitted"),
    ):
        assert await registering(roles, node, key, fields, **piko) == (401, refused(said))


async def test_an_agent_is_told_where_its_tenants_clients_come_in(roles: Roles) -> None:
    config = config_of()
    config.proxy.public_url = "https://*.example.com:8443"
    config.upstream.tenants.append(TenantConfig("no label", AuthConfig(hmac_secret_key=CLIENTS)))
    node = await roles.node(config)
    for key, tenant, url in (
        (KEYS["acme"], "acme", b"https://*.acme.example.com:8443"),
        (KEYS["beta"], "beta", b"https://*.beta.example.com:8443"),
        (CLIENTS, "no label", b"https://*.example.com:8443"),
    ):
        _, head = await registering(roles, node, key, tenant=tenant)
        assert values_of(head, b"x-trioduct-public-url") == [url]


async def test_each_tenant_has_a_key_set_of_its_own_which_may_be_renewed(
    roles: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.auth.key_set.REFETCH_SECONDS", 0)

    def write(tenant: str, kid: str) -> None:
        key = json.loads(HMACAlgorithm.to_jwk(KEYS[tenant])) | {"kid": kid, "alg": "HS256"}
        (tmp_path / f"{tenant}.json").write_text(json.dumps({"keys": [key]}))

    config = server_config()
    for tenant in KEYS:
        write(tenant, "old")
        auth = AuthConfig(jwks=JWKSConfig(f"file://{tmp_path}/{tenant}.json"))
        config.upstream.tenants.append(TenantConfig(tenant, auth))
    node = await roles.node(config)
    write("acme", "new")

    async def status(tenant: str, signer: str, kid: str) -> bytes:
        signed = jwt.encode({}, KEYS[signer], "HS256", {"kid": kid})
        agent = await roles.dial(node.upstream)
        fields = NAMED % tenant.encode() + f"Authorization: Bearer {signed}\r\n".encode()
        await agent.say(b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: x\r\n" + UPGRADE + fields + b"\r\n")
        return (await agent.until(b"\r\n\r\n"))[9:12]

    assert await status("acme", "acme", "new") == b"101"  # it was fetched for this agent
    assert await status("acme", "beta", "new") == b"401"
    assert await status("beta", "beta", "new") == b"401"
    assert await status("beta", "acme", "old") == b"401"
    assert await status("beta", "beta", "old") == b"101"


async def test_keys_of_the_upstream_port_are_of_no_effect_beside_tenants(roles: Roles) -> None:
    config = config_of()
    config.upstream.auth.hmac_secret_key = CLIENTS
    node = await roles.node(config)
    assert await registering(roles, node, CLIENTS) == (401, refused("unknown tenant"))


async def test_an_agent_that_names_no_tenant_ends_and_says_why(roles: Roles) -> None:
    node = await roles.node(config_of())
    config = agent_config(node.upstream, 1)
    config.connect.token = token(KEYS["acme"])
    failure = await roles.failure_of_agent(config)
    assert isinstance(failure, Refused)
    assert "unknown tenant" in str(failure)


async def test_a_token_of_a_tenant_is_of_none_where_there_are_none(roles: Roles) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = config.proxy.auth.hmac_secret_key = CLIENTS
    config.admin.auth.hmac_secret_key = CLIENTS
    node = await roles.node(config)
    assert await registering(roles, node, CLIENTS, tenant="acme") == (401, refused("unknown tenant"))
    assert await ask(roles, node, shown(tenant="acme")) == UNKNOWN
    admin = await roles.dial(node.admin)
    got = await admin.ask(
        b"GET /status/upstream/endpoints HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % shown(tenant="acme")
    )
    assert (got.status, json.loads(got.body)) == (401, {"error": "unknown tenant"})


async def test_each_tenant_owns_its_endpoints_alone(roles: Roles) -> None:
    config = config_of()
    config.upstream.sharing = "exclusive"
    node = await roles.node(config)
    for tenant in KEYS:
        assert (await registering(roles, node, KEYS[tenant], NAMED % tenant.encode()))[0] == 101
    for tenant in KEYS:
        assert (await registering(roles, node, KEYS[tenant], NAMED % tenant.encode()))[0] == 503


@pytest.mark.parametrize("fields", [b"", NAMED % b"acme"])
async def test_a_session_is_not_gone_on_with_by_another_tenant(roles: Roles, fields: bytes) -> None:
    node = await roles.node(config_of())
    status, head = await registering(roles, node, KEYS["acme"], fields, b"new 30", tenant="acme")
    assert status == 101
    _, id, _ = values_of(head, b"x-trioduct-session")[0].split()
    wish = b"resume %b 1 0" % id
    assert (await registering(roles, node, KEYS["beta"], b"", wish, tenant="beta"))[0] == 410
    assert (await registering(roles, node, KEYS["beta"], NAMED % b"beta", wish))[0] == 410
    assert (await registering(roles, node, KEYS["beta"], NAMED % b"acme", wish))[0] == 401
    assert (await registering(roles, node, KEYS["acme"], fields, wish, tenant="acme"))[0] == 101


async def test_a_carrier_of_posts_is_asked_with_each_request(roles: Roles) -> None:
    node = await roles.node(config_of())
    bearer = "Authorization: Bearer {}\r\n".format
    acme = bearer(token(KEYS["acme"], tenant="acme")).encode()
    assert (await (await poster(roles, node, fields=acme)).open()).status == 200
    for fields, status, said in (
        (b"", 401, "missing authorization"),
        (bearer(token(KEYS["beta"], tenant="acme")).encode(), 401, "invalid token"),
        (bearer(token(KEYS["acme"])).encode(), 401, "unknown tenant"),
    ):
        got = await (await poster(roles, node, fields=fields)).post(posts.encode_down(ID, 0, 0, 20))
        assert (got.status, error(got)) == (status, said)
    beta = await poster(roles, node, fields=bearer(token(KEYS["beta"], tenant="beta")).encode())
    assert (await beta.post(posts.encode_down(ID, 0, 0, 20))).body == b"gone\n"
    assert (await beta.open()).status == 409


# TCP --------------------------------------------------------------------------------------------------------


def tells(name: bytes) -> Any:
    async def serve(talk: Talk) -> None:
        await talk.say(name)
        await talk.rest()

    return serve


async def both_by_tcp(roles: Roles, node: RunningNode, carriers: Sequence[str] = ("websocket",)) -> None:
    for tenant in KEYS:
        service = await roles.service(tells(tenant.encode()))
        await agent_of(roles, node, tenant, service, protocol="tcp", carriers=carriers)


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
@pytest.mark.parametrize("resume", [0, 30])
@pytest.mark.parametrize("tokens", [True, False])
async def test_a_forward_reaches_its_tenants_service(roles: Roles, tokens: bool, resume: int, carrier: str) -> None:
    node = await roles.node(config_of(tokens=tokens))
    await both_by_tcp(roles, node, (carrier,))
    for tenant in KEYS:
        for header in (True, False) if tokens else (True,):
            config = forward_config(node.proxy, "web", resume=resume, carriers=[carrier])
            config.connect.tenant_id = tenant if header else ""
            config.connect.token = token(CLIENTS, tenant=tenant) if tokens else ""
            forward = await roles.forward_with(config)
            client = await roles.dial(forward.ports[0][1])
            assert await client.exactly(4) == tenant.encode()


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_a_forward_that_names_another_tenant_reaches_nothing(roles: Roles, carrier: str) -> None:
    node = await roles.node(config_of(tokens=True))
    await both_by_tcp(roles, node)
    config = forward_config(node.proxy, "web", resume=30, carriers=[carrier])
    config.connect.tenant_id, config.connect.token = "beta", token(CLIENTS, tenant="acme")
    forward = await roles.forward_with(config)
    client = await roles.dial(forward.ports[0][1])
    assert not await client.is_over()


@pytest.mark.parametrize(
    ("tokens", "host", "fields", "status"),
    [
        (False, b"x.acme.example.com", b"", 200),
        (False, b"x.beta.example.com", b"", 502),
        (False, b"x.acme.example.com", NAMED % b"beta", 400),
        (False, b"x", b"", 502),
        (True, b"x", shown(tenant="acme"), 200),
        (True, b"x.acme.example.com", shown(tenant="acme") + NAMED % b"acme", 200),
        (True, b"x", shown(tenant="beta"), 502),
        (True, b"x.beta.example.com", shown(tenant="acme"), 401),
        (True, b"x", shown(tenant="acme") + NAMED % b"beta", 401),
        (True, b"x.acme.example.com", shown(), 401),
    ],
)
async def test_a_leg_of_posts_is_of_one_tenant(
    roles: Roles, tokens: bool, host: bytes, fields: bytes, status: int
) -> None:
    node = await roles.node(config_of(tokens=tokens))
    await agent_of(roles, node, "acme", await roles.service(tells(b"acme")), protocol="tcp")
    body = posts.encode_open("poll", posts.new_id(), Hello())
    target = posts.path(posts.TCP_PATH, "web").encode()
    client = await roles.dial(node.proxy)
    head = b"POST %b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (target, host, fields, len(body))
    assert (await client.ask(head + body)).status == status


async def test_a_forwards_session_is_not_gone_on_with_by_another_tenant(roles: Roles) -> None:
    node = await roles.node(config_of(tokens=True))
    await both_by_tcp(roles, node)

    async def opening(session: bytes, fields: bytes) -> tuple[int, bytes]:
        client = await roles.dial(node.proxy)
        wish = b"X-Trioduct-Session: %b\r\n" % session
        await client.say(b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\n%b%b%b\r\n" % (UPGRADE, fields, wish))
        head = await client.until(b"\r\n\r\n")
        return int(head[9:12]), head

    status, head = await opening(b"new 30", shown(tenant="acme"))
    assert status == 101
    wish = b"resume %b 1 0" % values_of(head, b"x-trioduct-session")[0].split()[1]
    assert (await opening(wish, shown(tenant="beta")))[0] == 410
    assert (await opening(wish, shown(tenant="beta") + NAMED % b"acme"))[0] == 401
    assert (await opening(wish, shown()))[0] == 410
    assert (await opening(wish, shown(tenant="acme")))[0] == 101


async def test_a_public_tcp_port_leads_to_its_tenants_endpoint(roles: Roles) -> None:
    config = config_of()
    config.proxy.tcp = [("127.0.0.1:0", "acme/web"), ("127.0.0.1:0", "beta/web"), ("127.0.0.1:0", "acme/other")]
    node = await roles.node(config)
    await both_by_tcp(roles, node)
    for (_, port), tenant in zip(node.addresses.tcp[:2], KEYS, strict=True):
        assert await (await roles.dial(port)).exactly(4) == tenant.encode()
    assert not await (await roles.dial(node.addresses.tcp[2][1])).is_over()


# Keys of tenants for clients --------------------------------------------------------------------------------


OWN = "the key of acme's clients, which has more than thirty-two bytes"


def own_keys() -> ServerConfig:
    """acme has a key for its clients, beta's tokens are signed with the port's."""
    config = config_of(tokens=True)
    config.proxy.tenants = [TenantConfig("acme", AuthConfig(hmac_secret_key=OWN))]
    return config


def of(key: str, **piko: object) -> bytes:
    return f"Authorization: Bearer {token(key, **piko)}\r\n".encode()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (of(OWN, tenant="acme"), (200, b"acme")),
        (of(OWN) + NAMED % b"acme", (200, b"acme")),
        (of(CLIENTS, tenant="beta"), (200, b"beta")),
        (of(CLIENTS, tenant="acme"), (401, refused("invalid token"))),  # the port's key is not acme's any more
        (of(KEYS["acme"], tenant="acme"), (401, refused("invalid token"))),  # that is for agents
        (of(OWN, tenant="beta"), (401, refused("invalid token"))),
        (of(OWN) + NAMED % b"beta", (401, refused("invalid token"))),
        (of(OWN, tenant="acme") + NAMED % b"beta", (401, refused("invalid token"))),
        (of(CLIENTS, tenant="beta") + NAMED % b"acme", (401, refused("invalid token"))),
        (of(OWN), (401, refused("invalid token"))),  # it names nobody whose key it could be
        (of(OWN, tenant="gamma"), (401, refused("invalid token"))),
        (of(CLIENTS, tenant="gamma"), UNKNOWN),
        (of(CLIENTS), NOBODY),
    ],
)
async def test_a_tenants_clients_have_keys_of_their_own(roles: Roles, fields: bytes, told: tuple[int, bytes]) -> None:
    node = await roles.node(own_keys())
    await both(roles, node)
    for _ in range(2):  # a token that is known is asked for no less
        assert await ask(roles, node, fields) == told


async def test_the_host_names_a_tenant_whose_keys_are_its_own(roles: Roles) -> None:
    node = await roles.node(own_keys())
    await both(roles, node)
    assert await ask(roles, node, of(OWN), b"web.acme.example.com") == (200, b"acme")
    assert await ask(roles, node, of(OWN, tenant="acme"), b"web.beta.example.com") != (200, b"beta")


async def test_a_token_of_one_tenant_on_a_connection_of_another_is_looked_at(roles: Roles) -> None:
    node = await roles.node(own_keys())
    await both(roles, node)
    client = await roles.dial(node.proxy)
    for fields, status, body in (
        (of(OWN, tenant="acme"), 200, b"acme"),
        (of(CLIENTS, tenant="beta"), 200, b"beta"),
        (of(CLIENTS, tenant="acme"), 401, refused("invalid token")),
        (of(OWN, tenant="acme"), 200, b"acme"),
    ):
        got = await client.ask(b"GET / HTTP/1.1\r\nHost: web.test\r\n%b\r\n" % fields)
        assert (got.status, got.body) == (status, body)


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_a_forward_shows_its_tenants_token(roles: Roles, carrier: str) -> None:
    node = await roles.node(own_keys())
    await both_by_tcp(roles, node)
    for key, tenant, served in ((OWN, "acme", True), (CLIENTS, "acme", False), (CLIENTS, "beta", True)):
        config = forward_config(node.proxy, "web", resume=30, carriers=[carrier])
        config.connect.token = token(key, tenant=tenant)
        forward = await roles.forward_with(config)
        client = await roles.dial(forward.ports[0][1])
        if served:
            assert await client.exactly(4) == tenant.encode()
        else:
            assert not await client.is_over()


def test_tenants_of_clients_are_tenants_of_agents() -> None:
    config = own_keys()
    config.proxy.tenants[0].id = "gamma"
    with pytest.raises(ConfigError, match="no agent can be of it"):
        config.verify()
    config.proxy.tenants.append(config.proxy.tenants[0])
    with pytest.raises(ConfigError, match="gamma"):
        config.proxy.verify()


async def test_a_principal_of_one_tenant_is_none_of_another(roles: Roles) -> None:
    config = config_of()
    config.upstream.limits.sessions = 1
    node = await roles.node(config)
    for tenant in KEYS:
        agent = agent_config(node.upstream, await roles.service(says(tenant.encode())))
        agent.connect.token = jwt.encode({"sub": "deploy"}, KEYS[tenant], "HS256")
        agent.connect.tenant_id = tenant
        await roles.agent_with(agent)
    assert await ask(roles, node, NAMED % b"beta") == (200, b"beta")


# What is told of them ---------------------------------------------------------------------------------------


async def told(roles: Roles, node: RunningNode, path: str) -> bytes:
    admin = await roles.dial(node.admin)
    return (await admin.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())).body


async def test_status_and_metrics_are_by_tenant(roles: Roles) -> None:
    node = await roles.node(config_of())
    await both(roles, node)
    assert await ask(roles, node, NAMED % b"acme") == (200, b"acme")
    assert json.loads(await told(roles, node, "/status/upstream/endpoints")) == {"web": 2}
    assert json.loads(await told(roles, node, "/status/upstream/endpoints?tenant=beta")) == {"web": 1}
    assert json.loads(await told(roles, node, "/status/upstream/endpoints?tenant=other")) == {}
    here = json.loads(await told(roles, node, "/status/cluster/nodes/local"))
    assert (here["endpoints"], here["tenants"]) == ({"web": 2}, {"acme": {"web": 1}, "beta": {"web": 1}})
    sessions = json.loads(await told(roles, node, "/status/upstream/sessions"))
    assert [(one["tenant"], one["endpoint"]) for one in sessions] == [("acme", "web"), ("beta", "web")]
    metrics = await told(roles, node, "/metrics")
    assert b'trioduct_endpoint_requests_total{endpoint="web",tenant="acme"} 1.0' in metrics
    assert b'trioduct_endpoint_requests_total{endpoint="web",tenant="beta"}' not in metrics
    assert b'trioduct_tenant_sessions{tenant="beta"} 1.0' in metrics
    assert b"\0" not in metrics


# Several nodes ----------------------------------------------------------------------------------------------


async def test_a_peers_endpoint_is_of_its_tenant(roles: Roles) -> None:
    cluster = Cluster(roles)
    first = await cluster.node("first", config=config_of())
    second = await cluster.node("second", config=config_of())
    await agent_of(roles, first, "acme", await roles.service(says(b"acme, first")))
    await agent_of(roles, second, "beta", await roles.service(says(b"beta, second")))
    await settle()
    for node in (first, second):
        assert await ask(roles, node, NAMED % b"acme") == (200, b"acme, first")
        assert await ask(roles, node, NAMED % b"beta") == (200, b"beta, second")
        assert await ask(roles, node, b"") == NOBODY
    for tenant, found in (("acme", {}), ("beta", {"web": 1})):
        path = f"/status/upstream/endpoints?forward=second&tenant={tenant}"
        assert json.loads(await told(roles, first, path)) == found
