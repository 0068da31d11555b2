"""How values are taken from environment, flags and file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import AgentConfig, Draft, ForwardConfig, Section, ServerConfig, expand
from engine.errors import ConfigError
from tests.config.reading import Write, load, mistake


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "proxy:\n", "proxy: ~\nupstream: {auth: null, bind_addr: }"]
)
def test_what_a_file_leaves_out_or_null_keeps_its_default(text: str, write: Write) -> None:
    assert load(ServerConfig, write(text)) == ServerConfig()


def test_anchors_and_merges_work(write: Write) -> None:
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


def test_a_file_takes_variables_only_when_told_to(write: Write) -> None:
    path = write("connect: {token: $TOKEN}\nlog: {level: '${LEVEL:warn}'}")
    with pytest.raises(ConfigError, match=r"file.yaml:1: connect.token"):
        load(AgentConfig, path)
    config = load(AgentConfig, path, {"TOKEN": "t0ken"})
    assert isinstance(config, AgentConfig)
    assert (config.connect.token, config.log.level) == ("t0ken", "warn")


@pytest.mark.parametrize(
    ("root", "text", "key"),
    [
        (ServerConfig, "upstream: {auth: {hmac_secret_key: '${SECRET}'}}", "upstream.auth.hmac_secret_key"),
        (ServerConfig, "upstream:\n  auth:\n    hmac_secret_key: ${SECRET}", "upstream.auth.hmac_secret_key"),
        (ServerConfig, "a: &a {hmac_secret_key: $SECRET}\nproxy: {auth: {<<: *a}}", "proxy.auth.hmac_secret_key"),
        (AgentConfig, "connect: {url: 'http://a', token: $SECRET}", "connect.token"),
        (AgentConfig, "connect: {proxy_url: 'http://user:${SECRET}@a'}", "connect.proxy_url"),
        (AgentConfig, "connect: {proxy: {headers: ['X-Key: ${SECRET}']}}", "connect.proxy.headers"),
    ],
)
def test_a_secret_whose_variable_is_not_set_is_refused(root: type[Section], text: str, key: str, write: Write) -> None:
    path = write(text)
    for environ in ({}, {"SECRET": ""}):
        with pytest.raises(ConfigError, match=rf"^file.yaml:\d: {key}: the variable 'SECRET' is not set; expected "):
            load(root, path, environ)


@pytest.mark.parametrize("text", ["$MISSING\nlog: {level: warn}", "log: {level: warn}\nconnect: {token: '${TOKEN:}'}"])
def test_what_is_no_secret_may_be_empty_and_a_secret_too_if_that_is_said(text: str, write: Write) -> None:
    assert load(AgentConfig, write(text), {}).log.level == "warn"  # type: ignore[attr-defined]


@pytest.mark.parametrize("secret", ["${SECRET}", "${SECRET:change-me-to-thirty-two-bytes}", "a${b", "$SOME_SECRET"])
def test_a_secret_in_which_nothing_was_expanded_is_refused(secret: str, write: Write) -> None:
    path = write(f"upstream: {{auth: {{hmac_secret_key: '{secret}'}}}}")
    assert mistake(ServerConfig, path).startswith(
        "file.yaml:1: upstream.auth.hmac_secret_key: a variable's name stands in"
    )
    draft = Draft(AgentConfig)
    with pytest.raises(ConfigError, match=r"^TRIODUCT_CONNECT_TOKEN: a variable's name stands in a secret"):
        draft.read_environment({"TRIODUCT_CONNECT_TOKEN": secret})
    with pytest.raises(ConfigError, match=r"^--connect.proxy-url: a variable's name stands in a secret"):
        draft.read_flags({"--connect.proxy-url": ["http://user:${SECRET}@proxy:3128"]})


def test_a_secret_that_is_given_and_empty_is_refused() -> None:
    draft = Draft(ServerConfig)
    with pytest.raises(ConfigError, match=r"^TRIODUCT_UPSTREAM_AUTH_HMAC_SECRET_KEY: empty; expected the secret"):
        draft.read_environment({"TRIODUCT_UPSTREAM_AUTH_HMAC_SECRET_KEY": ""})
    with pytest.raises(ConfigError, match=r"^--upstream.auth.hmac-secret-key: empty; expected the secret"):
        draft.read_flags({"--upstream.auth.hmac-secret-key": [""]})


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


def test_the_file_wins_over_flags_and_flags_over_the_environment(write: Write) -> None:
    draft = Draft(ServerConfig)
    environ = {"TRIODUCT_PROXY_BIND_ADDR": ":1", "TRIODUCT_UPSTREAM_BIND_ADDR": ":2", "TRIODUCT_ADMIN_BIND_ADDR": ":3"}
    draft.read_environment(environ | {"TRIODUCT_LOG_SUBSYSTEMS": "a,b", "TRIODUCT_LOG_LEVEL": ""})
    draft.read_flags({"--upstream.bind-addr": [":4"], "--admin.bind-addr": [":5", ":6"]})
    draft.read_file(write("admin: {bind_addr: 'localhost:7'}"))
    config = draft.finish()
    assert [address for _, address in config.listens()] == [":1", ":4", "localhost:7"]
    assert (config.log.subsystems, config.log.level) == (["a", "b"], "info")


def test_a_list_in_a_flag_has_commas_or_repetitions_or_both() -> None:
    draft = Draft(ServerConfig)
    draft.read_flags({"--log.subsystems": ["a,b", '"c,d"', ""]})
    assert draft.config.log.subsystems == ["a", "b", "c,d"]


ESCAPES = "in double quotes YAML takes a backslash for the beginning of an escape"
WRONG = [
    (ServerConfig, "a: b: c", "1: mapping values are not allowed in this context; expected YAML"),
    (ServerConfig, "\n- proxy", "2: expected a mapping of keys"),
    (ServerConfig, "proxy: *nobody", "1: found undefined alias; expected YAML"),
    (ServerConfig, "proxy:\n\tbind_addr: x", "2: a tab where YAML indents; expected spaces"),
    (AgentConfig, r'connect: {proxy: {user: "CORP\kim"}}', f"1: {ESCAPES}, and this is none; expected single quotes"),
    (
        AgentConfig,
        r'connect: {proxy: {user: "CORP\xavier"}}',
        f"1: {ESCAPES}, and this is none; expected single quotes",
    ),
    (
        AgentConfig,
        r'connect: {proxy: {user: "CORP\alice"}}',
        rf"1: connect.proxy.user: 'CORP\x07lice': expected text on one line; {ESCAPES}: use single quotes",
    ),
    (ServerConfig, "a: 1\n---\nb: 2", "2: but found another document; expected YAML"),
    (ServerConfig, "log: {level: info}\nlog: {}", "2: log: already set on line 1"),
    (ServerConfig, "? [a]\n: b", "1: a mapping: expected a name for each key"),
    (ServerConfig, "\nproxy:\n  bind_adr: x", "3: proxy.bind_adr: unknown key; did you mean bind_addr?"),
    (ServerConfig, "proxy: {bind-addr: x}", "1: proxy.bind-addr: unknown key; did you mean bind_addr?"),
    (
        ServerConfig,
        "xyz: 1",
        "1: xyz: unknown key; expected one of proxy, upstream, admin, cluster, log, tracing, workers, grace_period",
    ),
    (ForwardConfig, "grace_period: 1s", "1: grace_period: unknown key; expected one of connect, log, ports"),
    (
        ServerConfig,
        '"a\\nb": 1',
        r"1: 'a\nb': unknown key; expected one of proxy, upstream, admin, cluster, log, tracing, workers, grace_period",
    ),
    (AgentConfig, "connect: token", "1: connect: expected a mapping of keys"),
    (AgentConfig, "listeners: {}", "1: listeners: expected a list, each of its items a mapping of keys"),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_file_that_is_no_configuration_is_told_in_one_line(
    root: type[Section], text: str, line: str, write: Write
) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


def test_a_mistake_in_a_flag_or_a_variable_names_it() -> None:
    with pytest.raises(ConfigError, match=r"^--proxy.timeout: '5': expected a duration such as"):
        Draft(ServerConfig).read_flags({"--proxy.timeout": ["5"]})
    with pytest.raises(ConfigError, match=r"^TRIODUCT_PROXY_TIMEOUT: '5': expected a duration such as"):
        Draft(ServerConfig).read_environment({"TRIODUCT_PROXY_TIMEOUT": "5"})
    with pytest.raises(ConfigError, match=r"^--log.subsystems: '\"a': expected a list, separated by commas$"):
        Draft(ServerConfig).read_flags({"--log.subsystems": ['"a']})
    draft = Draft(ServerConfig)
    draft.read_flags({"--proxy.tls.cert": ["/no/cert"]})
    with pytest.raises(ConfigError, match=r"^--proxy.tls.cert: '/no/cert': set without a key; expected key as well$"):
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
