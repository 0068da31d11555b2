"""Domains of their own for endpoints: by the node's file, and claimed by agents whose tokens permit it."""

from __future__ import annotations

from collections.abc import Sequence

import jwt
import pytest

from engine.auth.signing import SigningKey
from engine.auth.verifier import Verifier
from engine.config import AgentConfig, ServerConfig
from engine.config.auth import AuthConfig
from engine.config.server import TenantConfig
from engine.errors import Refused
from tests.roles import Roles, RunningNode, agent_config, says, server_config, settle

SECRET = "a secret of more than thirty-two characters"
FORBIDDEN = "the token does not permit the domain"


def config_of_node(*domains: tuple[str, str], auth: bool = True) -> ServerConfig:
    config = server_config()
    config.proxy.domains = list(domains)
    if auth:
        config.upstream.auth.hmac_secret_key = SECRET
    return config


def config_for(
    node: RunningNode, service: int, endpoint: str, claims: Sequence[str], permitted: Sequence[str] | None = None
) -> AgentConfig:
    config = agent_config(node.upstream, service, endpoint=endpoint)
    config.listeners[0].domains = list(claims)
    if permitted is not None:
        config.connect.token = jwt.encode({"piko": {"domains": list(permitted)}}, SECRET, "HS256")
    return config


async def asked(roles: Roles, node: RunningNode, *hosts: bytes, fields: bytes = b"") -> list[bytes]:
    """What is answered on one connection."""
    client = await roles.dial(node.proxy)
    heads = [b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (host, fields) for host in hosts]
    return [(await client.ask(head)).body for head in heads]


NOBODY = b'{"error":"no available upstreams"}\n'


async def test_a_domain_is_an_endpoint_before_its_first_label_is_and_behind_the_field(roles: Roles) -> None:
    node = await roles.node(config_of_node(("web.shop.test", "shop"), ("*.shop.test", "any"), auth=False))
    for endpoint in ("shop", "any", "web"):
        await roles.agent(node, await roles.service(says(endpoint.encode())), endpoint=endpoint)
    hosts = (b"web.shop.test", b"WEB.shop.test:8000", b"other.shop.test", b"web.other.test", b"shop.test")
    assert await asked(roles, node, *hosts) == [b"shop", b"shop", b"any", b"web", b"shop"]
    assert await asked(roles, node, b"web.shop.test", fields=b"x-piko-endpoint: web\r\n") == [b"web"]


async def test_a_domain_is_a_tenants(roles: Roles) -> None:
    config = config_of_node(("shop.test", "acme/shop"), auth=False)
    config.upstream.tenants = [TenantConfig(id="acme", auth=AuthConfig(hmac_secret_key=SECRET))]
    node = await roles.node(config)
    of_agent = config_for(node, await roles.service(says(b"acme's")), "shop", [], [])
    of_agent.connect.tenant_id = "acme"
    await roles.agent_with(of_agent)
    assert await asked(roles, node, b"shop.test") == [b"acme's"]
    assert await asked(roles, node, b"shop.test", fields=b"x-piko-tenant-id: other\r\n") != [b"acme's"]


@pytest.mark.parametrize("carriers", [["websocket"], ["poll"], ["stream"]])
async def test_a_claimed_domain_is_the_endpoints_as_long_as_it_has_a_session(roles: Roles, carriers: list[str]) -> None:
    node = await roles.node(config_of_node())
    client = await roles.dial(node.proxy)
    head = b"GET / HTTP/1.1\r\nHost: own.shop.test\r\n\r\n"  # which is looked up again when domains have changed
    assert (await client.ask(head)).body == NOBODY
    config = config_for(node, await roles.service(says(b"shop")), "shop", ["own.shop.test"], ["*.shop.test"])
    config.connect.carriers = carriers
    agent = await roles.agent_with(config)
    for _ in range(2):
        assert (await client.ask(head)).body == b"shop"
    agent.tell_to_stop()
    await agent.ended.wait()
    await settle()
    assert (await client.ask(head)).body == NOBODY


@pytest.mark.parametrize(
    ("claim", "permitted", "said"),
    [
        ("shop.test", ["*.shop.test"], f"{FORBIDDEN} shop.test"),
        ("shop.test", [], f"{FORBIDDEN} shop.test"),
        ("taken.test", ["taken.test"], "the domain taken.test is another endpoint's"),
        ("fixed.test", ["fixed.test"], "the domain fixed.test is another endpoint's"),
    ],
)
async def test_what_is_not_the_agents_is_refused(roles: Roles, claim: str, permitted: list[str], said: str) -> None:
    node = await roles.node(config_of_node(("fixed.test", "fixed")))
    service = await roles.service(says(b"hello"))
    await roles.agent_with(config_for(node, service, "first", ["taken.test"], ["taken.test"]))
    error = await roles.failure_of_agent(config_for(node, service, "second", [claim], permitted))
    assert isinstance(error, Refused)
    assert said in str(error)
    await roles.agent_with(
        config_for(node, service, "first", ["taken.test"], ["taken.test"])
    )  # one endpoint's sessions


async def test_a_node_that_asks_for_no_token_gives_no_domain(roles: Roles) -> None:
    node = await roles.node(config_of_node(auth=False))
    error = await roles.failure_of_agent(config_for(node, 1, "shop", ["shop.test"]))
    assert isinstance(error, Refused)
    assert f"{FORBIDDEN} shop.test" in str(error)


async def test_a_node_that_does_not_know_of_domains_is_not_served(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.wire.domains.domains_in", lambda fields: [])
    node = await roles.node(config_of_node())
    error = await roles.failure_of_agent(config_for(node, 1, "shop", ["shop.test"], ["shop.test"]))
    assert isinstance(error, Refused)
    assert "gives the endpoint no domains" in str(error)


def test_a_token_says_which_domains_may_be_claimed() -> None:
    token = SigningKey(SECRET).sign(domains=["*.Shop.test"])
    assert jwt.decode(token, SECRET, ["HS256"]) == {"piko": {"domains": ["*.Shop.test"]}}
    claims = Verifier(hmac_secret_key=SECRET).verify([], [b"Bearer " + token.encode()])
    assert claims.domains == {"*.shop.test"}
