"""Everything about an agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import AgentConfig, Draft, ListenerConfig, Section, Target, shown, to_yaml
from engine.errors import ConfigError
from tests.config.reading import ABOVE_ZERO, Write, load, mistake, unchanged
from tests.conftest import Pki


def test_an_agent_file_may_hold_every_key_of_piko(write: Write, pki: Pki) -> None:
    tls = f"{{cert: {pki.cert}, key: {pki.key}, root_cas: {pki.ca}, insecure_skip_verify: true, server_name: a}}"
    config = load(
        AgentConfig,
        write(f"""
            connect:
              url: https://node.example.com
              token: t0ken
              tenant_id: tenant
              timeout: 5s
              proxy_url: socks5://user:secret@proxy.example.com:1080
              tls: {tls}
            server: {{enabled: true, bind_addr: "127.0.0.1:15000"}}
            log: {{level: error, subsystems: [client]}}
            grace_period: 2m
            listeners:
              - endpoint_id: shop
                addr: 3000
              - endpoint_id: database
                addr: 10.0.0.5:5432
                protocol: tcp
                timeout: 1s
                access_log: {{level: debug, disable: true}}
                tls: {tls}
                http_client:
                  keep_alive_timeout: 10m
                  idle_conn_timeout: 20m
                  max_idle_conns: -1
                  disable_compression: true
              - endpoint_id: zeros
                addr: https://10.0.0.6
                http_client: {{keep_alive_timeout: 0, idle_conn_timeout: 0s, max_idle_conns: 0}}
            """),
    )
    assert isinstance(config, AgentConfig)
    left = unchanged(shown(config), shown(AgentConfig()))
    ours = (
        "connect.proxy.",
        "connect.carriers",
        "connect.resume",
        "connect.memory",
        "connect.token_file",
        "connect.token_command",
        "server.hosts",
        "inspect.",
        "tracing.",
    )
    assert [key for key in left if not key.startswith(ours)] == []
    shop, database, zeros = config.listeners
    assert shop == ListenerConfig(endpoint_id="shop", addr="3000", timeout=10)
    left = unchanged(shown(database), shown(ListenerConfig()))
    assert [
        key
        for key in left
        if not key.startswith(
            (
                "visitors.",
                "domains",
                "rewrite.",
                "health.",
                "proxy_protocol",
                "asgi",
                "reload",
                "weight",
                "error_pages",
                "udp.",
            )
        )
    ] == [f"access_log.{way}_headers.{kind}_list" for way in ("request", "response") for kind in ("allow", "block")]
    assert database.http_client.max_idle_conns == -1
    assert zeros.http_client == ListenerConfig().http_client  # a zero is what nobody set


WRONG = [
    (AgentConfig, "listeners: [a]", "1: listeners[0]: expected a mapping of keys"),
    (AgentConfig, "listeners:\n  - addr: 1", "2: listeners[0].endpoint_id: missing; expected the name of an endpoint"),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a}",
        "2: listeners[0].addr: missing; expected a port from 1 to 65535, host:port or http(s)://host, "
        "or an application (asgi)",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: .., addr: 1}]",
        "1: listeners[0].endpoint_id: '..': expected a name without /",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 0}]",
        "1: listeners[0].addr: '0': expected a port from 1 to 65535, host:port or http(s)://host",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 'http://a', protocol: tcp}]",
        "1: listeners[0].addr: 'http://a': expected a port from 1 to 65535, host:port",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: sctp}]",
        "1: listeners[0].protocol: 'sctp': expected one of http, h2, tcp, udp",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, timeout: 0}]",
        f"1: listeners[0].timeout: '0': expected {ABOVE_ZERO}",
    ),
    (
        AgentConfig,
        "inspect: {bind_addr: '0.0.0.0:4040'}",
        "1: inspect.bind_addr: '0.0.0.0:4040': expected a port from 0 to 65535, or host:port with localhost, 127.0.0.1 "
        "or [::1]",
    ),
    (AgentConfig, "inspect: {token: short}", "1: inspect.token: '***': expected 16 or more letters, digits, - or _"),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a, asgi: 'shop:app', protocol: tcp}",
        "2: listeners[0].asgi: 'shop:app': the protocol is tcp; expected http for an application",
    ),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a, asgi: 'shop:app', addr: 'http://me:s3cret@host'}",
        "2: listeners[0].asgi: 'shop:app': addr says *** as well; expected one of them",
    ),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a, asgi: 'shop:app', proxy_protocol: 2}",
        "2: listeners[0].proxy_protocol: '2': an application learns of clients by X-Forwarded-For; expected off",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: tcp, domains: shop.test}]",
        "1: listeners[0].domains: 'shop.test': TCP clients name no domain; expected none",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, proxy_protocol: 3}]",
        "1: listeners[0].proxy_protocol: '3': expected one of off, 1, 2",
    ),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a, addr: 1}\n- {endpoint_id: a, addr: 1}",
        "3: listeners[1].endpoint_id: 'a at 1': is the same as listeners[0]; expected each once",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_mistake_about_an_endpoint_is_told_in_one_line(
    root: type[Section], text: str, line: str, write: Write
) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


@pytest.mark.parametrize(
    ("addr", "target"),
    [
        ("8080", Target("http", "localhost", 8080, "")),
        ("65535", Target("http", "localhost", 65535, "")),
        ("1.2.3.4:8080", Target("http", "1.2.3.4", 8080, "")),
        ("localhost:8080", Target("http", "localhost", 8080, "")),
        (":8080", Target("http", "localhost", 8080, "")),
        ("[::1]:8080", Target("http", "::1", 8080, "")),
        ("https://example.com", Target("https", "example.com", 443, "")),
        ("http://example.com:8080/base/", Target("http", "example.com", 8080, "/base")),
    ],
)
def test_the_address_of_a_service_has_the_forms_of_piko(addr: str, target: Target) -> None:
    assert ListenerConfig(endpoint_id="a", addr=addr).target() == target


def test_the_address_of_a_tcp_service_is_no_url() -> None:
    assert ListenerConfig(addr="5432", protocol="tcp").target() == Target("tcp", "localhost", 5432, "")
    with pytest.raises(ValueError, match="no host:port"):
        ListenerConfig(addr="http://localhost:5432", protocol="tcp").target()


def test_an_endpoint_on_the_command_line_replaces_those_of_the_file(write: Write) -> None:
    draft = Draft(AgentConfig)
    draft.read_file(write("listeners: [{endpoint_id: a, addr: 1}, {endpoint_id: b, addr: 2}]"))
    arguments = {"endpoint_id": ("ENDPOINT", "shop"), "addr": ("ADDR", "nowhere")}
    draft.take_item("listeners", ListenerConfig(), arguments, {"--timeout": ["3s"]}, {"TRIODUCT_TIMEOUT": "4s"})
    assert draft.config.listeners == [ListenerConfig(endpoint_id="shop", addr="nowhere", timeout=3)]
    with pytest.raises(
        ConfigError, match=r"^ADDR: 'nowhere': expected a port from 1 to 65535, host:port or http\(s\)://host$"
    ):
        draft.finish()


@pytest.mark.parametrize(
    ("text", "addr"),
    [
        ("4040", "127.0.0.1:4040"),
        ("':4040'", "127.0.0.1:4040"),
        ("localhost:4040", "localhost:4040"),
        ("127.0.0.2:4040", "127.0.0.2:4040"),
        ("'[::1]:4040'", "[::1]:4040"),
        ("''", ""),
    ],
)
def test_an_inspector_is_on_an_address_of_this_machine_only(text: str, addr: str, write: Write) -> None:
    config = load(AgentConfig, write(f"inspect: {{bind_addr: {text}}}"))
    assert isinstance(config, AgentConfig)
    assert config.inspect.bind_addr == addr
    assert config.listens() == ([("inspect.bind_addr", addr)] if addr else [])


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    printed: list[str] = []
    path = tmp_path / "agent.yaml"
    path.write_text(
        "connect: {url: 'http://node'}\n"
        "listeners: [{endpoint_id: web, addr: '80'}, {endpoint_id: app, asgi: 'shop:app'}]"
    )
    for _ in range(2):
        draft = Draft(AgentConfig)
        draft.read_file(str(path), expand_env=False)
        printed.append(to_yaml(draft.finish()))
        assert list(draft.warnings()) == []
        path.write_text(printed[-1])
    assert printed[0] == printed[1]
