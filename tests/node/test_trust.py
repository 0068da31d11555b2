"""Whose word counts for who a client is: nobody's, but that of proxies that are trusted, by field or PROXY protocol."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import trio

from engine import log
from engine.config import ServerConfig
from engine.node.trust import Trust
from engine.wire.http1.claims import NAMES
from proxy_adapters.proxy_protocol import proxy_header
from tests.conftest import Pki
from tests.roles import GET, Answer, Roles, RunningNode, server_config, tell_head

FORGED = (
    b"GET / HTTP/1.1\r\nHost: web.test:80\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: elsewhere.test\r\nx-forwarded-for: 192.0.2.7, 10.0.0.3\r\nForwarded: for=10.0.0.1\r\n"
    b"X-Real-IP: 10.0.0.1\r\nTrue-Client-IP: 10.0.0.1\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /admin\r\n"
    b"X-Forwarded-Server: x\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Own: 1\r\n\r\n"
)
SENDER = ("192.0.2.7", 4711)


async def start(roles: Roles, config: ServerConfig) -> RunningNode:
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    return node


def trusting(*networks: str) -> ServerConfig:
    config = server_config()
    config.proxy.trusted_proxies = list(networks)
    return config


def told(answer: Answer) -> list[bytes]:
    """The fields that the service was told, but for those that say nothing about who asks."""
    lines = answer.body.split(b"\r\n")[1:-2]
    return [line for line in lines if line != b"X-Own: 1" and not line.startswith(b"Host: ")]


async def test_what_strangers_say_of_themselves_is_dropped_and_what_is_known_written(roles: Roles) -> None:
    node = await start(roles, server_config())
    client = await roles.dial(node.proxy)
    for _ in range(3):  # known lines are no others
        assert told(await client.ask(FORGED)) == [
            b"X-Forwarded-For: 127.0.0.1",
            b"X-Forwarded-Host: web.test:80",
            b"X-Forwarded-Proto: http",
        ]


@pytest.mark.parametrize("name", sorted(NAMES | {b"x-forwarded-anything", b"x-remote-user", b"x-ssl-cert"}))
async def test_no_claim_of_a_stranger_reaches_the_service(roles: Roles, name: bytes) -> None:
    node = await start(roles, server_config())
    client = await roles.dial(node.proxy)
    answer = await client.ask(
        b"GET / HTTP/1.1\r\nHost: web.test\r\n%b: canary\r\nConnection: %b\r\n\r\n" % (name, name)
    )
    assert answer.status == 200
    assert b"canary" not in answer.body


async def test_a_network_that_is_trusted_is_not_everybody(roles: Roles) -> None:
    node = await start(roles, trusting("10.0.0.0/8", "2001:db8::/32"))
    client = await roles.dial(node.proxy)
    assert b"X-Forwarded-For: 127.0.0.1" in told(await client.ask(FORGED))


async def test_what_a_trusted_proxy_says_is_passed_on_and_its_own_address_added(roles: Roles) -> None:
    node = await start(roles, trusting("127.0.0.0/8"))
    client = await roles.dial(node.proxy)
    for _ in range(3):
        lines = told(await client.ask(FORGED))
        assert b"X-Forwarded-For: 10.0.0.1, 192.0.2.7, 10.0.0.3, 127.0.0.1" in lines
        assert sorted(lines) == [
            b"X-Forwarded-For: 10.0.0.1, 192.0.2.7, 10.0.0.3, 127.0.0.1",
            b"X-Forwarded-Host: elsewhere.test",
            b"X-Forwarded-Proto: https",
        ]
    assert told(await client.ask()) == [
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Forwarded-Host: web.test",
        b"X-Forwarded-Proto: http",
    ]


@pytest.mark.parametrize("trusted", [["X-Forwarded-For"], ["x-real-ip", "Forwarded"], []])
async def test_a_trusted_proxys_word_counts_for_what_it_sets_and_for_no_kin_of_it(
    roles: Roles, trusted: list[str]
) -> None:
    config = trusting("127.0.0.1")
    config.proxy.trusted_headers = trusted
    node = await start(roles, config)
    client = await roles.dial(node.proxy)
    for _ in range(3):
        lines = told(await client.ask(FORGED))
        real = [b"Forwarded: for=10.0.0.1", b"X-Real-IP: 10.0.0.1"] if "x-real-ip" in trusted else []
        named = b"10.0.0.1, 192.0.2.7, 10.0.0.3, 127.0.0.1" if "X-Forwarded-For" in trusted else b"127.0.0.1"
        assert sorted(lines) == [
            *real[:1],
            b"X-Forwarded-For: " + named,
            b"X-Forwarded-Host: web.test:80",
            b"X-Forwarded-Proto: http",
            *real[1:],
        ]


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ([], "10.0.0.9"),
        ([b"192.0.2.7"], "192.0.2.7"),
        ([b"6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ([b"6.6.6.6, 192.0.2.7, 10.0.0.3"], "192.0.2.7"),
        ([b"6.6.6.6", b"192.0.2.7:4711,10.0.0.3"], "192.0.2.7"),
        ([b"[2001:db8::7]:80"], "2001:db8::7"),
        ([b"10.0.0.3, 10.0.0.4"], "10.0.0.3"),
        ([b"6.6.6.6, unknown, 10.0.0.3"], "10.0.0.3"),
        ([b"\xff"], "10.0.0.9"),
        ([b"::ffff:10.0.0.3"], "::ffff:10.0.0.3"),
    ],
)
def test_the_client_is_the_last_that_is_no_trusted_proxy(said: list[bytes], client: str) -> None:
    trust = Trust(["10.0.0.0/8"])
    assert trust.covers("10.0.0.9")
    assert trust.covers("::ffff:10.0.0.9")
    assert not trust.covers("192.0.2.7")
    assert trust.client("10.0.0.9", said) == client
    assert not Trust().covers("127.0.0.1")


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("info", (), stream)
    yield stream
    log.configure("warn")


@pytest.mark.parametrize("network", ["127.0.0.1", "10.0.0.0/8"])
async def test_the_access_log_has_the_client_that_a_trusted_proxy_names(
    roles: Roles, network: str, logged: io.StringIO
) -> None:
    config = trusting(network)
    config.proxy.access_log.disable = False
    node = await start(roles, config)
    client = await roles.dial(node.proxy)
    request = b"GET / HTTP/1.1\r\nHost: web.test\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n\r\n"
    for _ in range(3):
        await client.ask(request)
    assert log.flush()
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    clients = [line["client-ip"] for line in lines if line["subsystem"] == "proxy.access"]
    assert clients == ["192.0.2.7" if network == "127.0.0.1" else "127.0.0.1"] * 3


# The PROXY protocol -----------------------------------------------------------------------------------------


def behind_a_balancer(*networks: str) -> ServerConfig:
    config = trusting(*networks)
    config.proxy.proxy_protocol = True
    return config


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_balancer_says_who_calls_and_then_the_client_is_a_stranger(
    roles: Roles, version: int, secure: bool, pki: Pki
) -> None:
    config = behind_a_balancer("127.0.0.1")
    if secure:
        config.proxy.tls.cert, config.proxy.tls.key = str(pki.cert), str(pki.key)
    node = await start(roles, config)
    header = proxy_header(version, SENDER, ("198.51.100.1", 443))
    tls = pki.client_context() if secure else None
    client = await roles.dial(node.proxy, tls=tls, server_name="localhost", before=header)
    assert told(await client.ask(FORGED)) == [
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Host: web.test:80",
        b"X-Forwarded-Proto: %b" % (b"https" if secure else b"http"),
    ]


async def test_a_header_and_a_request_in_pieces_are_put_together(roles: Roles) -> None:
    node = await start(roles, behind_a_balancer("127.0.0.1"))
    said = proxy_header(2, SENDER, ("198.51.100.1", 443)) + GET
    client = await roles.dial(node.proxy)
    for at in range(len(said)):
        await client.say(said[at : at + 1])
    assert b"X-Forwarded-For: 192.0.2.7" in told(await client.answer())


async def test_a_balancer_that_checks_the_port_speaks_for_itself(roles: Roles) -> None:
    node = await start(roles, behind_a_balancer("127.0.0.1"))
    client = await roles.dial(node.proxy, before=proxy_header(2, None, None))
    assert b"X-Forwarded-For: 127.0.0.1" in told(await client.ask(b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"))


async def test_a_trusted_proxy_that_says_no_header_is_not_served(roles: Roles) -> None:
    node = await start(roles, behind_a_balancer("127.0.0.1"))
    client = await roles.dial(node.proxy)
    await client.say(GET)
    heard = []
    try:
        heard.append(await client.rest())
    except trio.BrokenResourceError:
        pass
    assert b"".join(heard) == b""


@pytest.mark.parametrize("config", [server_config(), behind_a_balancer("10.0.0.0/8"), trusting("127.0.0.1")])
async def test_a_header_of_a_stranger_or_where_none_is_wanted_is_no_http(roles: Roles, config: ServerConfig) -> None:
    node = await start(roles, config)
    for version in (1, 2):
        client = await roles.dial(node.proxy)
        await client.say(proxy_header(version, SENDER, ("198.51.100.1", 443)) + GET)
        assert (await client.answer()).status == 400
    client = await roles.dial(node.proxy)
    if not (config.proxy.proxy_protocol and "127.0.0.1" in config.proxy.trusted_proxies):
        assert b"X-Forwarded-For: 127.0.0.1" in told(await client.ask())
