"""What a node on the public Internet needs: each point as it should be, and as it should not."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from engine.config import Draft, ServerConfig
from engine.config.public import Point, State, as_text, checklist
from tests.config.reading import Write
from tests.conftest import Pki

SECURITY = (Path(__file__).parents[2] / "SECURITY.md").read_text()
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
OTHER = "ZZ1r8Jq0mVt5uYb3cKx9nQe7wLd2aHg4pSf6zRi8oMk"

GOOD = """
    proxy:
      bind_addr: 0.0.0.0:8000
      public_url: https://*.tunnel.example.com
      tls: {cert: CERT, key: KEY}
      auth: {hmac_secret_key_file: SECRET, revoked_file: REVOKED}
    upstream:
      bind_addr: 0.0.0.0:8001
      tls: {cert: CERT, key: KEY}
      auth: {hmac_secret_key_file: SECRET, revoked_file: REVOKED}
"""


@pytest.fixture
def places(pki: Pki, tmp_path: Path) -> dict[str, str]:
    """The files that a configuration names, by the words that stand for them."""
    cert, key, secret, revoked, ending, over = (
        tmp_path / name for name in ("cert.pem", "key.pem", "secret", "revoked", "ending.pem", "over.pem")
    )
    cert.write_bytes(pki.cert.read_bytes())
    secret.write_text(SECRET)
    revoked.write_text("")
    key.write_bytes(pki.key.read_bytes())
    for file in (key, secret):
        file.chmod(0o600)
    for file, days in ((ending, 7), (over, -1)):
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days, hours=1)
        made = trustme.CA().issue_cert("localhost", not_after=until, not_before=until - datetime.timedelta(days=9))
        file.write_bytes(made.private_key_and_cert_chain_pem.bytes())
        file.chmod(0o600)
    named = {"CERT": cert, "KEY": key, "SECRET": secret, "REVOKED": revoked, "ENDING": ending, "OVER": over}
    return {word: str(path) for word, path in named.items()}


def points_of(text: str, places: dict[str, str], write: Write, flags: dict[str, Sequence[str]]) -> list[Point]:
    path = write(re.sub(r"\b[A-Z]{3,}\b", lambda match: places.get(match[0], match[0]), text))
    draft = Draft(ServerConfig)
    draft.read_flags(flags)
    draft.read_file(path)
    draft.finish()
    return checklist(draft, path)


def test_a_node_that_is_fit_lacks_nothing(places: dict[str, str], write: Write) -> None:
    points = points_of(GOOD, places, write, {})
    assert [point for point in points if point.state is not State.OK] == []
    assert as_text(points).splitlines()[-1] == f"{len(points)} ok, 0 risky, 0 missing"


def test_the_defaults_are_not_fit(write: Write) -> None:
    points = points_of("{}", {}, write, {})
    assert {point.key for point in points if point.state is State.MISSING} == {
        "proxy.tls",
        "upstream.tls",
        "upstream.auth",
    }


TLS = "tls: {cert: CERT, key: KEY}"
AUTH = "auth: {hmac_secret_key_file: SECRET, revoked_file: REVOKED}"
URL = "public_url: https://*.tunnel.example.com"
BLIND = "tls: {cert: CERT, key: KEY, client: {insecure_skip_verify: true}}"
MUST, SHOULD = State.MISSING, State.RISKY

# Section, line of GOOD in it, what stands there instead; the point that is not ok then, its state, what it says.
LESS = [
    ("proxy", TLS, "", "proxy.tls", MUST, "set proxy.tls.cert and proxy.tls.key"),
    ("upstream", TLS, "", "upstream.tls", MUST, "set upstream.tls.cert"),
    ("proxy", TLS, "tls: {cert: ENDING, key: ENDING}", "proxy.tls.cert", SHOULD, "in 7 days"),
    ("upstream", TLS, "tls: {cert: OVER, key: OVER}", "upstream.tls.cert", MUST, "has expired"),
    ("upstream", TLS, TLS[:-1] + ", client_cas: ENDING}", "upstream.tls.client_cas", SHOULD, "in 7 days"),
    ("proxy", TLS, BLIND, "insecure_skip_verify", MUST, "proxy.tls.client"),
    ("upstream", AUTH, "", "upstream.auth", MUST, "any endpoint"),
    ("proxy", AUTH, "", "proxy.auth", SHOULD, "ask who calls"),
    ("upstream", AUTH, "auth: {hmac_secret_key_file: SECRET}", "auth.revoked_file", SHOULD, "upstream.auth"),
    ("proxy", AUTH, "auth: {jwks: {endpoint: 'http://id.test/keys'}}", "auth.jwks.endpoint", MUST, "proxy.auth"),
    ("proxy", URL, "", "proxy.public_url", SHOULD, "https://*.HOST"),
    ("proxy", URL, "public_url: http://tunnel.example.com", "proxy.public_url", SHOULD, "clear text"),
]  # fmt: skip
STORE = f"secret: {OTHER}, store: 'rediss://10.0.0.7'"
HERE = f"secret: {OTHER}, store: 'redis://127.0.0.1', store_password_file: SECRET"
# Section (none: a new one), what is added, and the same.
MORE = [
    ("proxy", "trusted_proxies: [10.0.0.0/8, 0.0.0.0/0]", "proxy.trusted_proxies", MUST, "0.0.0.0/0: everybody"),
    ("proxy", "trusted_proxies: ['2000::/3']", "proxy.trusted_proxies", SHOULD, "2000::/3"),
    ("proxy", "allowed_origins: ['*']", "proxy.allowed_origins", SHOULD, "each web page"),
    ("proxy", "tcp: {5432: shop}\n      tcp_without_token: true", "proxy.tcp", SHOULD, "0.0.0.0:5432=shop"),
    ("proxy", "limits: {connections: 0}", "proxy.limits", MUST, "connections: one stranger"),
    ("upstream", "limits: {sessions: 0, registrations: 0}", "upstream.limits", MUST, "sessions, registrations"),
    ("proxy", "http: {read_header_timeout: -1s}", "proxy.http", MUST, "read_header_timeout"),
    ("proxy", "http: {read_timeout: 0, idle_timeout: 0}", "proxy.http", MUST, "read_timeout, idle_timeout"),
    ("proxy", "access_log: {disable: true}", "log.level", SHOULD, "proxy.access_log"),
    ("", "log: {level: debug}", "log.level", SHOULD, "log.level: info"),
    ("", "tracing: {url: 'http://otel.test:4318'}", "tracing.url", SHOULD, "clear text"),
    ("", "tracing: {url: 'http://otel.test:4318', headers: ['A: b']}", "tracing.url", MUST, "and the headers"),
    ("", "tracing: {url: 'https://otel.test', rate: 0}", "tracing.url", SHOULD, "set tracing.rate"),
    ("", "admin: {bind_addr: ':8002', insecure: true}", "admin.bind_addr", MUST, "127.0.0.1:8002"),
    ("", "admin: {bind_addr: ':8002', auth: {hmac_secret_key_file: SECRET}}", "admin.tls", MUST, "clear text"),
    ("", f"cluster: {{secret: {OTHER}, store: 'redis://10.0.0.7'}}", "cluster.store", SHOULD, "rediss://"),
    ("", f"cluster: {{{STORE}}}", "cluster.store", SHOULD, "store_password_file"),
    ("", f"cluster: {{{HERE}, allowed_networks: 0.0.0.0/0}}", "cluster.allowed_networks", SHOULD, "0.0.0.0/0"),
    ("", f"cluster: {{{STORE}, bind_addr: '10.0.0.1:8010'}}", "cluster.tls", MUST, "clear text"),
    ("", "cluster: {secret: the secret of our own cluster of nodes}", "secrets", SHOULD, "cluster.secret"),
    ("", f"cluster: {{secret: {'a' * 64}}}", "secrets", SHOULD, "openssl rand -hex 32"),
]


def less(section: str, line: str, instead: str) -> str:
    before, named, after = GOOD.partition(f"{section}:\n")
    return before + named + after.replace(line, instead, 1)


def more(section: str, line: str) -> str:
    return GOOD.replace(f"    {section}:\n", f"    {section}:\n      {line}\n") if section else f"{GOOD}    {line}\n"


WORSE = [(less(*where), key, state, told) for *where, key, state, told in LESS]
WORSE += [(more(*where), key, state, told) for *where, key, state, told in MORE]


@pytest.mark.parametrize(("text", "key", "state", "told"), WORSE, ids=[f"{key}: {told}" for _, key, _, told in WORSE])
def test_a_point_that_is_not_as_it_should_be_is_told_with_the_key_to_set(
    text: str, key: str, state: State, told: str, places: dict[str, str], write: Write
) -> None:
    worse = {point.key: point for point in points_of(text, places, write, {}) if point.state is not State.OK}
    assert worse[key].state is state
    assert told in worse[key].text
    for secret in (SECRET, OTHER):
        assert secret not in as_text(list(worse.values()))


def test_what_is_in_front_may_have_the_tls_of_clients(places: dict[str, str], write: Write) -> None:
    text = less("proxy", TLS, "trusted_proxies: 10.0.0.1")
    assert {point.state for point in points_of(text, places, write, {})} == {State.OK}


def test_a_tenant_that_a_client_may_name_as_it_likes_is_told(places: dict[str, str], write: Write) -> None:
    def states(text: str) -> dict[str, State]:
        return {point.key: point.state for point in points_of(text, places, write, {})}

    text = less("upstream", AUTH, f"tenants: [{{id: acme, {AUTH}}}]")
    found = states(text)
    assert (found["upstream.auth"], found["upstream.tenants"]) == (State.OK, State.OK)
    assert states(text.replace(f"      {AUTH}\n", "", 1))["upstream.tenants"] is State.RISKY


def test_clients_may_be_asked_for_tokens_by_the_keys_of_their_tenants(places: dict[str, str], write: Write) -> None:
    keys = f"tenants: [{{id: acme, {AUTH}}}]"
    text = less("proxy", AUTH, keys).replace(f"      {AUTH}\n", f"      {keys}\n", 1)
    assert {point.state for point in points_of(text, places, write, {})} == {State.OK}
    found = {point.key: point for point in points_of(text.replace(", revoked_file: REVOKED", "", 1), places, write, {})}
    assert "proxy.tenants[0].auth" in found["auth.revoked_file"].text


def test_a_secret_that_others_can_read_is_told(places: dict[str, str], write: Write) -> None:
    text = f"{GOOD}    cluster: {{secret: {OTHER}}}\n"

    def point(flags: dict[str, Sequence[str]], text: str = text) -> Point:
        return next(one for one in points_of(text, places, write, flags) if one.key == "secrets in files")

    assert point({}).state is State.MISSING
    assert "chmod 600 file.yaml" in point({}).text
    Path("file.yaml").chmod(0o600)
    assert point({}).state is State.OK
    argv = point({"--cluster.secret": [OTHER]}, GOOD)
    assert argv.state is State.MISSING
    assert "--cluster.secret: each user" in argv.text
    Path(places["KEY"]).chmod(0o640)
    keys = next(one for one in points_of(GOOD, places, write, {}) if one.key == "tls.key")
    assert keys.state is State.MISSING
    assert f"chmod 600 {places['KEY']}" in keys.text


def test_each_point_is_in_the_list_for_people_and_that_has_no_others(places: dict[str, str], write: Write) -> None:
    rest = f"cluster: {{{STORE}, bind_addr: '10.0.0.1:8010', {TLS}}}\n    admin: {{{TLS}}}"
    points = points_of(more("", rest), places, write, {})
    cells = re.findall(r"^\| (`.*?`) \| (?:must|should) \|", SECURITY, re.MULTILINE)
    assert {key for cell in cells for key in re.findall("`(.+?)`", cell)} == {point.key for point in points}
