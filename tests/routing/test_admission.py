"""Tokens: good ones by PyJWT, and every bad one we could think of, forged by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, Unauthorized
from engine.routing.admission import MAX_KNOWN, Claims, UnknownKey, Verifier

SECRET = "a secret of at least sixty-four bytes, so that HS512 is content with it too, as it wants"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[curve])


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def bearer(token: str | bytes) -> list[bytes]:
    return [b"Bearer " + (token if isinstance(token, bytes) else token.encode())]


def claims_of(verifier: Verifier, token: str | bytes) -> Claims:
    return verifier.verify([], bearer(token))


def refusal(verifier: Verifier, token: str | bytes) -> str:
    """Why the verifier does not take this token. That it is refused twice shows that no refusal is remembered."""
    with pytest.raises(Unauthorized) as first:
        claims_of(verifier, token)
    with pytest.raises(Unauthorized) as second:
        claims_of(verifier, token)
    assert str(first.value) == str(second.value)
    return str(first.value)


def packed(data: bytes | str | Mapping[str, object]) -> bytes:
    if isinstance(data, Mapping):
        data = json.dumps(data)
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def forged(
    header: bytes | str | Mapping[str, object] = '{"alg":"HS256","typ":"JWT"}',
    payload: bytes | str | Mapping[str, object] = "{}",
    secret: str = SECRET,
) -> bytes:
    """A token with a good signature (HS256) over whatever it is."""
    said = packed(header) + b"." + packed(payload)
    return said + b"." + packed(hmac.digest(secret.encode(), said, hashlib.sha256))


# Who asks --------------------------------------------------------------------------------------------------


@pytest.fixture
def verifier(clock: Clock) -> Verifier:
    return Verifier(hmac_secret_key=SECRET, now=clock)


TOKEN = forged()


@pytest.mark.parametrize(
    ("own", "standard", "text"),
    [
        ([], [], "missing authorization"),
        ([b""], [b""], "missing authorization"),
        ([], [b"Bearer"], "invalid authorization"),
        ([], [TOKEN], "invalid authorization"),
        ([], [b"Basic dXNlcjpwYXNz"], "unsupported auth type"),
        ([], [b"Bearer x"], "invalid token"),
        ([], [b"Bearer "], "invalid token"),
        ([], [b"Bearer  " + TOKEN], "invalid token"),
        ([], [b"Bearer " + TOKEN + b" "], "invalid token"),
        ([], [b"Bearer " + TOKEN, b"Bearer x"], "invalid authorization"),
        ([b"Bearer x"], [b"Bearer " + TOKEN], "invalid token"),
        ([b"nonsense"], [b"Bearer " + TOKEN], "invalid authorization"),
        ([b"Bearer x", b"Bearer " + TOKEN], [], "invalid authorization"),
    ],
)
def test_a_request_without_good_credentials_reads_pikos_text(
    verifier: Verifier, own: Sequence[bytes], standard: Sequence[bytes], text: str
) -> None:
    with pytest.raises(Unauthorized) as refused:
        verifier.verify(own, standard)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("own", "standard"),
    [
        ([], [b"Bearer " + TOKEN]),
        ([], [b"bearer " + TOKEN]),
        ([], [b"Bearer " + TOKEN] * 2),
        ([b"Bearer " + TOKEN], []),
        ([b"Bearer " + TOKEN], [b"Basic for the service"]),
        ([b""], [b"Bearer " + TOKEN]),
    ],
)
def test_our_own_field_wins_over_the_one_of_the_service(
    verifier: Verifier, own: Sequence[bytes], standard: Sequence[bytes]
) -> None:
    assert verifier.verify(own, standard) == Claims(frozenset(), None)


def test_a_tenant_is_unknown_where_there_are_none(verifier: Verifier) -> None:
    for _ in range(2):
        with pytest.raises(Unauthorized, match="unknown tenant"):
            verifier.verify([], bearer(TOKEN), [b"acme"])
        assert verifier.verify([], bearer(TOKEN), [b""])


# What a token permits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "endpoints"),
    [
        ({}, set()),
        ({"piko": None}, set()),
        ({"piko": {}}, set()),
        ({"piko": {"endpoints": None}}, set()),
        ({"piko": {"endpoints": []}}, set()),
        ({"piko": {"endpoints": ["a", "b"], "other": 1}}, {"a", "b"}),
    ],
)
def test_a_token_names_its_endpoints_or_is_good_for_all(
    verifier: Verifier, payload: dict[str, object], endpoints: set[str]
) -> None:
    claims = claims_of(verifier, forged(payload=payload))
    assert claims.endpoints == endpoints
    for endpoint in ("a", "A", "a.", "c"):
        if not endpoints or endpoint in endpoints:
            claims.check(endpoint)
        else:
            with pytest.raises(Unauthorized, match=r"^endpoint not permitted$"):
                claims.check(endpoint)


@pytest.mark.parametrize(
    "piko",
    [
        [],
        "a",
        1,
        {"endpoints": "a"},
        {"endpoints": {"a": 1}},
        {"endpoints": [1]},
        {"endpoints": ["a", None]},
        {"Endpoints": ["a"]},
        {"endpoints": ["a"], "ENDPOINTS": []},
    ],
)
def test_endpoints_that_are_no_list_of_texts_are_refused(verifier: Verifier, piko: object) -> None:
    assert refusal(verifier, forged(payload={"piko": piko})) == "invalid token"


@pytest.mark.parametrize("name", ["Piko", "PIKO", "Exp", "nBf", "AUD"])
def test_a_name_that_piko_reads_and_we_do_not_is_refused(verifier: Verifier, name: str) -> None:
    assert refusal(verifier, forged(payload={name: {"endpoints": ["a"]}})) == "invalid token"


# Time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leeway", [0.0, 60.0])
def test_a_token_is_good_until_it_expires_to_the_second_also_when_it_is_remembered(clock: Clock, leeway: float) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, leeway_seconds=leeway, now=clock)
    token = forged(payload={"exp": NOW + 10})
    assert claims_of(verifier, token).expires_at == NOW + 10
    clock.time = NOW + 10 + leeway - 0.1
    assert claims_of(verifier, token).expires_at == NOW + 10
    clock.time = NOW + 10 + leeway
    assert refusal(verifier, token) == "expired token"
    fresh = Verifier(hmac_secret_key=SECRET, leeway_seconds=leeway, now=clock)
    assert refusal(fresh, token) == "expired token"


def test_a_session_may_be_allowed_to_outlive_its_token(clock: Clock) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, disable_disconnect_on_expiry=True, now=clock)
    token = forged(payload={"exp": NOW + 10})
    assert claims_of(verifier, token).expires_at is None
    clock.time += 10
    assert refusal(verifier, token) == "expired token"


def test_a_token_is_not_good_before_its_time(clock: Clock) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, leeway_seconds=5, now=clock)
    token = forged(payload={"nbf": NOW + 5.5, "iat": NOW + 100})
    assert refusal(verifier, token) == "invalid token"
    clock.time += 0.5
    assert claims_of(verifier, token)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [
        "1900000000",
        '"1900000000"',
        "NaN",
        "Infinity",
        "-Infinity",
        "1e308",
        "1e999",
        "-1",
        "true",
        "[]",
        "null",
        "9" * 5000,
        "9007199254740992",
    ],
)
def test_a_time_that_is_no_time_is_refused(verifier: Verifier, name: str, value: str) -> None:
    token = forged(payload=f'{{"{name}":{value}}}')
    if value == "1900000000" and name != "nbf":
        assert claims_of(verifier, token)
    else:
        assert refusal(verifier, token) == "invalid token"


# Audience and issuer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "good"),
    [
        ({"aud": "us", "iss": "them"}, True),
        ({"aud": ["others", "us"], "iss": "them"}, True),
        ({"aud": "us"}, False),
        ({"iss": "them"}, False),
        ({"aud": "us ", "iss": "them"}, False),
        ({"aud": "us", "iss": "Them"}, False),
        ({"aud": ["us", 1], "iss": "them"}, False),
        ({"aud": {"us": 1}, "iss": "them"}, False),
        ({"aud": [], "iss": "them"}, False),
        ({"aud": "us", "iss": ["them"]}, False),
    ],
)
def test_audience_and_issuer_are_asked_for_where_configured(payload: dict[str, object], good: bool) -> None:
    strict = Verifier(hmac_secret_key=SECRET, audience="us", issuer="them")
    assert claims_of(Verifier(hmac_secret_key=SECRET), forged(payload={"aud": "x", "iss": "y"}))
    if good:
        assert claims_of(strict, forged(payload=payload))
    else:
        assert refusal(strict, forged(payload=payload)) == "invalid token"


# Algorithms and keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256"])
def test_tokens_of_pyjwt_are_taken_by_the_key_they_belong_to_and_no_other(algorithm: str) -> None:
    everything = Verifier(hmac_secret_key=SECRET, rsa_public_key=pem(rsa_key()), ecdsa_public_key=pem(ec_key()))
    keys: dict[str, Any] = {"HS": SECRET, "RS": rsa_key(), "ES": ec_key()}
    token = jwt.encode({"piko": {"endpoints": ["e"]}}, keys[algorithm[:2]], algorithm, headers={"kid": "any"})
    assert claims_of(everything, token).endpoints == {"e"}
    for kind, other in {
        "HS": Verifier(hmac_secret_key=SECRET),
        "RS": Verifier(rsa_public_key=pem(rsa_key())),
        "ES": Verifier(ecdsa_public_key=pem(ec_key())),
    }.items():
        if kind != algorithm[:2]:
            assert refusal(other, token) == "invalid token"


@pytest.mark.parametrize(("curve", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")])
def test_a_curve_has_one_algorithm(curve: str, algorithm: str) -> None:
    verifier = Verifier(ecdsa_public_key=pem(ec_key(curve)))
    assert claims_of(verifier, jwt.encode({}, ec_key(curve), algorithm))
    for other in {"ES256", "ES384", "ES512"} - {algorithm}:
        said = packed({"alg": other}) + b"." + packed({})
        signature = jwt.get_algorithm_by_name(algorithm).sign(said, ec_key(curve))
        assert refusal(verifier, said + b"." + packed(signature)) == "invalid token"


def test_a_certificate_will_do_for_a_public_key() -> None:
    pair = trustme.CA().issue_cert("issuer", key_type=trustme.KeyType.RSA)
    verifier = Verifier(rsa_public_key=pair.cert_chain_pems[0].bytes().decode())
    assert claims_of(verifier, jwt.encode({}, pair.private_key_pem.bytes(), "RS256"))


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none"}',
        '{"alg":"None"}',
        '{"alg":"NoNe"}',
        '{"alg":""}',
        '{"alg":null}',
        '{"alg":["HS256"]}',
        '{"typ":"JWT"}',
        '{"alg":"hs256"}',
        '{"alg":"HS1"}',
        '{"alg":"PS256"}',
        "[]",
        '"HS256"',
        "",
        "{",
        '{"alg":"none","alg":"HS256"}',
        '{"alg":"HS256","alg":"HS256"}',
        '{"alg":"HS256","x":{"a":1,"a":2}}',
        '{"alg":"HS256","crit":["exp"],"exp":1}',
        '{"alg":"HS256","crit":[]}',
        '{"alg":"HS256","crit":["b64"]}',
        '{"alg":"HS256","b64":false}',
        '{"alg":"HS256","b64":true}',
        '{"alg":"HS256","kid":1}',
        '{"alg":"HS256","kid":["a"]}',
        '{"alg":"HS256"}\n{}',
        "\ufeff" + '{"alg":"HS256"}',
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_a_header_that_picks_its_own_rules_is_refused(verifier: Verifier, header: str, signed: bool) -> None:
    token = forged(header=header)
    if not signed:
        token = token.rpartition(b".")[0] + b"."
    assert refusal(verifier, token) == "invalid token"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_json_in_another_encoding_is_refused(verifier: Verifier, encoding: str) -> None:
    assert refusal(verifier, forged(payload="{}".encode(encoding))) == "invalid token"


@pytest.mark.parametrize("name", ["rsa_public_key", "ecdsa_public_key"])
def test_the_public_key_is_no_secret_to_sign_with(name: str) -> None:
    text = pem(rsa_key()) if name == "rsa_public_key" else pem(ec_key())
    verifier = Verifier(**{name: text})  # type: ignore[arg-type]  # one text by name
    both = Verifier(**{name: text}, hmac_secret_key=SECRET)  # type: ignore[arg-type]  # as above
    for secret in (text, text.strip(), text.replace("\n", "")):
        assert refusal(verifier, forged(secret=secret)) == "invalid token"
        assert refusal(both, forged(secret=secret)) == "invalid token"
    with pytest.raises(ConfigError, match="hmac_secret_key"):
        Verifier(hmac_secret_key=text)


@pytest.mark.parametrize(
    "extra",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "' OR 1=1 --"},
        {"kid": "k" * 10_000},
        {"kid": "http://127.0.0.1:1/"},
        {"jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"},
        {"jwk": {"kty": "oct", "k": "YXR0YWNrZXI"}, "x5c": ["x"]},
    ],
)
def test_what_a_header_says_about_its_key_is_ignored(verifier: Verifier, extra: dict[str, object]) -> None:
    header = {"alg": "HS256", **extra}
    assert claims_of(verifier, forged(header=header))
    assert refusal(verifier, forged(header=header, secret="attacker")) == "invalid token"


# Spelling --------------------------------------------------------------------------------------------------


def test_a_token_has_one_spelling(verifier: Verifier) -> None:
    header, payload, signature = TOKEN.split(b".")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other_last = bytes([alphabet[alphabet.index(signature[-1]) ^ 1]])
    for spelling in (
        TOKEN + b"=",
        header + b"=." + payload + b"." + signature,
        header + b"." + payload + b"=." + signature,
        b".".join([header, payload, signature[:-1] + other_last]),
        TOKEN + b".",
        TOKEN + b"." + signature,
        b"." + TOKEN,
        TOKEN.replace(b".", b"..", 1),
        b".".join([header, payload, b""]),
        b".".join([header, b"", signature]),
        b".".join([b"", payload, signature]),
        header + b"." + payload,
        b".".join([header, payload, signature.replace(b"-", b"+").replace(b"_", b"/") + b"+"]),
        TOKEN + b"\n",
        b"\xff" + TOKEN,
        TOKEN[:-1] + b"A" * 5,
        json.dumps({"payload": payload.decode(), "signature": signature.decode()}).encode(),
    ):
        assert refusal(verifier, spelling) == "invalid token"


def test_a_token_over_16_kib_is_refused(verifier: Verifier) -> None:
    assert claims_of(verifier, forged(payload={"x": "x" * 12_000}))
    assert refusal(verifier, forged(payload={"x": "x" * 13_000})) == "invalid token"


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 255))
def test_no_byte_of_a_token_can_be_changed(index: int, byte: int) -> None:
    changed = TOKEN[:index] + bytes([byte]) + TOKEN[index + 1 :]
    if changed != TOKEN:
        assert refusal(Verifier(hmac_secret_key=SECRET), changed) in ("invalid token", "unsupported auth type")


@given(st.binary(max_size=200))
def test_any_bytes_are_claims_or_unauthorized(data: bytes) -> None:
    verifier = Verifier(hmac_secret_key=SECRET)
    for values in ([data], [b"Bearer " + data], [b"Bearer " + forged(header=data)]):
        with pytest.raises(Unauthorized):
            verifier.verify([], values)
    with suppress(Unauthorized):
        claims_of(verifier, forged(payload=data))


# What is remembered ----------------------------------------------------------------------------------------


def test_verified_tokens_are_remembered_within_bounds(clock: Clock) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, now=clock)
    for number in range(MAX_KNOWN + 10):
        claims_of(verifier, forged(payload={"n": number}))
    claims_of(verifier, forged(payload={"n": "x" * 5000}))
    assert len(verifier._known) == MAX_KNOWN


# Key sets --------------------------------------------------------------------------------------------------


def jwk(key: Any, **members: object) -> dict[str, object]:
    if isinstance(key, str):
        return {"kty": "oct", "k": packed(key).decode(), **members}
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    algorithm = next(jwt.get_algorithm_by_name(name) for kind, name in kinds.items() if isinstance(key, kind))
    made: dict[str, object] = json.loads(algorithm.to_jwk(key.public_key()))
    # to_jwk writes key_ops, which many sets do without.
    return {name: value for name, value in made.items() if name != "key_ops"} | members


def key_set(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.fixture
def keyed(clock: Clock) -> Verifier:
    """Keys: r (RSA), e (EC), o (Ed25519), h (a secret)."""
    verifier = Verifier(now=clock)
    verifier.replace_keys(
        key_set(
            jwk(rsa_key(), kid="r", use="sig"),
            jwk(ec_key("P-384"), kid="e", key_ops=["verify"]),
            jwk(ed25519_key(), kid="o"),
            jwk(SECRET, kid="h", alg="HS256"),
        )
    )
    return verifier


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [("r", "RS256"), ("r", "RS512"), ("r", "PS256"), ("e", "ES384"), ("o", "EdDSA"), ("h", "HS256")],
)
def test_a_key_set_serves_the_tokens_of_its_keys(keyed: Verifier, kid: str, algorithm: str) -> None:
    keys: dict[str, Any] = {"r": rsa_key(), "e": ec_key("P-384"), "o": ed25519_key(), "h": SECRET}
    named = jwt.encode({"n": 1}, keys[kid], algorithm, headers={"kid": kid})
    nameless = jwt.encode({"n": 2}, keys[kid], algorithm)
    misnamed = jwt.encode({"n": 3}, keys[kid], algorithm, headers={"kid": "h" if kid != "h" else "r"})
    assert claims_of(keyed, named)
    assert claims_of(keyed, nameless)
    assert refusal(keyed, misnamed) == "invalid token"


def test_a_jwk_binds_its_algorithm(keyed: Verifier) -> None:
    token = jwt.encode({}, SECRET, "HS512", headers={"kid": "h"})
    assert refusal(keyed, token) == "invalid token"


def test_the_public_key_of_a_set_is_no_secret(keyed: Verifier) -> None:
    public = rsa_key().public_key()
    for secret in (
        pem(rsa_key()),
        public.public_bytes(Encoding.DER, PublicFormat.PKCS1).decode("latin-1"),
        json.dumps(jwk(rsa_key())),
    ):
        for kid in ("r", "h"):
            header = {"alg": "HS256", "kid": kid}
            assert refusal(keyed, forged(header=header, secret=secret)) == "invalid token"


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": "SIG"},
        {"use": None},
        {"key_ops": ["encrypt"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"alg": "ES256"},
        {"alg": "RSA-OAEP"},
        {"alg": "none"},
        {"kid": 1},
        {"kty": "RSA "},
        {"kty": "EC"},
        {"kty": "oct"},
        {"n": "AA"},
        {"n": None},
        {"e": 3},
    ],
)
def test_a_key_that_is_not_for_this_is_passed_over(members: dict[str, object]) -> None:
    verifier = Verifier()
    token = jwt.encode({}, rsa_key(), "RS256", headers={"kid": "r"})
    good = jwk(rsa_key(), kid="r")
    with pytest.raises(ValueError, match="no key that verifies"):
        verifier.replace_keys(key_set(good | members))
    verifier.replace_keys(key_set(good | members | {"kid": "other"}, jwk(SECRET, kid="h")))
    assert refusal(verifier, token) == "invalid token"


def test_a_private_key_in_a_set_serves_as_its_public_half() -> None:
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(rsa_key()))
    del private["key_ops"]
    verifier = Verifier()
    verifier.replace_keys(key_set(private))
    assert isinstance(verifier._keys[0].material, rsa.RSAPublicKey)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["RSA", "EC", "oct", "OKP", "AQAB"]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "use", "key_ops", "alg", "kid", "k", "n", "e", "crv", "x", "y", "d"]), anything
    )
)
def test_any_member_of_a_set_is_a_key_or_passed_over(member: dict[str, object]) -> None:
    Verifier().replace_keys(key_set(member, jwk(SECRET)))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":{}}',
        b'{"keys":[1,null,"x",{}]}',
        b"[" * 100_000,
        b'{"keys":[],"keys":[]}',
        b'{"keys":NaN}',
        json.dumps({"keys": [jwk(SECRET)] * 257}).encode(),
    ],
)
def test_a_document_that_is_no_key_set_changes_nothing(keyed: Verifier, document: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        keyed.replace_keys(document)
    assert claims_of(keyed, forged(header={"alg": "HS256", "kid": "h"}))


def test_a_token_of_an_unknown_key_asks_for_a_newer_set(keyed: Verifier) -> None:
    asked: list[str] = []
    keyed.on_unknown_key = lambda: asked.append("!")
    token = forged(header={"alg": "HS256", "kid": "new"})
    with pytest.raises(UnknownKey, match=r"^invalid token$"):
        claims_of(keyed, token)
    assert asked == ["!"]
    keyed.replace_keys(key_set(jwk(SECRET, kid="new")))
    assert claims_of(keyed, token)
    assert asked == ["!"]


def test_a_token_whose_key_is_gone_is_refused_also_when_it_was_known(keyed: Verifier) -> None:
    token = forged(header={"alg": "HS256", "kid": "h"})
    assert claims_of(keyed, token)
    keyed.replace_keys(key_set(jwk(rsa_key(), kid="r")))
    assert refusal(keyed, token) == "invalid token"


def test_the_same_document_again_forgets_no_token(keyed: Verifier) -> None:
    claims_of(keyed, forged(header={"alg": "HS256", "kid": "h"}))
    keyed.replace_keys(keyed._document)
    assert len(keyed._known) == 1


def test_before_a_set_has_come_every_token_is_of_an_unknown_key() -> None:
    with pytest.raises(UnknownKey):
        claims_of(Verifier(), TOKEN)


def test_two_keys_that_would_fit_a_nameless_token_are_not_both_tried() -> None:
    verifier = Verifier()
    verifier.replace_keys(key_set(jwk(SECRET, kid="a"), jwk(SECRET, kid="b")))
    assert refusal(verifier, TOKEN) == "invalid token"
    assert claims_of(verifier, forged(header={"alg": "HS256", "kid": "b"}))


# Configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"])
@pytest.mark.parametrize("name", ["rsa_public_key", "ecdsa_public_key"])
def test_a_public_key_that_is_none_is_an_error_of_the_configuration(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected a public key"):
        Verifier(**{name: text})  # type: ignore[arg-type]  # one text by name


def test_a_public_key_of_another_kind_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="expected an RSA key"):
        Verifier(rsa_public_key=pem(ec_key()))
    with pytest.raises(ConfigError, match="expected an EC key"):
        Verifier(ecdsa_public_key=pem(rsa_key()))


def test_a_short_secret_is_taken_without_a_word() -> None:
    assert claims_of(Verifier(hmac_secret_key="short"), forged(secret="short"))


def test_a_signature_by_another_rsa_scheme_is_refused() -> None:
    said = packed({"alg": "RS256"}) + b"." + packed({})
    signature = rsa_key().sign(said, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    verifier = Verifier(rsa_public_key=pem(rsa_key()))
    assert refusal(verifier, said + b"." + packed(signature)) == "invalid token"
