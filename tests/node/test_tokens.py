"""Tokens on the three ports: who may, who may not and is told why, and what becomes of a token that was good."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from trio.testing import MockClock

from engine.config import AuthConfig, ServerConfig
from engine.errors import Refused
from engine.loop.renewed import WATCH_SECONDS
from tests.canary import CANARY
from tests.roles import GET, Roles, RunningNode, Talk, agent_config, answer, says, server_config, settle, tell_head

SECRET = f"{CANARY}, a secret of at least sixty-four bytes, for HS512 wants that many"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = json.dumps({"keys": [json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key())) | {"kid": "one", "alg": "RS256"}]})

Sign = Callable[..., str]


def token(**claims: object) -> str:
    return jwt.encode(claims, SECRET, "HS256")


def pem(key: Any) -> str:
    text: str = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return text


async def configure(roles: Roles, auth: AuthConfig, kind: str, folder: Path) -> Sign:
    """Have `auth` ask for tokens of a kind; gives what signs them."""
    if kind == "HMAC":
        auth.hmac_secret_key = SECRET
        return lambda **claims: jwt.encode(claims, SECRET, "HS512")
    if kind == "RSA":
        auth.rsa_public_key = pem(RSA_KEY)
        return lambda **claims: jwt.encode(claims, RSA_KEY, "RS384")
    if kind == "ECDSA":
        auth.ecdsa_public_key = pem(EC_KEY)
        return lambda **claims: jwt.encode(claims, EC_KEY, "ES256")
    if kind == "HMAC file":
        (folder / "secret").write_text(SECRET + "\n")
        (folder / "secret").chmod(0o600)
        auth.hmac_secret_key_file = str(folder / "secret")
        return lambda **claims: jwt.encode(claims, SECRET, "HS256")
    if kind == "RSA file":
        (folder / "rsa.pem").write_text(pem(RSA_KEY))
        auth.rsa_public_key_file = str(folder / "rsa.pem")
        return lambda **claims: jwt.encode(claims, RSA_KEY, "RS256")
    if kind == "ECDSA file":
        (folder / "ec.pem").write_text(pem(EC_KEY))
        auth.ecdsa_public_key_file = str(folder / "ec.pem")
        return lambda **claims: jwt.encode(claims, EC_KEY, "ES256")
    if kind == "JWKS file":
        (folder / "keys.json").write_text(JWKS)
        auth.jwks.endpoint = f"file://{folder}/keys.json"
    else:
        # Served by this very event loop: who blocks it, to fetch this, never gets it.
        port = await roles.service(says(JWKS.encode()))
        auth.jwks.endpoint = f"http://127.0.0.1:{port}/keys"
    return lambda **claims: jwt.encode(claims, RSA_KEY, "RS256", {"kid": "one"})


def protected(*ports: str) -> ServerConfig:
    """A node that asks for tokens, signed with SECRET, on these ports."""
    config = server_config()
    for port in ports:
        getattr(config, port).auth.hmac_secret_key = SECRET
    return config


def bearer(signed: str, field: bytes = b"Authorization") -> bytes:
    return GET[:-2] + field + b": Bearer " + signed.encode() + b"\r\n\r\n"


async def client_is_told(roles: Roles, node: RunningNode, request: bytes) -> tuple[int, str]:
    client = await roles.dial(node.proxy)
    got = await client.ask(request)
    return got.status, json.loads(got.body)["error"] if got.status != 200 else ""


# -- Kinds of keys


@pytest.mark.parametrize(
    "kind", ["HMAC", "RSA", "ECDSA", "HMAC file", "RSA file", "ECDSA file", "JWKS file", "JWKS URL"]
)
async def test_every_port_takes_every_kind_of_key(roles: Roles, kind: str, tmp_path: Path) -> None:
    config = server_config()
    for section in (config.proxy, config.upstream, config.admin):
        sign = await configure(roles, section.auth, kind, tmp_path)
    node = await roles.node(config)
    registering = agent_config(node.upstream, await roles.service(tell_head))
    registering.connect.token = sign(exp=time.time() + 60)
    await roles.agent_with(registering)
    for port in (node.proxy, node.admin):
        client = await roles.dial(port)
        request = GET if port == node.proxy else b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await client.ask(request)).status == 401
        allowed = request[:-2] + f"Authorization: Bearer {sign()}\r\n\r\n".encode()
        assert (await client.ask(allowed)).status == 200
        forged = request[:-2] + f"Authorization: Bearer {jwt.encode({}, 'x' * 40)}\r\n\r\n".encode()
        assert (await client.ask(forged)).status == 401


# -- What is wrong


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (b"", "missing authorization"),
        (b"Authorization: \r\n", "missing authorization"),
        (b"Authorization: Bearer\r\n", "invalid authorization"),
        (b"Authorization: Basic dXNlcjpwYXNz\r\n", "unsupported auth type"),
        (b"Authorization: Bearer rubbish\r\n", "invalid token"),
        (b"x-piko-authorization: Bearer rubbish\r\nAuthorization: Bearer GOOD\r\n", "invalid token"),
        (b"Authorization: Bearer NONE\r\n", "invalid token"),
        (b"Authorization: Bearer EXPIRED\r\n", "expired token"),
        (b"Authorization: Bearer OTHER\r\n", "endpoint not permitted"),
        (b"Authorization: Bearer GOOD\r\nx-piko-tenant-id: t\r\n", "unknown tenant"),
        (b"Authorization: Bearer GOOD\r\nAuthorization: Bearer OTHER\r\n", "invalid authorization"),
    ],
)
async def test_who_may_not_is_told_why_in_the_same_words_on_both_ports(roles: Roles, fields: bytes, text: str) -> None:
    for word, signed in {
        b"GOOD": token(piko={"endpoints": ["web"]}),
        b"NONE": jwt.encode({}, "", "none"),
        b"EXPIRED": token(exp=time.time() - 1),
        b"OTHER": token(piko={"endpoints": ["other"]}),
    }.items():
        fields = fields.replace(word, signed.encode())
    node = await roles.node(protected("proxy", "upstream"))
    assert await client_is_told(roles, node, GET[:-2] + fields + b"\r\n") == (401, text)
    tcp = b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
    assert await client_is_told(roles, node, tcp) == (401, text)
    agent = await roles.dial(node.upstream)
    got = await agent.ask(b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
    assert (got.status, json.loads(got.body)) == (401, {"error": text})
    assert await agent.is_over()


async def test_audience_and_issuer_are_compared_if_they_are_configured(roles: Roles) -> None:
    config = protected("proxy")
    config.proxy.auth.audience, config.proxy.auth.issuer = "us", "them"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    assert await client_is_told(roles, node, bearer(token())) == (401, "invalid token")
    assert await client_is_told(roles, node, bearer(token(aud="you", iss="them"))) == (401, "invalid token")
    assert await client_is_told(roles, node, bearer(token(aud=["you", "us"], iss="them"))) == (200, "")


async def test_an_agent_that_may_not_ends_with_the_nodes_words(roles: Roles) -> None:
    node = await roles.node(protected("upstream"))
    for claims, words in (
        ({"exp": time.time() - 1}, "expired token"),
        ({"piko": {"endpoints": ["other"]}}, "endpoint not permitted"),
    ):
        config = agent_config(node.upstream, 1)
        config.connect.token = token(**claims)
        error = await roles.failure_of_agent(config)
        assert isinstance(error, Refused)
        assert str(error) == f'{config.connect.url} answered 401 Unauthorized: {{"error":"{words}"}}'


async def test_an_agent_says_its_tenant(roles: Roles) -> None:
    node = await roles.node(protected("upstream"))
    config = agent_config(node.upstream, 1)
    config.connect.token, config.connect.tenant_id = token(), "acme"
    error = await roles.failure_of_agent(config)
    assert isinstance(error, Refused)
    assert "unknown tenant" in str(error)


# -- What becomes of it


@pytest.mark.parametrize("field", [b"Authorization", b"x-piko-authorization", b"X-Piko-Authorization"])
async def test_a_token_never_reaches_the_service(roles: Roles, field: bytes) -> None:
    node = await roles.node(protected("proxy"))
    await roles.agent(node, await roles.service(tell_head))
    client = await roles.dial(node.proxy)
    for fields in (
        b"",
        b"Connection: authorization, x-piko-authorization\r\n",
        b"Authorization: Bearer TOKEN\r\n",  # the same once more
        b"x-piko-authorization: \r\n" if field == b"Authorization" else b"Authorization: Basic theirs\r\n",
    ):
        signed = token(fields=fields.decode())
        request = bearer(signed, field)[:-2] + fields.replace(b"TOKEN", signed.encode()) + b"\r\n"
        seen = await client.ask(request)
        assert seen.status == 200
        assert signed.encode() not in seen.body
        assert b"piko" not in seen.body.lower()
        assert (b"Authorization: Basic theirs" in seen.body) == (b"theirs" in fields)


@pytest.mark.parametrize(
    "spelled",
    [
        b"bearer TOKEN",
        b"BEARER  TOKEN",
        b"Bearer\tTOKEN",
        b'Bearer "TOKEN"',
        b"Bearer TOKEN=",
        b"TOKEN",
        b"Token TOKEN, x=y",
        b"Bearer SIGNED.c2lnbmF0dXJl",
        b"Bearer OTHER-ALPHABET",
        b"Bearer%20ESCAPED",
    ],
)
async def test_a_token_that_comes_in_both_fields_in_two_spellings_never_reaches_the_service(
    roles: Roles, spelled: bytes
) -> None:
    node = await roles.node(protected("proxy"))
    await roles.agent(node, await roles.service(tell_head))
    client = await roles.dial(node.proxy)
    signed = token(text="\xff\xfe~~~???>>>").encode()
    for word, written in (
        (b"SIGNED", signed.rpartition(b".")[0]),
        (b"OTHER-ALPHABET", signed.replace(b"-", b"+").replace(b"_", b"/")),
        (b"ESCAPED", signed.replace(b".", b"%2e")),
        (b"TOKEN", signed),
    ):
        spelled = spelled.replace(word, written)
    seen = await client.ask(
        bearer(signed.decode(), b"x-piko-authorization")[:-2] + b"Authorization: " + spelled + b"\r\n\r\n"
    )
    assert seen.status == 200
    assert b"authorization" not in seen.body.lower()


async def test_a_session_ends_with_its_token(roles: Roles, mock_clock: MockClock) -> None:
    # The token's hour is of the wall clock, by which it is still good when the agent comes again.
    node = await roles.node(protected("upstream"))
    config = agent_config(node.upstream, await roles.service(tell_head))
    config.connect.token = token(exp=time.time() + 3600)
    await roles.agent_with(config)
    for seconds, serves in ((3590, True), (15, False), (1, True)):
        mock_clock.jump(seconds)
        await settle()
        assert await client_is_told(roles, node, GET) == ((200, "") if serves else (502, "no available upstreams"))


async def test_a_session_outlives_its_token_if_that_is_wanted(roles: Roles, mock_clock: MockClock) -> None:
    node_config = protected("upstream")
    node_config.upstream.auth.disable_disconnect_on_expiry = True
    node = await roles.node(node_config)
    config = agent_config(node.upstream, await roles.service(tell_head))
    config.connect.token = token(exp=time.time() + 3600)
    await roles.agent_with(config)
    mock_clock.jump(3610)
    await settle()
    assert await client_is_told(roles, node, GET) == (200, "")


async def test_an_agent_with_a_key_that_nobody_knows_is_told_so_while_its_issuer_says_nothing(
    roles: Roles, mock_clock: MockClock
) -> None:
    asked = [trio.Event(), trio.Event()]

    async def issue(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.pop(0).set()
        if asked:
            await talk.say(answer(JWKS.encode()))
        else:
            await trio.sleep_forever()

    config = server_config()
    config.upstream.auth.jwks.endpoint = f"http://127.0.0.1:{await roles.service(issue)}/keys"
    second = asked[1]
    node = await roles.node(config)
    request = (
        b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiAgbGV0dGVycw==\r\nAuthorization: Bearer %b\r\n\r\n"
    ) % jwt.encode({}, RSA_KEY, "RS256", {"kid": "unknown"}).encode()
    early = await roles.dial(node.upstream)
    assert (await early.ask(request)).status == 401  # at once: there will be no other keys for half a minute
    mock_clock.jump(31)
    await second.wait()
    late = await roles.dial(node.upstream)
    await late.say(request)
    await settle()
    mock_clock.jump(9)
    got = await late.answer()
    assert (got.status, json.loads(got.body)["error"]) == (401, "invalid token")


async def test_keys_that_have_changed_are_fetched_when_a_token_names_them(roles: Roles, mock_clock: MockClock) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    newer = json.dumps({"keys": [json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "two", "alg": "ES256"}]})
    documents = [newer.encode(), JWKS.encode()]

    async def issue(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(documents.pop() if len(documents) > 1 else documents[0]))

    config = server_config()
    config.proxy.auth.jwks.endpoint = f"http://127.0.0.1:{await roles.service(issue)}/keys"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    old = bearer(jwt.encode({}, RSA_KEY, "RS256", {"kid": "one"}))
    new = bearer(jwt.encode({}, key, "ES256", {"kid": "two"}))
    assert await client_is_told(roles, node, old) == (200, "")
    assert await client_is_told(roles, node, new) == (401, "invalid token")
    mock_clock.jump(31)
    while await client_is_told(roles, node, new) != (200, ""):
        await settle()  # a thread is fetching them
    assert await client_is_told(roles, node, old) == (401, "invalid token")


@pytest.mark.parametrize("broken", [b"", b"short", None])
async def test_a_secret_in_a_file_is_read_anew_when_it_changes_and_kept_while_it_is_none(
    roles: Roles, mock_clock: MockClock, tmp_path: Path, broken: bytes | None
) -> None:
    config = server_config()
    sign = await configure(roles, config.proxy.auth, "HMAC file", tmp_path)
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    path, old = tmp_path / "secret", bearer(sign())
    newer = bearer(jwt.encode({}, SECRET[::-1], "HS256"))
    assert await client_is_told(roles, node, old) == (200, "")
    assert await client_is_told(roles, node, newer) == (401, "invalid token")

    async def write(content: bytes | None) -> None:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
            path.chmod(0o600)
        await settle()
        mock_clock.jump(WATCH_SECONDS)
        await settle()

    await write(broken)
    assert await client_is_told(roles, node, old) == (200, "")
    await write(SECRET[::-1].encode())
    assert await client_is_told(roles, node, newer) == (200, "")
    assert await client_is_told(roles, node, old) == (401, "invalid token")  # although it was known


async def test_an_agent_reads_its_token_anew_when_it_dials(roles: Roles, mock_clock: MockClock, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(token(exp=time.time() + 3600, n=1) + "\n")
    path.chmod(0o600)
    first = await roles.node(protected("upstream"))
    config = agent_config(first.upstream, await roles.service(tell_head))
    config.connect.token_file = str(path)
    await roles.agent_with(config)
    await first.kill()
    path.write_text(jwt.encode({}, "another secret " * 5, "HS256"))
    again = server_config()
    again.upstream.bind_addr = f"127.0.0.1:{first.upstream}"
    again.upstream.auth.hmac_secret_key = "another secret " * 5
    node = await roles.node(again)
    while await client_is_told(roles, node, GET) != (200, ""):
        mock_clock.jump(1)
        await settle()
