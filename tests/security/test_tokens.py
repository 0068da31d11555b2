"""Forged tokens on a running node: whatever they are, a 401, and the service sees nothing."""

from __future__ import annotations

import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.auth.tokens import SECRET, ec_key, forged, packed, pem, rsa_key
from tests.roles import GET, Roles, RunningNode, Talk, server_config, settle, tell_head

RS256 = {"alg": "RS256", "typ": "JWT"}


def by_rsa(payload: str | dict[str, object] = "{}", **header: object) -> bytes:
    """A token that the node's own key has signed, with any payload and whatever else in its header."""
    said = packed(RS256 | header) + b"." + packed(payload)
    algorithm = jwt.get_algorithm_by_name("RS256")
    return said + b"." + packed(algorithm.sign(said, rsa_key()))


def unsigned(header: str) -> bytes:
    return packed(header) + b"." + packed("{}") + b"."


FORGED: dict[str, bytes] = {
    **{
        f"39-alg {alg}": unsigned(json.dumps({"alg": alg, "typ": "JWT"}))
        for alg in ("none", "NoNe", "NONE", "", None, ["none"])
    },
    "39-no alg": unsigned('{"typ":"JWT"}'),
    "39-alg none behind a signature": packed('{"alg":"none"}') + b"." + by_rsa().partition(b".")[2],
    "40-HS256 with the public key": forged(secret=pem(rsa_key())),
    "40-HS256 with the public key in one line": forged(secret=pem(rsa_key()).replace("\n", "")),
    "40-RS256 by another key": jwt.encode({}, rsa.generate_private_key(65537, 2048), "RS256").encode(),
    "40-ES256": jwt.encode({}, ec_key(), "ES256").encode(),
    "40-PS256 by the key of RS256": jwt.encode({}, rsa_key(), "PS256").encode(),
    "41-kid ../../dev/null": forged(header={"alg": "HS256", "kid": "../../../dev/null"}, secret=""),
    "41-kid of SQL": forged(header={"alg": "HS256", "kid": "' UNION SELECT 'attacker' --"}, secret="attacker"),
    "41-kid of 10 KiB": forged(header={"alg": "HS256", "kid": "k" * 10_000}, secret="attacker"),
    "41-jwk": forged(
        header={"alg": "HS256", "jwk": {"kty": "oct", "k": packed("attacker").decode()}}, secret="attacker"
    ),
    **{
        f"43-{name} {value}": by_rsa(f'{{"{name}":{value}}}')
        for name in ("exp", "nbf", "iat")
        for value in ('"1900000000"', "NaN", "Infinity", "1e308", "-1", "[]", "null", "true")
    },
    "43-an exp that has passed": by_rsa({"exp": 1}),
    "43-an nbf to come": by_rsa({"nbf": int(time.time()) + 3600}),
    "43-exp twice": by_rsa('{"exp":1900000000,"exp":1}'),
    "43-alg twice": packed('{"alg":"none","alg":"RS256"}') + b"." + by_rsa().partition(b".")[2],
    "43-crit": by_rsa(crit=["exp"]),
    "43-b64": by_rsa(b64=False),
    "43-over 16 KiB": by_rsa({"x": "x" * 13_000}),
    "43-with padding": by_rsa() + b"=",
    "43-no aud where one is required": by_rsa({"iss": "them"}),
    "43-a list of others as aud": by_rsa({"iss": "them", "aud": ["others", 1]}),
    "43-another iss": by_rsa({"iss": "Them", "aud": "us"}),
}
NAMED = ("no aud", "as aud", "another iss")


async def recorded(roles: Roles, *, named: bool = False) -> tuple[RunningNode, list[bytes]]:
    """A node whose proxy port asks for tokens of an RSA key, and what its service hears."""
    asked: list[bytes] = []

    async def record(talk: Talk) -> None:
        asked.append(await talk.hear())

    config = server_config()
    config.proxy.auth.rsa_public_key = pem(rsa_key())
    if named:
        config.proxy.auth.audience, config.proxy.auth.issuer = "us", "them"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(record))
    return node, asked


def bearer(token: bytes) -> bytes:
    return GET[:-2] + b"Authorization: Bearer " + token + b"\r\n\r\n"


@pytest.mark.parametrize(("name", "token"), FORGED.items(), ids=FORGED)
async def test_a_forged_token_is_a_401_and_the_service_sees_nothing(roles: Roles, name: str, token: bytes) -> None:
    node, asked = await recorded(roles, named=any(word in name for word in NAMED))
    client = await roles.dial(node.proxy)
    for field in (b"Authorization", b"x-piko-authorization"):
        for _ in range(2):  # no refusal is remembered for a permission
            got = await client.ask(bearer(token).replace(b"Authorization", field))
            assert got.status == 401
            assert json.loads(got.body)["error"] in ("invalid token", "expired token", "invalid authorization")
    await settle()
    assert asked == []


async def test_what_a_header_says_of_its_key_leads_nowhere(roles: Roles) -> None:
    called: list[bytes] = []

    async def record(talk: Talk) -> None:
        called.append(await talk.hear())

    port = await roles.service(record)
    url = f"http://127.0.0.1:{port}/keys"
    node, asked = await recorded(roles)
    client = await roles.dial(node.proxy)
    for header in (
        {"jku": url},
        {"x5u": url},
        {"kid": url},
        {"jwk": {"kty": "oct", "k": "YXR0YWNrZXI"}},
        {"x5c": [url]},
    ):
        forgery = forged(header={"alg": "HS256", **header}, secret="attacker")
        assert (await client.ask(bearer(forgery))).status == 401
    await settle()
    assert asked == called == []


async def test_signatures_are_compared_in_constant_time(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    constant = hmac.compare_digest

    def compare(shown: bytes, own: bytes) -> bool:
        compared.append((shown, own))
        return constant(shown, own)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    config = server_config()
    config.proxy.auth.hmac_secret_key = SECRET
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    client = await roles.dial(node.proxy)
    good = forged()
    said, _, signature = good.rpartition(b".")
    for at in (0, len(signature) // 2, len(signature) - 2):
        wrong = signature[:at] + (b"B" if signature[at : at + 1] == b"A" else b"A") + signature[at + 1 :]
        assert (await client.ask(bearer(said + b"." + wrong))).status == 401
    assert (await client.ask(bearer(good))).status == 200
    # All of them were looked at whole, wherever they differ, and by nothing but that.
    assert [shown == own for shown, own in compared] == [False, False, False, True]
    assert {len(part) for pair in compared for part in pair} == {32}
