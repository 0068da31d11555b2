"""Everything about a node."""

from __future__ import annotations

import math
import os
import textwrap

import pytest

from engine.config import Draft, Section, ServerConfig, knobs, shown, to_yaml
from engine.config.auth import NAMES
from engine.config.server import WITHOUT_EFFECT
from engine.log import VALUE_BYTES
from engine.wire.http1 import MAX_HEAD
from tests.config.reading import EC_KEY, RSA_KEY, Write, load, mistake, pem, unchanged
from tests.conftest import Pki

LIMITS = ("connections", "connection_rate")
TRAFFIC = [f"{of}{what}" for of in ("", "principal_", "tenant_") for what in ("requests", "bytes")]
MEMORY = ("principal_memory", "tenant_memory")


def test_a_server_file_may_hold_every_key_of_piko(write: Write, pki: Pki) -> None:
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
        "proxy.public_url",  # ours
        "proxy.tenant_hosts",  # ours
        "proxy.allowed_origins",  # ours
        "proxy.trusted_proxies",  # ours
        "proxy.trusted_headers",  # ours
        "proxy.proxy_protocol",  # ours
        "proxy.http2",  # ours
        "proxy.tcp_without_token",  # ours
        "proxy.resume",  # ours
        *(f"proxy.retry.{name}" for name in ("attempts", "causes", "methods", "budget")),  # ours
        *(f"proxy.limits.{name}" for name in (*LIMITS, *TRAFFIC, *MEMORY)),  # ours
        "proxy.access_log.disable",
        "proxy.access_log.request_headers.block_list",
        "proxy.access_log.response_headers.allow_list",
        *(f"proxy.auth.{name}_file" for name in NAMES),  # ours
        "proxy.auth.revoked_file",  # ours
        "proxy.auth.jwks.endpoint",
        "proxy.tls.certificates",  # ours
        "proxy.tenants",
        "upstream.sharing",  # ours
        "upstream.resume",  # ours
        *(f"upstream.limits.{name}" for name in (*LIMITS, "sessions", "streams", "registrations", *MEMORY)),  # ours
        *(f"upstream.auth.{name}_file" for name in NAMES),  # ours
        "upstream.auth.revoked_file",  # ours
        "upstream.auth.jwks.endpoint",
        "upstream.tls.certificates",  # ours
        "upstream.tenants",
        "admin.hosts",  # ours
        "admin.insecure",  # ours
        *(f"admin.auth.{name}_file" for name in NAMES),  # ours
        "admin.auth.revoked_file",  # ours
        "admin.auth.jwks.endpoint",
        "admin.tls.certificates",  # ours
        *(f"cluster.{name}" for name in ("store", "store_password_file")),  # ours, as all that follow but the last
        *(f"cluster.store_tls.{name}" for name in ("cert", "key", "root_cas", "insecure_skip_verify")),
        *(f"cluster.sentinel.{name}" for name in ("user", "password_file")),
        *(f"cluster.{name}" for name in ("name", "secret", "secret_file", "bind_addr", "advertise_addr")),
        "cluster.allowed_networks",
        *(f"cluster.tls.{name}" for name in ("cert", "key", "client_cas")),
        *(f"cluster.tls.client.{name}" for name in ("cert", "key", "root_cas", "insecure_skip_verify", "server_name")),
        "cluster.tls.certificates",
        "cluster.join",
        *(f"tracing.{name}" for name in ("url", "headers", "headers_file", "sample", "rate", "service_name")),  # ours
        "workers",  # ours
    ]


DOMAIN_WANTED = (
    "expected a domain and an endpoint: shop.example.com=shop, or in a file {shop.example.com: shop}; *. for any label"
)
WRONG = [
    (ServerConfig, "workers: 0", "1: workers: '0': expected auto, or a whole number from 1 to 256"),
    (ServerConfig, "workers: many", "1: workers: 'many': expected auto, or a whole number from 1 to 256"),
    (
        ServerConfig,
        "proxy: {trusted_proxies: [10.0.0.0/8, 10.0.0.1/8]}",
        "1: proxy.trusted_proxies: '10.0.0.1/8': expected a list of networks such as 10.0.0.0/8, and of addresses",
    ),
    (
        ServerConfig,
        "proxy: {proxy_protocol: true}",
        "1: proxy.proxy_protocol: 'true': nobody is trusted to say who calls; expected the networks of trusted_proxies "
        "beside it",
    ),
    (
        ServerConfig,
        "proxy: {allowed_origins: [app.example.com]}",
        "1: proxy.allowed_origins: 'app.example.com': expected a list of https://host or http://host:port, or *",
    ),
    (
        ServerConfig,
        "upstream: {tenants: [{auth: {hmac_secret_key: 5ecret-5ecret-5ecret-5ecret-5ecret}}]}",
        "1: upstream.tenants[0].id: missing; expected the tenant's name",
    ),
    (
        ServerConfig,
        "upstream: {tenants: [{id: a}]}",
        "1: upstream.tenants[0].auth: missing; expected a key to verify the tenant's tokens with",
    ),
    (
        ServerConfig,
        "admin:\n  bind_addr: ':8002'",
        "2: admin.bind_addr: ':8002': would tell other machines which endpoints there are, and ask them for nothing; "
        "expected an address of this machine alone (127.0.0.1:8002), or admin.auth (tokens) or admin.tls.client_cas "
        "beside it, or admin.insecure: true",
    ),
    (
        ServerConfig,
        "cluster:\n  join: [a, 'b:8003']",
        "2: cluster.join: 'a,b:8003': nodes do not gossip; expected cluster.store instead",
    ),
    (
        ServerConfig,
        "cluster: {store: 'redis://a', secret: 5ecret-5ecret-5ecret-5ecret-5ecret,\n sentinel: {user: node}}",
        "2: cluster.sentinel.user: 'node': cluster.store names no sentinels; "
        "expected redis+sentinel://HOST:PORT/SERVICE there",
    ),
    (
        ServerConfig,
        f"upstream: {{tenants: [{{id: {'a' * 256}}}]}}",
        f"1: upstream.tenants[0].id: '{'a' * 79}…': expected at most 255 bytes, and no blanks around it",
    ),
    (
        ServerConfig,
        "proxy:\n  tenant_hosts: '{endpoint}.{tenant}.example.com'",
        "2: proxy.tenant_hosts: '{endpoint}.{tenant}.example.com': names tenants, and there are none; expected "
        "upstream.tenants beside it",
    ),
    (
        ServerConfig,
        "proxy:\n  tenant_hosts: '{endpoint}-{tenant}.example.com'",
        "2: proxy.tenant_hosts: '{endpoint}-{tenant}.example.com': expected a host name with two places, as "
        "{endpoint}.{tenant}.example.com",
    ),
    (
        ServerConfig,
        "proxy: {tcp: {22: acme/shell}}",
        "1: proxy.tcp: '22=acme/shell': there is no tenant 'acme'; expected one of upstream.tenants in front of the /",
    ),
    (
        ServerConfig,
        "proxy: {tcp: {22: shell}}\n"
        "upstream: {tenants: [{id: a, auth: {hmac_secret_key: 5ecret-5ecret-5ecret-5ecret-5ecret}}]}",
        "1: proxy.tcp: '22=shell': names no tenant, and each endpoint has one here; expected TENANT/ENDPOINT",
    ),
    (
        ServerConfig,
        "proxy: {domains: {shop.test: acme/shop}}",
        "1: proxy.domains: 'shop.test=acme/shop': there is no tenant 'acme'; expected one of upstream.tenants in front "
        "of the /",
    ),
    (
        ServerConfig,
        "proxy: {domains: {shop.test: shop, SHOP.test.: web}}",
        "1: proxy.domains: 'shop.test': has two endpoints; expected each domain once",
    ),
    (
        ServerConfig,
        "proxy: {sticky: {shop: address}}",
        "1: proxy.sticky: 'shop=address': expected an endpoint or a pattern, and cookie or client: shop=cookie, or in "
        "a file {shop: cookie}",
    ),
    (
        ServerConfig,
        "proxy: {sticky: ['shop=cookie', 'shop=client']}",
        "1: proxy.sticky: 'shop': is there twice; expected each endpoint once",
    ),
    *(
        (
            ServerConfig,
            f"proxy: {{domains: {{'{domain}': shop}}}}",
            f"1: proxy.domains: '{domain}=shop': {DOMAIN_WANTED}",
        )
        for domain in ("shop", "http://shop.test", "*.*.test", "shop.test:80", "10.0.0.1", "a b.test", "*")
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_what_does_not_work_yet_is_refused(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


@pytest.mark.parametrize(
    "url",
    ["tunnel.example.com", "https://*", "https://a.*.com", "https://a/b", "ws://a", "https://a:0", "https://ü.de"],
)
def test_a_public_url_has_no_path_and_a_wildcard_only_in_front(url: str, write: Write) -> None:
    expected = "expected a URL without a path, such as https://tunnel.example.com or https://*.example.com"
    said = f"file.yaml:1: proxy.public_url: '{url}': {expected}"
    assert mistake(ServerConfig, write(f"proxy: {{public_url: '{url}'}}")) == said


TCP_PORT = "a port from 0 to 65535, or host:port, and an endpoint: 5432=database, or in a file {5432: database}"


@pytest.mark.parametrize(
    ("said", "ports"),
    [
        ("{5432: database, '127.0.0.1:6379': cache}", [(":5432", "database"), ("127.0.0.1:6379", "cache")]),
        ("{'[::1]:5432': a=b}", [("[::1]:5432", "a=b")]),
        ("{}", []),
    ],
)
def test_a_tcp_port_leads_to_an_endpoint(said: str, ports: list[tuple[str, str]], write: Write) -> None:
    config = load(ServerConfig, write(f"proxy: {{tcp: {said}}}"))
    assert isinstance(config, ServerConfig)
    assert config.proxy.tcp_ports() == ports
    assert load(ServerConfig, write(to_yaml(config))) == config


def test_tcp_ports_come_by_flags_and_by_the_environment_too() -> None:
    draft = Draft(ServerConfig)
    draft.read_environment({"TRIODUCT_PROXY_TCP": "22=shell"})
    assert draft.finish().proxy.tcp_ports() == [(":22", "shell")]
    draft.read_flags({"--proxy.tcp": ["5432=database", "localhost:6379=cache,7=echo"]})
    assert draft.finish().proxy.tcp == [("5432", "database"), ("localhost:6379", "cache"), ("7", "echo")]


def test_a_tcp_port_alone_is_one_of_the_proxy_ports_host() -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--proxy.bind-addr": ["[::1]:8000"], "--proxy.tcp": ["5432=database,:22=shell"]})
    assert draft.finish().proxy.tcp_ports() == [("[::1]:5432", "database"), (":22", "shell")]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("5432", f"'5432': expected {TCP_PORT}"),
        ("{70000: database}", f"'70000=database': expected {TCP_PORT}"),
        ("{example: database}", f"'example=database': expected {TCP_PORT}"),
        ("{5432: }", f"'5432=': expected {TCP_PORT}"),
        ("{5432: a/}", f"'5432=a/': expected {TCP_PORT}"),
        ("{5432: /a}", f"'5432=/a': expected {TCP_PORT}"),
        ("{5432: {endpoint: a}}", f"a mapping: expected {TCP_PORT}"),
        ("{8001: a}", "':8001': upstream.bind_addr is the same port; expected another one"),
        ("{5432: a, '10.0.0.1:5432': b}", "'10.0.0.1:5432': proxy.tcp is the same port; expected another one"),
    ],
)
def test_a_wrong_tcp_port_is_told(said: str, problem: str, write: Write) -> None:
    assert mistake(ServerConfig, write(f"proxy: {{tcp: {said}}}")) == f"file.yaml:1: proxy.tcp: {problem}"


@pytest.mark.parametrize(
    ("rest", "asked"),
    [
        ("auth: {hmac_secret_key: 5ecret-5ecret-5ecret-5ecret-5ecret}", "a token (proxy.auth)"),
        ("tls: {cert: CERT, key: KEY, client_cas: CA}", "a certificate (proxy.tls.client_cas)"),
    ],
)
def test_a_tcp_port_past_an_asking_proxy_port_has_to_be_meant(rest: str, asked: str, write: Write, pki: Pki) -> None:
    for name, path in {"CERT": pki.cert, "KEY": pki.key, "CA": pki.ca}.items():
        rest = rest.replace(name, str(path))
    assert mistake(ServerConfig, write(f"proxy: {{tcp: {{5432: database}}, {rest}}}")) == (
        f"file.yaml:1: proxy.tcp: '5432=database': other clients need {asked}, "
        "which TCP clients cannot present; expected proxy.tcp_without_token: true if everybody may connect, "
        "or `trioduct forward` beside the client, which has a token"
    )
    load(ServerConfig, write(f"proxy: {{tcp: {{5432: database}}, tcp_without_token: true, {rest}}}"))


def test_a_tcp_port_that_is_open_to_everybody_is_told_unless_it_is_meant() -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--proxy.tcp": ["5432=database,127.0.0.1:22=shell"], **AT_HOME})
    (told,) = draft.warnings()
    assert told == (
        "proxy.tcp :5432=database: anybody may connect, because TCP clients cannot present a token; "
        "if that is intended, set proxy.tcp_without_token"
    )
    assert len(told) <= VALUE_BYTES
    draft.read_flags({"--proxy.tcp-without-token": ["true"]})
    assert draft.warnings() == []


def test_a_node_draws_its_name_once() -> None:
    config = ServerConfig()
    config.cluster.node_id_prefix = "pod-"
    name = config.cluster.choose_node_id()
    assert name.startswith("pod-")
    assert len(name) == len("pod-") + 7
    assert config.cluster.choose_node_id() == name


AT_HOME = {"--upstream.bind-addr": ["127.0.0.1:8001"]}


def test_keys_that_a_lonely_node_does_not_use_are_named_in_one_warning(write: Write) -> None:
    draft = Draft(ServerConfig)
    draft.read_flags(AT_HOME)
    draft.read_flags({"--cluster.gossip.interval": ["1s"], "--cluster.join-timeout": ["1m"]})  # a minute is the default
    draft.read_file(write("cluster: {gossip: {bind_addr: ':18003'}}\nupstream: {rebalance: {threshold: 0.2}}"))
    draft.finish()
    assert draft.warnings() == [
        "upstream.rebalance.threshold, cluster.gossip.bind_addr, cluster.gossip.interval have no effect: "
        "nodes do not gossip, see cluster.store"
    ]


def test_all_that_has_no_effect_is_declared() -> None:
    keys = [knob.key for knob in knobs(ServerConfig)]
    for key in WITHOUT_EFFECT:
        assert any(known.startswith(key) if key.endswith(".") else known == key for known in keys), key


@pytest.mark.parametrize(("said", "limit"), [("8192", 8192), ("32768", 32768), ("32769", 32768), ("1048576", 32768)])
def test_a_request_head_is_bounded_whatever_is_said(said: str, limit: int) -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--proxy.http.max-header-bytes": [said], **AT_HOME})
    assert draft.config.proxy.http.head_limit == limit
    too_much = [f"proxy.http.max_header_bytes {said}: the maximum is 32768 bytes"]
    assert draft.warnings() == (too_much if int(said) > limit else [])


def test_a_bound_of_zero_for_heads_is_the_default_and_no_reason_to_warn() -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--proxy.http.max-header-bytes": ["0"]})
    assert draft.config == ServerConfig()
    assert draft.config.proxy.http.head_limit == MAX_HEAD
    draft.read_flags(AT_HOME)
    assert draft.warnings() == []


@pytest.mark.parametrize(
    "text",
    [
        "{bind_addr: '127.0.0.1:8002'}",
        "{bind_addr: '[::1]:8002'}",
        "{bind_addr: 'localhost:8002'}",
        "{bind_addr: ':8002', insecure: true}",
        "{bind_addr: ':8002', auth: {hmac_secret_key: 5ecret-5ecret-5ecret-5ecret-5ecret}}",
        "{bind_addr: ':8002', auth: {jwks: {endpoint: 'https://a/keys'}}}",
        "{bind_addr: ':8002', tls: {cert: CERT, key: KEY, client_cas: CA}}",
    ],
)
def test_an_admin_port_is_for_this_machine_or_asks_who_is_there_or_is_said_to_be_open(
    text: str, write: Write, pki: Pki
) -> None:
    for name, path in (("CERT", pki.cert), ("KEY", pki.key), ("CA", pki.ca)):
        text = text.replace(name, str(path))
    load(ServerConfig, write(f"admin: {text}"))


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::]", "10.0.0.1", "admin.example.com"])
def test_an_admin_port_that_is_open_to_others_and_asks_for_nothing_is_refused(
    host: str, write: Write, pki: Pki
) -> None:
    said = mistake(
        ServerConfig, write(f"admin: {{bind_addr: '{host}:8002', tls: {{cert: {pki.cert}, key: {pki.key}}}}}")
    )
    assert "admin.insecure: true" in said


@pytest.mark.parametrize(
    ("address", "open_to_others"),
    [
        (":8001", True),
        ("0.0.0.0:8001", True),
        ("[::]:8001", True),
        ("10.0.0.1:8001", True),
        ("node.example.com:8001", True),
        ("127.0.0.1:8001", False),
        ("127.8.0.1:8001", False),
        ("[::1]:8001", False),
        ("localhost:8001", False),
    ],
)
def test_an_upstream_port_that_is_open_to_everybody_is_told(address: str, open_to_others: bool, pki: Pki) -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--upstream.bind-addr": [address]})
    told = (
        f"upstream.bind_addr {address}: any agent may register any endpoint there; "
        "set upstream.auth.hmac_secret_key, and give agents a token: `trioduct token --help`"
    )
    assert draft.warnings() == ([told] if open_to_others else [])
    assert len(told) <= VALUE_BYTES  # or the log would cut it
    for flag, value in {
        "--upstream.auth.hmac-secret-key": "5ecret",
        "--upstream.auth.jwks.endpoint": "http://a/keys",
        "--upstream.tls.client-cas": str(pki.ca),
    }.items():
        asking = Draft(ServerConfig)
        asking.read_flags({"--upstream.bind-addr": [address], flag: [value]})
        assert asking.warnings() == []


def test_auto_is_a_worker_for_each_core_that_the_process_may_use(write: Write) -> None:
    config = load(ServerConfig, write("workers: auto"))
    assert isinstance(config, ServerConfig)
    assert config.worker_count() == len(os.sched_getaffinity(0))
    assert "workers: auto" in to_yaml(config)
    assert ServerConfig().worker_count() == 1
