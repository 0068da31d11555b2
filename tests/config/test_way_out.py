"""The way out, through proxies."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import yaml

from engine.config import MASK, AgentConfig, to_yaml
from engine.errors import ConfigError
from tests.config.reading import NO_FILE, Write, load
from tests.config.ways import login_of, ways
from tests.conftest import Pki

WRONG_WAYS_OUT = [
    ("proxy_url: http://a:1, proxy: {url: [http://b:1]}", "proxy_url: 'http://a:1': set as well as proxy.url"),
    ("proxy_url: direct, proxy: {pac: p.pac}", "proxy_url: 'direct': set as well as proxy.pac"),
    ("proxy: {url: ['http://a:1', 'http://b']}", "proxy.url: 'http://b': name the port of the proxy"),
    ("proxy: {url: {a: b}}", "proxy.url: a mapping: expected the URL of a proxy, or a list of them"),
    ("proxy: {url: ['']}", "proxy.url: '': expected the URL of a proxy, or a list of them"),
    ("proxy: {url: [direct], pac: 'http://p/p.pac'}", "proxy.pac: 'http://p/p.pac': set as well as url"),
    (
        "proxy: {pac: 'ftp://p/p.pac'}",
        "proxy.pac: 'ftp://p/p.pac': PAC location 'ftp://p/p.pac': it must be http",
    ),
    ("proxy: {pac_copy: p.pac}", "proxy.pac_copy: 'p.pac': needs pac"),
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
    (
        "proxy_url: 'http://u:***@a:1'",
        "proxy_url: *** is what is printed instead of a secret; expected the secret itself",
    ),
    (
        "proxy: {url: ['http://u:***@a:1']}",
        "proxy.url: *** is what is printed instead of a secret; expected the secret",
    ),
    ("proxy: {user: u, password: '***'}", "proxy.password: *** is what is printed instead of a secret"),
    ("token: '***'", "token: *** is what is printed instead of a secret"),
    ("proxy: {headers: [X-Key 5ecret]}", "proxy.headers: '***': expected a list of `Name: value`"),
    ("proxy: {proxy_protocol: 3}", "proxy.proxy_protocol: '3': expected one of off, 1, 2"),
    (
        "proxy: {auth: {schemes: [basic, kerberos]}}",
        "proxy.auth.schemes: 'kerberos': expected a list of command",
    ),
    (
        "proxy: {auth: {schemes: [basic], forbidden: [basic]}}",
        "proxy.auth.forbidden: 'basic': leaves no authentication scheme",
    ),
    ("proxy: {auth: {login_hosts: ['a b']}}", "proxy.auth.login_hosts: 'a b': expected a list of host names"),
    (
        "proxy: {auth: {mutual: true, schemes: [basic, ntlm]}}",
        "proxy.auth.mutual: 'true': not possible with these schemes; expected one of negotiate",
    ),
    ("proxy: {auth: {token: a, token_env: B}}", "proxy.auth.token_env: 'B': stands beside auth.token; expected one of"),
    ("proxy: {auth: {nt_hash_file: a}}", "proxy.auth.nt_hash_file: 'a': needs a user; expected user as well"),
    ("proxy: {tls: {pin: 12}}", "proxy.tls.pin: '12': expected a SHA-256 in hexadecimal"),
    ("proxy: {tls: {min_version: 1.1}}", "proxy.tls.min_version: '1.1': expected one of 1.2, 1.3"),
    ("proxy: {tls: {cert: a}}", "proxy.tls.cert: 'a': set without a key; expected key as well"),
]


@pytest.mark.parametrize(("text", "line"), WRONG_WAYS_OUT, ids=[line[:60] for _, line in WRONG_WAYS_OUT])
def test_a_mistake_about_the_way_out_is_told_in_one_line(text: str, line: str, write: Write) -> None:
    path = write(f"connect: {{url: 'http://node:1', {text}}}")
    Path(path).chmod(0o644)
    with pytest.raises(ConfigError) as raised:
        load(AgentConfig, path)
    said = str(raised.value)
    assert said.startswith(f"file.yaml:1: connect.{line}")
    assert said.isprintable()
    assert "5ecret" not in said


async def test_of_several_proxies_the_first_comes_first() -> None:
    assert [str(route) for route in await ways(url=["http://a:1", "direct", "socks5://b:2"])] == [
        "http://a:1",
        "direct",
        "socks5://b:2",
    ]


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


def test_what_is_shown_of_the_way_out_has_no_secret(write: Write) -> None:
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
def test_one_proxy_needs_no_list(text: str, expected: list[str], write: Write) -> None:
    config = load(AgentConfig, write(f"connect: {{url: 'http://node', proxy: {{url: {text}}}}}"))
    assert isinstance(config, AgentConfig)
    assert config.connect.proxy.url == expected
