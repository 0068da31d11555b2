"""Which knobs have an effect: roles run on configurations that note what is read of them.

A knob that no role reads while it starts, serves and leaves has none. Those are listed here, and a node names them in
a warning.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TypeVar, cast

import jwt
import pytest
from jwt.algorithms import HMACAlgorithm

from engine.config import AgentConfig, ConnectConfig, ListenerConfig, Section, ServerConfig, VisitorsConfig
from engine.config.auth import AuthConfig, JWKSConfig
from engine.config.knob import Leaf, ListOf, MapOf, knobs, members
from engine.config.server import WITHOUT_EFFECT, TenantConfig
from engine.config.tls import KeyPair
from tests.conftest import Pki
from tests.roles import Roles, agent_config, forward_config, says, server_config

S = TypeVar("S", bound=Section)
SECRET = "a secret of some forty characters, or more"
COMMAND = {"log.level", "log.subsystems", "workers"}  # what `engine.cli.launch` reads before it starts a role


class Watched:
    """A section that notes in `read` the keys of its knobs that somebody reads; otherwise it is as the section is."""

    _section: Section
    _read: set[str]
    _prefix: str

    def __init__(self, section: Section, read: set[str], prefix: str = "") -> None:
        self.__dict__.update(_section=section, _read=read, _prefix=prefix)  # past __setattr__

    @property  # type: ignore[misc]
    def __class__(self) -> type[Section]:  # type: ignore[override]
        return type(self._section)

    def __getattr__(self, name: str) -> object:
        section, key = self._section, self._prefix + name
        member = members(type(section)).get(name)
        if member is None:  # a method or a property, which is to read what is watched
            return inspect.getattr_static(type(section), name).__get__(self, type(section))
        value = getattr(section, name)
        if isinstance(member, Leaf):
            self._read.add(key)
            return value
        if isinstance(member, ListOf):
            return [Watched(item, self._read, f"{key}.") for item in value]
        if isinstance(member, MapOf):
            return {name: Watched(item, self._read, f"{key}.") for name, item in value.items()}
        return Watched(value, self._read, f"{key}.")

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._section, name, value)

    def __eq__(self, other: object) -> bool:
        return bool(self._section == other)

    __hash__ = None  # type: ignore[assignment]


def watched(section: S, read: set[str], prefix: str = "") -> S:
    return cast(S, Watched(section, read, prefix))


def keys_of(section: type[Section], prefix: str = "") -> set[str]:
    """The keys of all knobs, those of lists and mappings of sections without an index or a name."""
    found = {prefix + knob.key for knob in knobs(section)}
    for name, member in members(section).items():
        if isinstance(member, ListOf | MapOf):
            found |= keys_of(member.section, f"{prefix}{name}.")
    return found


async def test_what_a_node_does_not_read_is_what_it_warns_of(
    roles: Roles, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.node.node.REBALANCE_SECONDS", 0)
    key = json.loads(HMACAlgorithm.to_jwk(SECRET)) | {"kid": "one", "alg": "HS256"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    config = server_config()
    config.proxy.access_log.disable = False
    for port in (config.proxy, config.upstream, config.admin):
        port.auth.jwks.endpoint = f"file://{tmp_path}/keys.json"
        port.tls.certificates = [KeyPair(cert=str(pki.cert), key=str(pki.key))]
    config.cluster.store, config.cluster.secret = "rediss+sentinel://127.0.0.1:1/main", SECRET  # which is away
    config.upstream.rebalance.threshold = 0.5
    config.proxy.endpoints = {"*": VisitorsConfig()}
    config.tracing.url = "http://127.0.0.1:1"  # which is away as well
    config.upstream.tenants = [TenantConfig("one", AuthConfig(jwks=JWKSConfig(f"file://{tmp_path}/keys.json")))]
    read: set[str] = set()
    first = await roles.node(watched(config, read))
    first.tell_to_stop()
    await first.ended.wait()
    config.cluster.bind_addr = "127.0.0.1:0"
    config.cluster.tls.certificates = [KeyPair(cert=str(pki.cert), key=str(pki.key))]
    node = await roles.node(watched(config, read))
    admin = await roles.dial(node.admin, tls=pki.client_context())
    token = jwt.encode({}, SECRET, "HS256", {"kid": "one"}).encode()
    request = b"GET /status/cluster/nodes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
    assert (await admin.ask(request % token)).status == 200
    await admin.close()
    node.tell_to_stop()
    await node.ended.wait()

    refused = {"cluster.join"}  # by `ServerConfig.verify`
    judged = {"proxy.http.max_header_bytes", "proxy.tcp_without_token"}  # by `ServerConfig.warnings`
    opened = {"admin.insecure"}  # by `AdminConfig.verify`
    asking = {key for key in keys_of(ServerConfig) if key.startswith("admin.tls.client.")}  # other nodes, for ?forward=
    unread = keys_of(ServerConfig) - read - COMMAND - refused - judged - opened - asking
    assert unread == {key for key in keys_of(ServerConfig) if key.startswith(WITHOUT_EFFECT)}


async def test_an_agent_reads_every_knob_but_one_that_asks_for_what_it_does_anyway(
    roles: Roles, pki: Pki, tmp_path: Path
) -> None:
    of_node = server_config()
    of_node.upstream.tls.cert, of_node.upstream.tls.key = str(pki.cert), str(pki.key)
    node = await roles.node(of_node)
    service = await roles.service(says(b"hello"), tls=pki.server_context())
    config = agent_config(node.upstream, f"https://127.0.0.1:{service}", scheme="https")
    config.connect.tls.root_cas = config.listeners[0].tls.root_cas = str(pki.ca)
    config.connect.proxy.url = ["direct"]
    config.connect.proxy.tls.insecure_skip_verify = True
    config.server.enabled = True
    config.server.bind_addr = config.inspect.bind_addr = "127.0.0.1:0"
    config.tracing.url = "http://127.0.0.1:1"
    config.listeners[0].access_log.disable = False
    app = ListenerConfig(endpoint_id="app", asgi="tests.asgi.starlette_app:app")
    app.health.check = "http"
    config.listeners += [app, ListenerConfig(endpoint_id="dns", addr="127.0.0.1:53", protocol="udp")]
    config.listeners[0].rewrite.host = "web"
    read: set[str] = set()
    agent = await roles.agent_with(watched(config, read))
    client = await roles.dial(node.proxy)
    request = b"GET / HTTP/1.1\r\nHost: node\r\nx-piko-endpoint: web\r\n\r\n"
    assert (await client.ask(request)).body == b"hello"
    agent.tell_to_stop()
    await agent.ended.wait()
    read_of_ways_out(read, tmp_path)

    # An agent asks for nothing on its own account, compressed or not.
    assert keys_of(AgentConfig) - read - COMMAND == {"listeners.http_client.disable_compression"}


async def test_a_forward_reads_every_knob(roles: Roles, pki: Pki, tmp_path: Path) -> None:
    config = server_config()
    config.proxy.tls.cert, config.proxy.tls.key = str(pki.cert), str(pki.key)
    node = await roles.node(config)
    forwarding = forward_config(node.proxy, "web", "dns", scheme="https")
    forwarding.ports[1].protocol = "udp"
    forwarding.connect.tls.root_cas = str(pki.ca)
    forwarding.connect.proxy.tls.insecure_skip_verify = True
    read: set[str] = set()
    forward = await roles.forward_with(watched(forwarding, read))
    forward.tell_to_stop()
    await forward.ended.wait()
    read_of_ways_out(read, tmp_path)

    assert keys_of(type(forwarding)) - read - COMMAND == set()


def read_of_ways_out(read: set[str], folder: Path) -> None:
    """Add what is read of a way out that excludes the others: one that a PAC file chooses."""
    script = folder / "proxy.pac"
    script.write_text("function FindProxyForURL(url, host) { return 'DIRECT' }")
    connect = ConnectConfig(url="http://node")
    connect.proxy.pac = str(script)
    watched(connect, read, "connect.").router()
