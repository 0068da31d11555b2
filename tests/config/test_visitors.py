"""Who may use which endpoint, as a node's file and an agent's say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import AgentConfig, Draft, ListenerConfig, ServerConfig, VisitorsConfig, shown, to_yaml
from engine.errors import ConfigError
from engine.wire.visitors import MAX_BYTES, Visitors, visitors_in
from tests.auth.test_visitors import HASH
from tests.config.reading import NO_FILE, Write, load, mistake


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_bytes(b"alice:%b\n" % HASH)
    return path


def test_a_node_has_a_guard_for_each_name_or_pattern(write: Write, htpasswd: Path) -> None:
    config = load(
        ServerConfig,
        write(f"""
            proxy:
              endpoints:
                "*": {{deny: 192.0.2.1}}
                shop: {{}}
                admin-*:
                  allow: [10.0.0.0/8, "2001:db8::/32"]
                  basic_auth_file: {htpasswd}
            """),
    )
    assert isinstance(config, ServerConfig)
    assert config.proxy.endpoints == {
        "*": VisitorsConfig(deny=["192.0.2.1/32"]),
        "shop": VisitorsConfig(),
        "admin-*": VisitorsConfig(allow=["10.0.0.0/8", "2001:db8::/32"], basic_auth_file=str(htpasswd)),
    }
    assert shown(config.proxy)["endpoints"] == {
        "*": {"allow": [], "deny": ["192.0.2.1/32"], "basic_auth_file": ""},
        "shop": {"allow": [], "deny": [], "basic_auth_file": ""},
        "admin-*": {
            "allow": ["10.0.0.0/8", "2001:db8::/32"],
            "deny": [],
            "basic_auth_file": str(htpasswd),
        },
    }
    again = load(ServerConfig, write(to_yaml(config.proxy).join(["proxy:\n", ""]).replace("\n", "\n  ")))
    assert isinstance(again, ServerConfig)
    assert again.proxy.endpoints == config.proxy.endpoints


WRONG = [
    ("proxy: {endpoints: [a]}", "1: proxy.endpoints: expected a mapping of names, with a mapping of keys for each"),
    ("proxy: {endpoints: {shop: open}}", "1: proxy.endpoints.shop: expected a mapping of keys"),
    (
        "proxy:\n  endpoints:\n    shop: {}\n    shop: {}",
        "4: proxy.endpoints.shop: already set on line 3",
    ),
    (
        "proxy:\n  endpoints:\n    shop:\n      alow: 10.0.0.1",
        "4: proxy.endpoints.shop.alow: unknown key; did you mean allow?",
    ),
    (
        "proxy:\n  endpoints:\n    shop:\n      allow: [10.0.0.0/8, 10.0.0.300]",
        "4: proxy.endpoints.shop.allow: '10.0.0.300': expected a list of networks such as 10.0.0.0/8, and of addresses",
    ),
    (
        'proxy:\n  endpoints:\n    "a.*":\n      deny: 10.0.0.1/8',
        "4: proxy.endpoints.'a.*'.deny: '10.0.0.1/8': expected a list of networks such as 10.0.0.0/8, and of addresses",
    ),
    (
        "proxy:\n  endpoints:\n    shop:\n      basic_auth_file: /no/such/file",
        f"4: proxy.endpoints.shop.basic_auth_file: '/no/such/file': {NO_FILE}; "
        "expected a file that `htpasswd -B` writes",
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_told_with_its_line(write: Write, text: str, said: str) -> None:
    assert mistake(ServerConfig, write(text)) == f"file.yaml:{said}"


def test_a_broken_line_of_a_file_is_told_by_its_number(write: Write, htpasswd: Path) -> None:
    htpasswd.write_bytes(b"alice:%b\nbob:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n" % HASH)
    said = mistake(ServerConfig, write(f"proxy: {{endpoints: {{shop: {{basic_auth_file: {htpasswd}}}}}}}"))
    assert said.endswith("': line 2: a hash that is not bcrypt's; expected what `htpasswd -B` writes")
    assert "eIMz" not in said


def test_a_tcp_port_of_an_endpoint_that_needs_a_password_is_refused(write: Write, htpasswd: Path) -> None:
    ports = "tcp: {5432: database}"
    for name in ("database", '"*"'):
        said = mistake(
            ServerConfig,
            write(f"proxy:\n  {ports}\n  endpoints: {{{name}: {{basic_auth_file: {htpasswd}}}}}"),
        )
        assert said.startswith("file.yaml:2: proxy.tcp: '5432=database': its clients need a password")
    load(
        ServerConfig,
        write(f'proxy:\n  {ports}\n  endpoints: {{database: {{}}, "*": {{basic_auth_file: {htpasswd}}}}}'),
    )


def test_where_there_are_tenants_an_endpoint_is_named_with_its_own(write: Write) -> None:
    tenants = "upstream: {tenants: [{id: acme, auth: {hmac_secret_key: a secret of thirty-two characters or more}}]}"
    for name in ("acme/shop", '"*/shop"', '"*"'):
        load(ServerConfig, write(f"{tenants}\nproxy: {{endpoints: {{{name}: {{}}}}}}"))
    said = mistake(ServerConfig, write(f"{tenants}\nproxy:\n  endpoints: {{shop: {{}}}}"))
    assert said.startswith("file.yaml:3: proxy.endpoints: 'shop': names no tenant")


def test_an_agent_says_in_a_header_whom_it_lets_in(write: Write, htpasswd: Path) -> None:
    config = load(
        AgentConfig,
        write(f"""
            listeners:
            - endpoint_id: shop
              addr: 3000
              visitors: {{allow: 10.0.0.0/8, basic_auth_file: {htpasswd}}}
            - {{endpoint_id: open, addr: 3001}}
            """),
    )
    assert isinstance(config, AgentConfig)
    shop, everybody = config.listeners
    said = visitors_in([(b"x-trioduct-visitors", shop.said_of_visitors())])
    assert said == Visitors(["10.0.0.0/8"], [], {"alice": HASH.decode()})
    assert everybody.said_of_visitors() == b""


def test_it_has_flags(htpasswd: Path) -> None:
    draft = Draft(AgentConfig)
    arguments = {"endpoint_id": ("ENDPOINT", "shop"), "addr": ("ADDR", "3000")}
    flags = {"--visitors.deny": ["192.0.2.0/24,198.51.100.1"], "--visitors.basic-auth-file": [str(htpasswd)]}
    draft.take_item("listeners", ListenerConfig(), arguments, flags)
    (listener,) = draft.finish().listeners
    assert listener.visitors.deny == ["192.0.2.0/24", "198.51.100.1/32"]
    assert listener.visitors.users() == {b"alice": HASH}


def test_more_than_fits_into_a_header_is_refused(write: Write, htpasswd: Path) -> None:
    htpasswd.write_bytes(b"".join(b"user%d:%b\n" % (number, HASH) for number in range(200)))
    text = f"listeners: [{{endpoint_id: shop, addr: 3000, visitors: {{basic_auth_file: {htpasswd}}}}}]"
    said = mistake(AgentConfig, write(text))
    assert "listeners[0].visitors.basic_auth_file" in said
    assert f"expected at most {MAX_BYTES}" in said


def test_a_tcp_service_has_no_passwords(write: Write, htpasswd: Path) -> None:
    text = "listeners: [{endpoint_id: db, addr: 5432, protocol: tcp, visitors: {basic_auth_file: %s}}]"
    assert "TCP clients cannot present a password" in mistake(AgentConfig, write(text % htpasswd))


def test_a_file_is_read_anew_each_time(htpasswd: Path) -> None:
    config = VisitorsConfig(basic_auth_file=str(htpasswd))
    assert config.users() == {b"alice": HASH}
    htpasswd.write_bytes(b"bob:%b\n" % HASH)
    assert config.users() == {b"bob": HASH}
    htpasswd.unlink()
    with pytest.raises(ConfigError, match=NO_FILE):
        config.users()
