"""An agent's way out through somebody else's proxy: told to, or found in the environment, and never past it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from engine.config import AgentConfig, ConnectConfig, ListenerConfig
from engine.errors import Unreachable
from engine.loop.backoff import LONGEST_SECONDS
from engine.loop.dial import Server, dial_server
from engine.loop.run import open_reactor
from tests.agent.proxies import Proxy
from tests.agent.upstream_port import Port
from tests.conftest import Pki
from tests.proxy_adapters.test_dial import Names
from tests.roles import GET, Roles, RunningNode, Talk, agent_config, answer, server_config, settle, tell_head, values_of

BODY = bytes(range(256)) * 6_000
LOGIN = "user:pass word"
LOGIN_IN_URL = "user:pass%20word"


@dataclass
class Way:
    """A node, a service, and a proxy between the node and agents."""

    node: RunningNode
    service: int
    proxy: Proxy
    port: int
    scheme: str
    pki: Pki

    def config(self, proxy_url: str = "", *, host: str = "127.0.0.1") -> AgentConfig:
        config = agent_config(self.node.upstream, self.service, scheme=self.scheme)
        config.connect.url = f"{self.scheme}://{host}:{self.node.upstream}"
        config.connect.proxy_url = proxy_url
        config.connect.tls.root_cas = str(self.pki.ca)
        return config

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.node.upstream}"


async def open_way(
    roles: Roles, pki: Pki, kind: str = "http", *, login: str = "", secure: bool = False, scheme: str = "http"
) -> Way:
    """`secure`: the proxy itself is reached by TLS. `scheme`: that of the node's upstream port."""

    async def mirror(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            await talk.say(answer(await talk.exactly(sum(map(int, values_of(head, b"content-length"))))))

    config = server_config()
    if scheme == "https":
        config.upstream.tls.cert, config.upstream.tls.key = str(pki.cert), str(pki.key)
    proxy = Proxy(login)
    return Way(
        await roles.node(config),
        await roles.service(mirror),
        proxy,
        await roles.service(getattr(proxy, kind), tls=pki.server_context() if secure else None),
        scheme,
        pki,
    )


async def carries(roles: Roles, way: Way) -> bool:
    """Whether a body passes through the tunnel unchanged, there and back."""
    client = await roles.dial(way.node.proxy)
    async with trio.open_nursery() as nursery:
        head = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        nursery.start_soon(client.say, head + BODY)
        return hashlib.sha256((await client.answer()).body).digest() == hashlib.sha256(BODY).digest()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("login", ["", LOGIN], ids=["", "login"])
@pytest.mark.parametrize(("kind", "proxy_scheme"), [("http", "http"), ("http", "https"), ("socks5", "socks5")])
async def test_every_kind_of_proxy_leads_to_both_kinds_of_node(
    roles: Roles,
    pki: Pki,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    proxy_scheme: str,
    login: str,
    scheme: str,
) -> None:
    # The proxy's certificate is for the system to believe: root_cas is about the node.
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))
    way = await open_way(roles, pki, kind, login=login, secure=proxy_scheme == "https", scheme=scheme)
    userinfo = f"{LOGIN_IN_URL}@" if login else ""
    await roles.agent_with(way.config(f"{proxy_scheme}://{userinfo}127.0.0.1:{way.port}"))
    assert way.proxy.asked == [way.target]
    assert await carries(roles, way)


async def test_a_proxy_may_resolve_the_name(roles: Roles, pki: Pki) -> None:
    way = await open_way(roles, pki, "socks5")
    await roles.agent_with(way.config(f"socks5h://127.0.0.1:{way.port}", host="localhost"))
    assert way.proxy.asked == [f"localhost:{way.node.upstream}"]


@pytest.mark.parametrize(
    ("kind", "url", "words"),
    [
        ("http", "http://127.0.0.1:PORT", "407"),
        ("http", "http://user:wrong@127.0.0.1:PORT", "407"),
        ("socks5", "socks5://user:wrong@127.0.0.1:PORT", "127.0.0.1:PORT"),
        ("socks5", "http://127.0.0.1:PORT", "127.0.0.1:PORT"),
    ],
)
async def test_nobody_gets_past_a_proxy_that_says_no(
    roles: Roles, pki: Pki, mock_clock: MockClock, kind: str, url: str, words: str
) -> None:
    way = await open_way(roles, pki, kind, login=LOGIN)
    config = way.config(url.replace("PORT", str(way.port)))

    async def wait_no_longer() -> None:
        await settle()
        mock_clock.jump(config.connect.timeout + 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_no_longer)
        error = await roles.failure_of_agent(config)
    assert isinstance(error, Unreachable)
    assert words.replace("PORT", str(way.port)) in str(error)
    assert "wrong" not in str(error)
    assert way.proxy.asked == []


@pytest.mark.parametrize(
    ("scheme", "variables", "through"),
    [
        ("http", {"http_proxy": "http://PROXY"}, True),
        ("http", {"HTTP_PROXY": "http://PROXY"}, True),
        ("https", {"HTTPS_PROXY": "http://PROXY"}, True),
        ("https", {"ALL_PROXY": "http://PROXY"}, True),
        ("http", {"HTTPS_PROXY": "http://PROXY"}, False),
        ("https", {"HTTP_PROXY": "http://PROXY"}, False),
        ("https", {"https_proxy": "http://PROXY", "NO_PROXY": "127.0.0.1"}, False),
        ("https", {"https_proxy": "http://PROXY", "no_proxy": "10.0.0.0/8,127.0.0.0/8"}, False),
        ("https", {"https_proxy": "http://PROXY", "no_proxy": "example.test"}, True),
    ],
)
async def test_the_environment_says_which_way_to_go(
    roles: Roles, pki: Pki, monkeypatch: pytest.MonkeyPatch, scheme: str, variables: dict[str, str], through: bool
) -> None:
    way = await open_way(roles, pki, scheme=scheme)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("PROXY", f"127.0.0.1:{way.port}"))
    await roles.agent_with(way.config())
    assert way.proxy.asked == [way.target] * through


async def test_what_an_agent_is_told_beats_the_environment(
    roles: Roles, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = await open_way(roles, pki)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    await roles.agent_with(way.config(f"http://127.0.0.1:{way.port}"))
    assert way.proxy.asked == [way.target]


async def test_the_service_is_never_looked_for_behind_a_proxy(
    roles: Roles, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = await open_way(roles, pki)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{way.port}")
    await roles.agent_with(way.config())
    assert await carries(roles, way)
    assert way.proxy.asked == [way.target]


async def test_a_proxy_that_cuts_a_tunnel_costs_a_reconnect(roles: Roles, pki: Pki) -> None:
    tunnels: list[Talk] = []
    proxy = Proxy()

    async def remembers(talk: Talk) -> None:
        tunnels.append(talk)
        await proxy.http(talk)

    node = await roles.node()
    config = agent_config(node.upstream, await roles.service(tell_head))
    config.connect.proxy_url = f"http://127.0.0.1:{await roles.service(remembers)}"
    await roles.agent_with(config)
    await tunnels[0].reset()
    with trio.fail_after(5):
        while len(proxy.asked) < 2 or (await (await roles.dial(node.proxy)).ask(GET)).status != 200:
            await settle()


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
async def test_a_proxy_that_asks_for_a_pause_gets_it_from_every_endpoint(
    roles: Roles, mock_clock: MockClock, status: bytes
) -> None:
    asked = 0

    async def busy(talk: Talk) -> None:
        nonlocal asked
        await talk.until(b"\r\n\r\n")
        asked += 1
        await talk.say(b"HTTP/1.1 %b\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n" % status)

    config = agent_config(9, 1, endpoint="one")
    config.listeners.append(ListenerConfig(endpoint_id="two", addr="127.0.0.1:1"))
    config.connect.proxy_url = f"http://127.0.0.1:{await roles.service(busy)}"
    config.connect.timeout = 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        await settle()
        first = asked
        for _ in range(11):
            mock_clock.jump(10)
            await settle()
        assert asked == first <= len(config.listeners)
        mock_clock.jump(10 + LONGEST_SECONDS)
        await settle()
        assert asked > first
        nursery.cancel_scope.cancel()


async def test_a_node_that_asks_for_a_pause_gets_it(roles: Roles, port: Port, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, agent_config(port.number, 1))
        talk, _ = await port.arrivals.receive()
        await talk.say(b"HTTP/1.1 503 Later\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n")
        await settle()
        mock_clock.jump(19)
        await settle()
        assert port.arrivals.statistics().current_buffer_used == 0
        mock_clock.jump(2)
        await port.next()


@pytest.mark.parametrize("login_hosts", [[], ["127.0.0.1"]], ids=["anybody's", "ours"])
async def test_a_password_is_shown_to_a_proxy_of_a_pac_file_over_plain_http_only_if_it_is_known_as_ours(
    roles: Roles, login_hosts: list[str]
) -> None:
    proxy = Proxy(LOGIN)
    at_proxy = await roles.service(proxy.http)
    script = b"function FindProxyForURL() { return 'PROXY 127.0.0.1:%d'; }" % at_proxy

    async def pac(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(script))

    node = await roles.node()
    connect = ConnectConfig(url=f"http://node.test:{node.upstream}")
    connect.proxy.pac = f"http://127.0.0.1:{await roles.service(pac)}/"
    connect.proxy.user, _, connect.proxy.password = LOGIN.partition(":")
    connect.proxy.auth.login_hosts = login_hosts
    trio.socket.set_custom_hostname_resolver(Names({"node.test": ["127.0.0.1"]}))
    if login_hosts:
        async with open_reactor():
            (await dial_server(Server(connect.url, router=connect.router()))).abort()
    else:
        with pytest.raises(Unreachable, match=r"it is not told who we are.* add 127\.0\.0\.1 to login_hosts"):
            await dial_server(Server(connect.url, router=connect.router()))
    assert proxy.asked == [f"node.test:{node.upstream}"] * len(login_hosts)
