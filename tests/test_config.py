"""The declaration of the knobs, and how a configuration is read, checked and shown."""

from __future__ import annotations

import math
import ssl
import tempfile
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
    ExaminationConfig,
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
from proxy_adapters import Login, Route
from tests.conftest import Pki

ROOTS: list[type[Section]] = [
    ServerConfig,
    AgentConfig,
    ForwardConfig,
    Invocation,
    StatusConfig,
    ListenerConfig,
    ExaminationConfig,
]


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
    variables = [knob.variable for knob in found if knob.key != "connect.proxy_url"]  # has that of connect.proxy.url
    for names in ([knob.flag for knob in found], variables):
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
    connect = ConnectConfig(
        url="http://me:pa55@node", token="t0ken", proxy_url="http://u:pa55@a:1 -> http://v:pa55@b:2"
    )
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


@pytest.mark.parametrize(
    "text", ["", "8000", "host", "host:", "host:65536", "::1:80", "a b:1", "http://a:1", "a:-1", "[a"]
)
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


@pytest.mark.parametrize(
    "url", ["", "host", "host:80", "ftp://host", "http://", "http://host:x", "http://host:0", "http://a b"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
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
    assert config.proxy.http.write_timeout == math.inf
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
    # Every key but those that exclude others was set, so none was forgotten, here or there.
    assert unchanged(shown(config), shown(ServerConfig())) == [
        "proxy.access_log.disable",
        "proxy.access_log.request_headers.block_list",
        "proxy.access_log.response_headers.allow_list",
        "proxy.auth.jwks.endpoint",
        "upstream.auth.jwks.endpoint",
        "upstream.tenants",
        "admin.auth.jwks.endpoint",
        "cluster.join",
    ]


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


def test_an_agent_file_may_hold_every_key_of_piko(write: Callable[[str], str], pki: Pki) -> None:
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
    assert [key for key in left if not key.startswith("connect.proxy.")] == []  # which are ours
    shop, database, zeros = config.listeners
    assert shop == ListenerConfig(endpoint_id="shop", addr="3000", timeout=10)
    assert unchanged(shown(database), shown(ListenerConfig())) == [
        f"access_log.{way}_headers.{kind}_list" for way in ("request", "response") for kind in ("allow", "block")
    ]
    assert database.http_client.max_idle_conns == -1
    assert zeros.http_client == ListenerConfig().http_client  # a zero is what nobody set


def test_a_forward_file_may_hold_every_key_of_piko_and_ours(write: Callable[[str], str]) -> None:
    config = load(
        ForwardConfig,
        write("""
            connect: {url: http://node:8000, token: t0ken, tenant_id: a, timeout: 1m, proxy_url: http://proxy:3128}
            ports:
              - {addr: 3000, endpoint_id: database}
              - {addr: "0.0.0.0:3001", endpoint_id: database}
            """),
    )
    assert isinstance(config, ForwardConfig)
    left = unchanged(shown(config.connect), shown(ForwardConfig().connect))
    assert [key for key in left if not key.startswith("proxy.")] == [
        f"tls.{name}" for name in ("cert", "key", "root_cas", "insecure_skip_verify", "server_name")
    ]
    assert config.listens() == {"ports[0].addr": "localhost:3000", "ports[1].addr": "0.0.0.0:3001"}


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "proxy:\n", "proxy: ~\nupstream: {auth: null, bind_addr: }"]
)
def test_what_a_file_leaves_out_or_null_keeps_its_default(text: str, write: Callable[[str], str]) -> None:
    assert load(ServerConfig, write(text)) == ServerConfig()


def test_anchors_and_merges_work(write: Callable[[str], str]) -> None:
    config = load(
        ServerConfig,
        write("""
            proxy:
              http: &http {read_timeout: 1s, write_timeout: 2s}
              auth: &auth {audience: me}
            upstream: {auth: *auth}
            admin:
              auth: {<<: *auth, issuer: you}
            """),
    )
    assert isinstance(config, ServerConfig)
    assert config.upstream.auth.audience == "me"
    assert (config.admin.auth.audience, config.admin.auth.issuer) == ("me", "you")


def test_a_file_takes_variables_only_when_told_to(write: Callable[[str], str]) -> None:
    path = write("connect: {token: $TOKEN}\nlog: {level: '${LEVEL:warn}'}")
    with pytest.raises(ConfigError, match=r"file.yaml:1: log.level|file.yaml:2: log.level"):
        load(AgentConfig, path)
    config = load(AgentConfig, path, {"TOKEN": "t0ken"})
    assert isinstance(config, AgentConfig)
    assert (config.connect.token, config.log.level) == ("t0ken", "warn")


def test_the_file_wins_over_flags_and_flags_over_the_environment(write: Callable[[str], str]) -> None:
    draft = Draft(ServerConfig)
    environ = {"TRIODUCT_PROXY_BIND_ADDR": ":1", "TRIODUCT_UPSTREAM_BIND_ADDR": ":2", "TRIODUCT_ADMIN_BIND_ADDR": ":3"}
    draft.read_environment(environ | {"TRIODUCT_LOG_SUBSYSTEMS": "a,b", "TRIODUCT_LOG_LEVEL": ""})
    draft.read_flags({"--upstream.bind-addr": [":4"], "--admin.bind-addr": [":5", ":6"]})
    draft.read_file(write("admin: {bind_addr: ':7'}"))
    config = draft.finish()
    assert list(config.listens().values()) == [":1", ":4", ":7"]
    assert (config.log.subsystems, config.log.level) == (["a", "b"], "info")


def test_a_list_in_a_flag_has_commas_or_repetitions_or_both() -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--log.subsystems": ["a,b", '"c,d"', ""]})
    assert draft.config.log.subsystems == ["a", "b", "c,d"]


def test_an_endpoint_on_the_command_line_replaces_those_of_the_file(write: Callable[[str], str]) -> None:
    draft = Draft(AgentConfig)
    draft.read_file(write("listeners: [{endpoint_id: a, addr: 1}, {endpoint_id: b, addr: 2}]"))
    arguments = {"endpoint_id": ("ENDPOINT", "shop"), "addr": ("ADDR", "nowhere")}
    draft.take_item("listeners", ListenerConfig(), arguments, {"--timeout": ["3s"]}, {"TRIODUCT_TIMEOUT": "4s"})
    assert draft.config.listeners == [ListenerConfig(endpoint_id="shop", addr="nowhere", timeout=3)]
    with pytest.raises(ConfigError, match=r"^ADDR: 'nowhere': expected a port, host:port or http\(s\)://host$"):
        draft.finish()


def test_gossip_keys_are_taken_with_one_warning(write: Callable[[str], str]) -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--cluster.gossip.interval": ["1s"]})
    draft.read_file(write("cluster: {gossip: {bind_addr: ':18003'}}"))
    draft.finish()
    assert draft.warnings() == [
        "membership is not gossip here, so these change nothing: cluster.gossip.interval, cluster.gossip.bind_addr"
    ]
    assert Draft(ServerConfig).warnings() == []


# What is wrong, in one line ---------------------------------------------------------------------------------

DURATION = "a duration such as 1m30s, 100ms or 0"
ABOVE_ZERO = "a duration above 0 such as 1m30s or 100ms"
NO_FILE = "No such file or directory"

WRONG = [
    # what YAML says about itself
    (ServerConfig, "a: b: c", "1: mapping values are not allowed in this context; expected YAML"),
    (ServerConfig, "\n- proxy", "2: expected a mapping of keys"),
    (ServerConfig, "proxy: *nobody", "1: found undefined alias; expected YAML"),
    (ServerConfig, "a: 1\n---\nb: 2", "2: but found another document; expected YAML"),
    (ServerConfig, "log: {level: info}\nlog: {}", "2: log: stands already on line 1"),
    (ServerConfig, "? [a]\n: b", "1: a mapping: expected a name for each key"),
    # keys
    (ServerConfig, "\nproxy:\n  bind_adr: x", "3: proxy.bind_adr: unknown key; did you mean bind_addr?"),
    (ServerConfig, "proxy: {bind-addr: x}", "1: proxy.bind-addr: unknown key; did you mean bind_addr?"),
    (ServerConfig, "xyz: 1", "1: xyz: unknown key; expected one of proxy, upstream, admin, cluster, log, grace_period"),
    (ForwardConfig, "grace_period: 1s", "1: grace_period: unknown key; expected one of connect, log, ports"),
    (
        ServerConfig,
        '"a\\nb": 1',
        r"1: 'a\nb': unknown key; expected one of proxy, upstream, admin, cluster, log, grace_period",
    ),
    (
        ServerConfig,
        "config: {path: x}",
        "1: config: unknown key; expected one of proxy, upstream, admin, cluster, log, grace_period",
    ),
    (AgentConfig, "connect: token", "1: connect: expected a mapping of keys"),
    (AgentConfig, "listeners: {}", "1: listeners: expected a list, each of its items a mapping of keys"),
    (AgentConfig, "listeners: [a]", "1: listeners[0]: expected a mapping of keys"),
    # types and ranges
    (ServerConfig, "proxy:\n  timeout: 10", f"2: proxy.timeout: '10': expected {DURATION}"),
    (ServerConfig, "proxy: {timeout: -1s}", f"1: proxy.timeout: '-1s': expected {DURATION}"),
    (ServerConfig, "grace_period: 0", f"1: grace_period: '0': expected {ABOVE_ZERO}"),
    (ServerConfig, "proxy: {timeout: [1s]}", f"1: proxy.timeout: a list: expected {DURATION}"),
    (ServerConfig, "proxy: {timeout: {a: 1s}}", f"1: proxy.timeout: a mapping: expected {DURATION}"),
    (ServerConfig, "log: {level: WARN}", "1: log.level: 'WARN': expected one of debug, info, warn, error"),
    (ServerConfig, "log: {subsystems: a}", "1: log.subsystems: 'a': expected a list of texts"),
    (ServerConfig, "log: {subsystems: [[a]]}", "1: log.subsystems: a list: expected a list of texts"),
    (
        ServerConfig,
        "proxy: {access_log: {disable: maybe}}",
        "1: proxy.access_log.disable: 'maybe': expected true or false",
    ),
    (
        ServerConfig,
        "proxy: {bind_addr: 8000}",
        "1: proxy.bind_addr: '8000': expected host:port or :port, the port from 0 to 65535",
    ),
    (
        ServerConfig,
        "proxy: {bind_addr: ':65536'}",
        "1: proxy.bind_addr: ':65536': expected host:port or :port, the port from 0 to 65535",
    ),
    (ServerConfig, "proxy: {advertise_addr: ':80'}", "1: proxy.advertise_addr: ':80': expected host:port"),
    (
        ServerConfig,
        "proxy: {http: {max_header_bytes: 1e6}}",
        "1: proxy.http.max_header_bytes: '1e6': expected a whole number, 1 or more",
    ),
    (
        ServerConfig,
        "upstream: {rebalance: {shed_rate: 1.1}}",
        "1: upstream.rebalance.shed_rate: '1.1': expected a number from 0 to 1",
    ),
    (
        ServerConfig,
        "upstream: {rebalance: {threshold: .nan}}",
        "1: upstream.rebalance.threshold: '.nan': expected a number, 0 or more",
    ),
    (
        ServerConfig,
        "upstream: {rebalance: {min_conns: -1}}",
        "1: upstream.rebalance.min_conns: '-1': expected a whole number, 0 or more",
    ),
    (
        ServerConfig,
        "cluster: {gossip: {max_packet_size: 0}}",
        "1: cluster.gossip.max_packet_size: '0': expected a whole number, 1 or more",
    ),
    (ServerConfig, "cluster: {join: [a/b]}", "1: cluster.join: 'a/b': expected a list of host or host:port"),
    (
        AgentConfig,
        "connect: {url: 'node:8001'}",
        "1: connect.url: 'node:8001': expected a URL such as https://host or http://host:port",
    ),
    (AgentConfig, "connect: {url: ''}", "1: connect.url: '': expected a URL such as https://host or http://host:port"),
    (
        AgentConfig,
        "connect: {proxy_url: 'proxy:'}",
        "1: connect.proxy_url: 'proxy:': proxy URL with host 'proxy:': expected scheme://user:password@host:port",
    ),
    (
        AgentConfig,
        "connect: {proxy_url: 'ftp://proxy:1'}",
        "1: connect.proxy_url: 'ftp://proxy:1': proxy scheme 'ftp': "
        "it must be one of http, https, socks4, socks4a, socks5, socks5h",
    ),
    # values that must be there, or only once
    (AgentConfig, "listeners:\n  - addr: 1", "2: listeners[0].endpoint_id: missing; expected the name of an endpoint"),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a}",
        "2: listeners[0].addr: missing; expected a port, host:port or http(s)://host",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: .., addr: 1}]",
        "1: listeners[0].endpoint_id: '..': expected a name without /",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 0}]",
        "1: listeners[0].addr: '0': expected a port, host:port or http(s)://host",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 'http://a', protocol: tcp}]",
        "1: listeners[0].addr: 'http://a': expected a port or host:port",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, protocol: udp}]",
        "1: listeners[0].protocol: 'udp': expected one of http, tcp",
    ),
    (
        AgentConfig,
        "listeners: [{endpoint_id: a, addr: 1, timeout: 0}]",
        f"1: listeners[0].timeout: '0': expected {ABOVE_ZERO}",
    ),
    (
        AgentConfig,
        "listeners:\n- {endpoint_id: a, addr: 1}\n- {endpoint_id: a, addr: 1}",
        "3: listeners[1].endpoint_id: 'a at 1': is the same as listeners[0]; expected each once",
    ),
    (ForwardConfig, "ports: [{endpoint_id: a}]", "1: ports[0].addr: missing; expected a port or host:port"),
    (ForwardConfig, "ports: [{addr: 1}]", "1: ports[0].endpoint_id: missing; expected the name of an endpoint"),
    (
        ForwardConfig,
        "ports: [{addr: 1, endpoint_id: a}, {addr: 1, endpoint_id: b}]",
        "1: ports[1].addr: 'localhost:1': ports[0].addr listens there; expected a port of its own",
    ),
    (
        ServerConfig,
        "proxy: {bind_addr: '10.0.0.1:8001'}",
        "1: proxy.bind_addr: '10.0.0.1:8001': upstream.bind_addr listens there; expected a port of its own",
    ),
    (
        ServerConfig,
        "upstream: {tenants: [{auth: {hmac_secret_key: a}}]}",
        "1: upstream.tenants[0].id: missing; expected a name for the tenant",
    ),
    (
        ServerConfig,
        "upstream: {tenants: [{id: a}]}",
        "1: upstream.tenants[0].auth: missing; expected a key to verify the tenant's tokens with",
    ),
    # values that exclude each other
    (
        ServerConfig,
        "proxy: {access_log: {request_headers: {allow_list: [a], block_list: [b]}}}",
        "1: proxy.access_log.request_headers.block_list: 'b': stands beside allow_list; expected one of the two",
    ),
    (
        ServerConfig,
        "admin: {auth: {hmac_secret_key: 5ecret, jwks: {endpoint: 'http://a/b'}}}",
        "1: admin.auth.hmac_secret_key: '***': stands beside jwks.endpoint; expected one of the two",
    ),
    # keys and files
    (
        ServerConfig,
        "proxy: {auth: {jwks: {endpoint: a.json}}}",
        "1: proxy.auth.jwks.endpoint: 'a.json': expected an https://, http:// or file:/// URL",
    ),
    (
        ServerConfig,
        "proxy: {auth: {jwks: {endpoint: 'file:///no/where'}}}",
        f"1: proxy.auth.jwks.endpoint: '/no/where': {NO_FILE}; expected a file with a JSON Web Key Set",
    ),
    (
        ServerConfig,
        "proxy: {auth: {rsa_public_key: rsa.pem}}",
        "1: proxy.auth.rsa_public_key: 'rsa.pem': expected a public key in PEM",
    ),
    (
        ServerConfig,
        "proxy: {tls: {cert: /no/cert, key: /no/key}}",
        f"1: proxy.tls.cert: '/no/cert': {NO_FILE}; expected a file of PEM certificates",
    ),
    (
        ServerConfig,
        "proxy: {tls: {cert: /no/cert}}",
        "1: proxy.tls.cert: '/no/cert': stands alone; expected key as well",
    ),
    (ServerConfig, "proxy: {tls: {key: /no/key}}", "1: proxy.tls.key: '/no/key': stands alone; expected cert as well"),
    (
        ServerConfig,
        "proxy: {tls: {client_cas: /no/ca}}",
        "1: proxy.tls.client_cas: '/no/ca': is of no use without TLS; expected cert and key as well",
    ),
    (
        AgentConfig,
        "connect: {tls: {root_cas: /no/ca}}",
        f"1: connect.tls.root_cas: '/no/ca': {NO_FILE}; expected a file of PEM certificates",
    ),
    (
        AgentConfig,
        "connect: {tls: {cert: /no/cert}}",
        "1: connect.tls.cert: '/no/cert': stands alone; expected key as well",
    ),
    # what does not work yet
    (
        ServerConfig,
        "cluster:\n  join: [a, 'b:8003']",
        "2: cluster.join: 'a,b:8003': clusters are not supported in this version; expected none to join",
    ),
    (
        ServerConfig,
        "upstream:\n  tenants:\n  - {id: a, auth: {hmac_secret_key: 5ecret}}",
        "2: upstream.tenants: tenants are not supported in this version; expected none",
    ),
]

WRONG_WAYS_OUT = [
    ("proxy_url: http://a:1, proxy: {url: [http://b:1]}", "proxy_url: 'http://a:1': stands beside proxy.url"),
    ("proxy_url: direct, proxy: {pac: p.pac}", "proxy_url: 'direct': stands beside proxy.pac"),
    ("proxy: {url: ['http://a:1', 'http://b']}", "proxy.url: 'http://b': name the port of the proxy"),
    ("proxy: {url: {a: b}}", "proxy.url: a mapping: expected the URL of a proxy, or a list of them"),
    ("proxy: {url: ['']}", "proxy.url: '': expected the URL of a proxy, or a list of them"),
    ("proxy: {url: [direct], pac: 'http://p/p.pac'}", "proxy.pac: 'http://p/p.pac': stands beside url"),
    (
        "proxy: {pac: 'ftp://p/p.pac'}",
        "proxy.pac: 'ftp://p/p.pac': PAC location 'ftp://p/p.pac': it must be http",
    ),
    ("proxy: {pac_copy: p.pac}", "proxy.pac_copy: 'p.pac': is of no use without pac"),
    ("proxy: {on_refusal: retry}", "proxy.on_refusal: 'retry': expected one of stop, next"),
    ("proxy: {password: a}", "proxy.user: missing; expected the user whose password is given"),
    ("proxy: {user: a, password: b, password_env: C}", "proxy.password_env: 'C': stands beside password; expected one"),
    ("proxy: {user: a, password_file: no}", f"proxy.password_file: 'no': {NO_FILE}; expected a file with the secret"),
    ("proxy: {user: a, password_file: file.yaml}", "proxy.password_file: 'file.yaml': file.yaml can be read by others"),
    (
        "proxy: {user: a, password_env: NO_SUCH}",
        "proxy.password_env: 'NO_SUCH': the environment variable NO_SUCH is",
    ),
    (
        "proxy: {user: a, password_command: 'a \"b'}",
        "proxy.password_command: 'a \"b': expected a command, quoted",
    ),
    ("proxy: {headers: [X-Key 5ecret]}", "proxy.headers: '***': expected a list of `Name: value`"),
    ("proxy: {proxy_protocol: 3}", "proxy.proxy_protocol: '3': expected one of off, 1, 2"),
    (
        "proxy: {auth: {schemes: [basic, kerberos]}}",
        "proxy.auth.schemes: 'kerberos': expected a list of command",
    ),
    ("proxy: {auth: {schemes: [basic], forbidden: [basic]}}", "proxy.auth.forbidden: 'basic': leaves no scheme"),
    ("proxy: {auth: {login_hosts: ['a b']}}", "proxy.auth.login_hosts: 'a b': expected a list of host names"),
    (
        "proxy: {auth: {mutual: true, schemes: [basic, ntlm]}}",
        "proxy.auth.mutual: 'true': none of the schemes can do it; expected one of negotiate",
    ),
    ("proxy: {auth: {token: a, token_env: B}}", "proxy.auth.token_env: 'B': stands beside auth.token; expected one of"),
    ("proxy: {auth: {nt_hash_file: a}}", "proxy.auth.nt_hash_file: 'a': has no user; expected user as well"),
    ("proxy: {tls: {pin: 12}}", "proxy.tls.pin: '12': expected a SHA-256 in hexadecimal"),
    ("proxy: {tls: {min_version: 1.1}}", "proxy.tls.min_version: '1.1': expected one of 1.2, 1.3"),
    ("proxy: {tls: {cert: a}}", "proxy.tls.cert: 'a': stands alone; expected key as well"),
]


@pytest.mark.parametrize(("text", "line"), WRONG_WAYS_OUT, ids=[line[:60] for _, line in WRONG_WAYS_OUT])
def test_a_mistake_about_the_way_out_is_told_in_one_line(text: str, line: str, write: Callable[[str], str]) -> None:
    path = write(f"connect: {{url: 'http://node:1', {text}}}")
    Path(path).chmod(0o644)
    with pytest.raises(ConfigError) as raised:
        load(AgentConfig, path)
    said = str(raised.value)
    assert said.startswith(f"file.yaml:1: connect.{line}")
    assert said.isprintable()
    assert "5ecret" not in said


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_mistake_in_a_file_is_told_in_one_line(
    root: type[Section], text: str, line: str, write: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(root, write(text))
    assert str(raised.value) == f"file.yaml:{line}"


SECRETS = [
    (AgentConfig, "connect: {token: 5ecret and more}"),
    (AgentConfig, "connect: {token: [5ecret]}"),
    (AgentConfig, "connect: {token: 5ecret"),
    (AgentConfig, "connect:\n\ttoken: 5ecret"),
    (AgentConfig, "connect: {proxy_url: 'http://user:5ecret@proxy'}"),
    (AgentConfig, "connect: {proxy_url: 'http://user:5e->cret5ecret@proxy:1'}"),
    (AgentConfig, "connect: {url: 'ftp://user:5ecret@node'}"),
    (AgentConfig, "listeners: [{endpoint_id: a, addr: 'http://user:5ecret@host:x'}]"),
    (ServerConfig, "proxy: {auth: {hmac_secret_key: {a: 5ecret}}}"),
    (ServerConfig, f"proxy: {{auth: {{hmac_secret_key: {pem(EC_KEY)!r}}}}}".replace("'", '"')),
    (ServerConfig, "proxy: {auth: {rsa_public_key: '-----BEGIN PRIVATE KEY-----5ecret'}}"),
]


@pytest.mark.parametrize(("root", "text"), SECRETS)
def test_no_mistake_makes_a_secret_known(root: type[Section], text: str, write: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(root, write(text))
    assert "cret" not in str(raised.value).replace("hmac_secret_key", "").replace("expected a secret", "")
    assert "BEGIN" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_mistake_in_a_flag_or_a_variable_names_it() -> None:
    with pytest.raises(ConfigError, match=r"^--proxy.timeout: '5': expected a duration such as"):
        Draft(ServerConfig).read_flags({"--proxy.timeout": ["5"]})
    with pytest.raises(ConfigError, match=r"^TRIODUCT_PROXY_TIMEOUT: '5': expected a duration such as"):
        Draft(ServerConfig).read_environment({"TRIODUCT_PROXY_TIMEOUT": "5"})
    with pytest.raises(ConfigError, match=r"^--log.subsystems: '\"a': expected a list, separated by commas$"):
        Draft(ServerConfig).read_flags({"--log.subsystems": ['"a']})
    draft = Draft(ServerConfig)
    draft.read_flags({"--proxy.tls.cert": ["/no/cert"]})
    with pytest.raises(ConfigError, match=r"^--proxy.tls.cert: '/no/cert': stands alone; expected key as well$"):
        draft.finish()


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"log: \xff")
    control = tmp_path / "control.yaml"
    control.write_bytes(b"log: \x01")
    for path, problem in [
        (tmp_path / "none.yaml", "No such file or directory; expected a YAML file"),
        (tmp_path, "Is a directory; expected a YAML file"),
        (latin, "not UTF-8; expected a YAML file"),
        (control, "control characters; expected YAML"),
    ]:
        with pytest.raises(ConfigError) as raised:
            load(ServerConfig, str(path))
        assert str(raised.value) == f"{path}: {problem}"


def test_a_long_value_is_cut_and_stays_on_one_line(write: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(ServerConfig, write("proxy:\n  timeout: |\n    " + "long\n    " * 100))
    assert str(raised.value).endswith(r"long\nlong…': expected a duration such as 1m30s, 100ms or 0")
    assert len(str(raised.value)) < 250


# TLS --------------------------------------------------------------------------------------------------------


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake. Raises what either end raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    ends[0].write(b"x")
    assert ends[1].read(1) == b"x"  # in TLS 1.3 a client learns only now that its certificate is not wanted
    return ends


def test_a_port_without_a_certificate_speaks_no_tls() -> None:
    assert ServerTLS().server_context() is None


def test_a_port_and_a_client_of_theirs_agree(pki: Pki) -> None:
    server = ServerTLS(cert=str(pki.cert), key=str(pki.key)).server_context()
    assert server is not None
    client = ClientTLS(root_cas=str(pki.ca)).client_context()
    ends = handshake(server, client)
    assert ends[0].selected_alpn_protocol() == "http/1.1"
    assert server.minimum_version == client.minimum_version == ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "elsewhere.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ClientTLS().client_context())
    handshake(server, ClientTLS(insecure_skip_verify=True).client_context(), "elsewhere.example.com")
    handshake(server, ClientTLS(insecure_skip_verify=True, root_cas=str(pki.ca)).client_context(), "elsewhere")


def test_a_port_with_client_cas_wants_a_certificate(pki: Pki) -> None:
    server = ServerTLS(cert=str(pki.cert), key=str(pki.key), client_cas=str(pki.ca)).server_context()
    assert server is not None
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(server, ClientTLS(root_cas=str(pki.ca)).client_context())
    handshake(server, ClientTLS(root_cas=str(pki.ca), cert=str(pki.cert), key=str(pki.key)).client_context())


def test_certificates_and_keys_that_do_not_fit_are_told_apart(tmp_path: Path, pki: Pki) -> None:
    def private(key: rsa.RSAPrivateKey, encryption: BestAvailableEncryption | NoEncryption, name: str) -> str:
        path = tmp_path / name
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return str(path)

    other = private(RSA_KEY, NoEncryption(), "other.pem")
    locked = private(RSA_KEY, BestAvailableEncryption(b"5ecret"), "locked.pem")
    cert, key, ca = str(pki.cert), str(pki.key), str(pki.ca)
    for tls, problem in [
        (ServerTLS(cert=cert, key=other), f"key: '{other}': is of another certificate; expected the key of {cert}"),
        (ServerTLS(cert=cert, key=locked), f"key: '{locked}': has a passphrase"),
        (ServerTLS(cert=cert, key=ca), f"key: '{ca}': has no private key in it"),
        (ServerTLS(cert=key, key=key), f"cert: '{key}': has no certificate in it"),
        (ServerTLS(cert=cert, key=key, client_cas=key), f"client_cas: '{key}': has no certificate in it"),
        (ClientTLS(root_cas=key), f"root_cas: '{key}': has no certificate in it"),
        (ClientTLS(cert=cert, key=other), f"key: '{other}': is of another certificate; expected the key of {cert}"),
    ]:
        with pytest.raises(ConfigError) as raised:
            tls.verify()
        assert str(raised.value).startswith(problem)


def test_a_public_key_of_the_wrong_kind_is_refused(write: Callable[[str], str]) -> None:
    for name, key in (("rsa_public_key", EC_KEY), ("ecdsa_public_key", RSA_KEY)):
        with pytest.raises(ConfigError, match=f"^file.yaml:1: proxy.auth.{name}: '-----BEGIN PUBLIC KEY"):
            load(ServerConfig, write(yaml.safe_dump({"proxy": {"auth": {name: pem(key)}}}, default_flow_style=True)))


# The way out ------------------------------------------------------------------------------------------------


async def ways(*, host: str = "node.test", **proxy: object) -> list[Route]:
    """The routes of `connect.proxy` with these keys, in which __ stands for a dot."""
    config = ConnectConfig(url="http://node")
    for key, value in proxy.items():
        section, _, name = key.rpartition("__")
        setattr(getattr(config.proxy, section) if section else config.proxy, name, value)
    config.verify()
    config.proxy.verify()
    return await config.router().routes_to(host, 443)


def login_of(route: Route, index: int = 0) -> Login:
    login = route.hops[index].login
    assert login is not None
    return login


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_pikos_key_and_ours_mean_the_same_way_out() -> None:
    theirs = ConnectConfig(url="http://node", proxy_url="socks5h://a:1080 -> http://user:secret@b:3128").router()
    (route,) = await theirs.routes_to("node", 80)
    (ours,) = await ways(url=["socks5h://a:1080 -> http://user:secret@b:3128"])
    assert str(route) == str(ours) == "socks5h://a:1080 -> http://b:3128"
    assert (route.source, ours.source) == ("connect.proxy_url", "connect.proxy.url")


async def test_of_several_proxies_the_first_comes_first() -> None:
    assert [str(route) for route in await ways(url=["http://a:1", "direct", "socks5://b:2"])] == [
        "http://a:1",
        "direct",
        "socks5://b:2",
    ]


async def test_the_environment_decides_where_nothing_is_configured(
    no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [str(route) for route in await ways()] == ["direct"]
    monkeypatch.setenv("https_proxy", "http://e:1")
    assert [str(route) for route in await ways()] == ["http://e:1"]
    assert [str(route) for route in await ways(no_proxy=[".test"])] == ["direct"]
    assert [str(route) for route in await ways(url=["http://a:1"])] == ["http://a:1"]


def test_a_proxy_of_the_environment_that_is_none_is_found_before_anything_starts(
    no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://alice:5ecret@proxy")
    with pytest.raises(ConfigError, match=r"^environment variable https_proxy: name the port of the proxy") as raised:
        ConnectConfig(url="https://node").verify()
    assert "5ecret" not in str(raised.value)
    ConnectConfig(url="http://node").verify()  # which is not asked about
    ConnectConfig(url="https://node", proxy_url="direct").verify()


async def test_exceptions_are_reached_directly() -> None:
    assert [str(route) for route in await ways(url=["http://a:1"], no_proxy=["10.0.0.0/8", ".test"])] == ["direct"]
    assert [str(route) for route in await ways(url=["http://a:1"], no_proxy=["other"])] == ["http://a:1"]


async def test_a_pac_file_chooses(tmp_path: Path) -> None:
    script = tmp_path / "proxy.pac"
    script.write_text('function FindProxyForURL(url, host) { return "PROXY p:3128; SOCKS5 s:1080; DIRECT" }')
    routes = await ways(pac=str(script), user="alice", password="5ecret")
    assert [str(route) for route in routes] == ["http://p:3128", "socks5h://s:1080", "direct"]
    assert login_of(routes[0]).user == "alice"


async def test_who_we_are_holds_for_proxies_whose_url_names_nobody() -> None:
    routes = await ways(
        url=["http://a:1", "http://bob:pa55@b:1", "http://carol@c:1"],
        user="CORP\\alice",
        password="5ecret",
        auth__forbidden=["basic", "digest-md5"],
        auth__service_principal="HTTP/proxy.corp",
    )
    logins = [login_of(route) for route in routes]
    assert [login.user for login in logins] == ["CORP\\alice", "bob", "carol"]
    assert [login.password and login.password.read() for login in logins] == ["5ecret", "pa55", "5ecret"]
    for login in logins:  # what is forbidden is forbidden for all of them
        assert login.schemes == ("command", "negotiate", "digest-sha-256", "ntlm", "negotiate-ntlm", "bearer")
        assert login.service_principal == "HTTP/proxy.corp"


async def test_schemes_are_tried_in_the_order_that_is_given() -> None:
    (route,) = await ways(url=["http://a:1"], auth__schemes=["basic", "ntlm", "negotiate"], auth__forbidden=["ntlm"])
    assert login_of(route).schemes == ("basic", "negotiate")


async def test_secrets_come_from_where_they_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("of a file\n")
    file.chmod(0o600)
    monkeypatch.setenv("PROXY_PASSWORD", "of a variable")
    for key, value, expected in [
        ("password", "plain", "plain"),
        ("password_file", str(file), "of a file"),
        ("password_env", "PROXY_PASSWORD", "of a variable"),
        ("password_command", "echo 'of a' command", "of a command"),
    ]:
        (route,) = await ways(url=["http://a:1"], user="alice", **{key: value})
        password = login_of(route).password
        assert password is not None
        assert password.read() == expected
    (route,) = await ways(
        url=["http://a:1"],
        user="alice",
        auth__nt_hash_file=str(file),
        auth__token="t0ken",
        auth__command="echo Basic abc",
    )
    login = login_of(route)
    assert [secret and secret.read() for secret in (login.nt_hash, login.token, login.command)] == [
        "of a file",
        "t0ken",
        "Basic abc",
    ]


async def test_a_password_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old")
    file.chmod(0o600)
    (route,) = await ways(url=["http://a:1"], user="alice", password_file=str(file))
    password = login_of(route).password
    assert password is not None
    file.write_text("new")
    assert password.read() == "new"


async def test_every_proxy_gets_the_fields_and_the_tls_that_are_configured(pki: Pki) -> None:
    pin = "ab" * 32
    (route,) = await ways(
        url=["https://a:1"],
        headers=["X-Site: berlin", "X-Empty:"],
        proxy_protocol="2",
        tls__root_cas=str(pki.ca),
        tls__cert=str(pki.cert),
        tls__key=str(pki.key),
        tls__pin=pin,
        tls__min_version="1.3",
    )
    (hop,) = route.hops
    assert hop.headers == (("X-Site", "berlin"), ("X-Empty", ""))
    assert (hop.proxy_protocol, hop.pin) == (2, pin)
    assert hop.tls is not None
    assert hop.tls.minimum_version == ssl.TLSVersion.TLSv1_3
    (usual,) = await ways(url=["https://a:1"])
    assert usual.hops[0].tls is None


def test_what_is_shown_of_the_way_out_has_no_secret(write: Callable[[str], str]) -> None:
    config = load(
        AgentConfig,
        write("""
            connect:
              url: http://node
              proxy:
                url: ["http://alice:5ecret@a:1 -> http://b:2", "socks5://c:1080"]
                user: bob
                password: 5ecret
                headers: ["X-Key: 5ecret"]
                auth: {token: 5ecret, schemes: [NTLM, basic]}
            """),
    )
    text = to_yaml(config)
    assert "5ecret" not in text + repr(config)
    plain = yaml.safe_load(text)["connect"]["proxy"]
    assert plain["url"] == ["http://alice:***@a:1 -> http://b:2", "socks5://c:1080"]
    assert (plain["password"], plain["headers"], plain["auth"]["token"]) == (MASK, [MASK], MASK)
    assert plain["auth"]["schemes"] == ["ntlm", "basic"]


@pytest.mark.parametrize(("text", "expected"), [("http://a:1", ["http://a:1"]), ("''", []), ("[direct]", ["direct"])])
def test_one_proxy_needs_no_list(text: str, expected: list[str], write: Callable[[str], str]) -> None:
    config = load(AgentConfig, write(f"connect: {{url: 'http://node', proxy: {{url: {text}}}}}"))
    assert isinstance(config, AgentConfig)
    assert config.connect.proxy.url == expected


def test_the_variable_of_both_keys_is_that_of_the_list() -> None:
    draft = Draft(AgentConfig)
    draft.read_environment({"TRIODUCT_CONNECT_PROXY_URL": 'http://a:1,"http://u:p,q@b:1"'})
    assert draft.finish().connect.proxy.url == ["http://a:1", "http://u:p,q@b:1"]
    assert draft.config.connect.proxy_url == ""


# Any text ---------------------------------------------------------------------------------------------------


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert math.isfinite(seconds)


@given(st.sampled_from(["proxy", "connect", "listeners", "log"]), st.text(max_size=60))
def test_any_text_is_a_configuration_or_one_line_about_what_it_is_not(key: str, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".yaml") as file:
        file.write(f"{key}: {text}".encode("utf-8", "replace").decode())
        file.flush()
        said = ""
        try:
            load(AgentConfig, file.name, {})
        except ConfigError as error:
            said = str(error)
    assert said.isprintable()
