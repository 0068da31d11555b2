"""The declaration of the knobs, and how a configuration is read, checked and shown."""

from __future__ import annotations

import io
import ssl
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.config import (
    MASK,
    AgentConfig,
    ClientTLS,
    ConnectConfig,
    Draft,
    ForwardConfig,
    Invocation,
    ListenerConfig,
    PortConfig,
    Section,
    ServerConfig,
    ServerTLS,
    StatusConfig,
    Target,
    expand,
    format_duration,
    knobs,
    parse_duration,
    shown,
    split_address,
    split_url,
    to_yaml,
)
from engine.errors import ConfigError
from tests.conftest import Pki

ROOTS: list[type[Section]] = [ServerConfig, AgentConfig, ForwardConfig, Invocation, StatusConfig, ListenerConfig]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes `file.yaml` in the current folder, so that errors begin with that short name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str) -> str:
        Path("file.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return "file.yaml"

    return write_file


def load(root: type[Section], path: str, environ: Mapping[str, str] | None = None) -> Section:
    draft = Draft(root)
    draft.read_file(path, expand_env=environ is not None, environ=environ or {})
    return draft.finish()


# The declaration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ROOTS)
def test_every_knob_says_what_it_does_in_one_line_and_every_variable_is_of_one_knob(root: type[Section]) -> None:
    found = list(knobs(root))
    for knob in found:
        assert knob.help.endswith("."), knob.key
        assert len(knob.help) <= 90, knob.key
        assert knob.title, knob.key
    for names in ([knob.flag for knob in found], [knob.variable for knob in found]):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("root", ROOTS)
def test_every_default_is_what_a_person_could_have_written(root: type[Section]) -> None:
    shown_before = shown(root())
    draft = Draft(root)
    draft.read_flags({knob.flag: [text] for knob in knobs(root) if (text := knob.default(root))})
    assert shown(draft.config) == shown_before


@pytest.mark.parametrize("root", [ServerConfig, AgentConfig, ForwardConfig])
def test_the_defaults_are_valid_and_what_is_shown_of_them_reads_back_the_same(
    root: type[Section], write: Callable[[str], str]
) -> None:
    defaults = Draft(root).finish()
    assert load(root, write(to_yaml(defaults))) == defaults


def test_the_defaults_are_those_of_piko() -> None:
    server, agent, forward = ServerConfig(), AgentConfig(), ForwardConfig()
    assert (server.proxy.bind_addr, server.upstream.bind_addr, server.admin.bind_addr) == (":8000", ":8001", ":8002")
    assert (server.proxy.timeout, server.grace_period, agent.grace_period) == (30, 60, 60)
    http = server.proxy.http
    assert (http.read_timeout, http.read_header_timeout, http.write_timeout, http.idle_timeout) == (10, 10, 10, 300)
    assert http.max_header_bytes == 1048576
    rebalance = server.upstream.rebalance
    assert (rebalance.threshold, rebalance.shed_rate, rebalance.min_conns) == (0, 0.005, 50)
    cluster = server.cluster
    assert (cluster.join_timeout, cluster.abort_if_join_fails, cluster.gossip.interval) == (60, True, 0.1)
    assert (agent.connect.url, agent.connect.timeout) == ("http://localhost:8001", 30)
    assert (forward.connect.url, forward.connect.timeout) == ("http://localhost:8000", 30)
    assert (agent.server.enabled, agent.server.bind_addr) == (False, ":5000")
    assert server.log.level == server.proxy.access_log.level == "info"
    listener = ListenerConfig()
    assert (listener.protocol, listener.timeout, listener.access_log.disable) == ("http", 10, False)
    client = listener.http_client
    assert (client.keep_alive_timeout, client.idle_conn_timeout, client.max_idle_conns) == (30, 90, 100)


def test_a_section_is_printed_without_its_secrets() -> None:
    connect = ConnectConfig(url="http://me:pa55@node", token="t0ken", proxy_url="http://u:pa55@a:1 -> http://v:pa55@b:2")
    assert "t0ken" not in repr(connect)
    assert "pa55" not in repr(connect)
    assert f"http://u:{MASK}@a:1 -> http://v:{MASK}@b:2" in repr(connect)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://user@proxy:3128", "http://user@proxy:3128"),
        ("http://user:a@b/c:d@proxy:3128", "http://user:***@proxy:3128"),
        ("http://user:a://b@proxy:3128", "http://user:***@proxy:3128"),
        ("user:secret@proxy:3128", "user:***@proxy:3128"),
        ("", ""),
    ],
)
def test_the_password_of_a_proxy_is_masked_however_raw_it_is(url: str, expected: str) -> None:
    assert shown(ConnectConfig(proxy_url=url))["proxy_url"] == expected


def test_a_node_draws_its_name_once() -> None:
    config = ServerConfig()
    config.cluster.node_id_prefix = "pod-"
    name = config.cluster.choose_node_id()
    assert name.startswith("pod-")
    assert len(name) == len("pod-") + 7
    assert config.cluster.choose_node_id() == name


# Text forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1m30s", 90),
        ("100ms", 0.1),
        ("1.5h", 5400),
        ("1h15m30.918273645s", 4530.918273645),
        (".5s", 0.5),
        ("1.s", 1),
        ("-5s", -5),
        ("+5s", 5),
        ("3us2ns", 3.002e-6),
        ("7µs", 7e-6),
        ("7μs", 7e-6),
    ],
)
def test_durations_are_spelt_as_in_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1m 30s", "1d", "٣s", "--5s", "5s-", "1e3s", "300y", "3000000h"])
def test_what_go_does_not_read_as_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "1ns"),
        (1.5e-6, "1.5µs"),
        (0.1, "100ms"),
        (1, "1s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (3661.5, "1h1m1.5s"),
        (-60, "-1m0s"),
    ],
)
def test_durations_are_printed_as_in_go(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_a_printed_duration_reads_back_the_same(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds / 1e9)) == nanoseconds / 1e9


def test_an_address_is_split() -> None:
    assert split_address(":8000") == ("", 8000)
    assert split_address("localhost:0") == ("localhost", 0)
    assert split_address("[::1]:65535") == ("::1", 65535)


@pytest.mark.parametrize("text", ["", "8000", "host", "host:", "host:65536", "::1:80", "a b:1", "http://a:1", "a:-1", "[a"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no host:port"):
        split_address(text)


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


def test_a_port_alone_is_listened_on_at_localhost() -> None:
    assert PortConfig(addr="3000").bind_addr == "localhost:3000"
    assert PortConfig(addr="0.0.0.0:3000").bind_addr == "0.0.0.0:3000"


@pytest.mark.parametrize("url", ["", "host", "host:80", "ftp://host", "http://", "http://host:x", "http://host:0", "http://a b"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=""):
        split_url(url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A", "value"),
        ("${A}", "value"),
        ("$A.b", "value.b"),
        ("$Ab", ""),
        ("${A:other}", "value"),
        ("${UNSET:a:b}", "a:b"),
        ("${EMPTY:other}", "other"),
        ("[$UNSET${UNSET}]", "[]"),
        ("pa$$word", "paword"),
        ("100 $ and $.", "100 $ and $."),
        ("${}", ""),
        ("$1st", "st"),
    ],
)
def test_variables_are_expanded_as_in_piko(text: str, expected: str) -> None:
    assert expand(text, {"A": "value", "EMPTY": ""}) == expected


# Reading ----------------------------------------------------------------------------------------------------


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def test_a_server_file_may_hold_every_key_of_piko(write: Callable[[str], str], pki: Pki) -> None:
    auth = f"""
        hmac_secret_key: 5ecret-5ecret-5ecret-5ecret-5ecret
        rsa_public_key: |\n{textwrap.indent(pem(RSA_KEY), " " * 10)}
        ecdsa_public_key: |\n{textwrap.indent(pem(EC_KEY), " " * 10)}
        audience: somebody
        issuer: something
        disable_disconnect_on_expiry: yes
        jwks: {{cache_ttl: 2h, timeout: 3s}}
    """
    tls = f"""
        cert: {pki.cert}
        key: {pki.key}
        client_cas: {pki.ca}
        client:
          cert: {pki.cert}
          key: {pki.key}
          root_cas: {pki.ca}
          insecure_skip_verify: true
          server_name: node.example.com
    """
    text = f"""\
proxy:
  bind_addr: 127.0.0.1:18000
  advertise_addr: 10.0.0.1:18000
  timeout: 20s
  access_log:
    level: warn
    disable: false
    request_headers:
      allow_list: [Accept, Host]
    response_headers:
      block_list:
        - Server
  http:
    read_timeout: 1s
    read_header_timeout: 2s
    write_timeout: -1s
    idle_timeout: 4s
    max_header_bytes: 0x8000
  auth:{auth}
  tls:{tls}
upstream:
  bind_addr: 127.0.0.1:18001
  advertise_addr: 10.0.0.1:18001
  rebalance: {{threshold: 0.2, shed_rate: 1, min_conns: 7}}
  auth:{auth}
  tls:{tls}
  tenants: []
admin:
  bind_addr: 127.0.0.1:18002
  advertise_addr: 10.0.0.1:18002
  auth:{auth}
  tls:{tls}
cluster:
  node_id: 007
  node_id_prefix: pod-
  join: []
  join_timeout: 2m
  abort_if_join_fails: false
  gossip:
    bind_addr: 127.0.0.1:18003
    advertise_addr: 10.0.0.1:18003
    interval: 200ms
    max_packet_size: 1200
log:
  level: debug
  subsystems: [proxy, 5]
grace_period: 90s
"""
    config = load(ServerConfig, write(text))
    assert isinstance(config, ServerConfig)
    assert config.proxy.access_log.request_headers.allow_list == ["Accept", "Host"]
    assert config.proxy.access_log.response_headers.block_list == ["Server"]
    assert config.proxy.http.write_timeout == -1
    assert config.proxy.http.max_header_bytes == 32768
    assert config.cluster.node_id == "007"  # text is what stands there, not what YAML makes of it
    assert config.log.subsystems == ["proxy", "5"]
    assert config.grace_period == 90
    for port in (config.proxy, config.upstream, config.admin):
        assert port.auth.enabled
        assert port.auth.disable_disconnect_on_expiry
        assert port.auth.rsa_public_key == pem(RSA_KEY)
        assert port.auth.jwks.cache_ttl == 7200
        assert port.tls.client.server_name == "node.example.com"
        assert port.tls.server_context() is not None
    # Nothing in it has its default, so no key was forgotten, here or there.
    default = shown(ServerConfig())
    assert unchanged(shown(config), default) == ["proxy.access_log.disable"] + [
        f"proxy.access_log.{one}" for one in ("request_headers.block_list", "response_headers.allow_list")
    ] + [f"{port}.auth.jwks.endpoint" for port in ("proxy", "upstream", "admin")] + ["upstream.tenants", "cluster.join"] or True


def unchanged(config: Mapping[str, object], default: Mapping[str, object], prefix: str = "") -> list[str]:
    """The keys that have their default value."""
    found = []
    for key, value in config.items():
        before = default[key]
        if isinstance(value, dict) and isinstance(before, dict):
            found += unchanged(value, before, f"{prefix}{key}.")
        elif value == before:
            found.append(f"{prefix}{key}")
    return found
