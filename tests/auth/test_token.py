"""Reading a token: one spelling, one meaning, and everything else is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.auth.token import Invalid, principal_of
from engine.auth.verifier import Verifier
from engine.errors import Unauthorized
from tests.auth.tokens import SECRET, TOKEN, claims_of, forged, refusal


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


@pytest.mark.parametrize("name", ["iss", "sub", "jti"])
@pytest.mark.parametrize("text", ["\\ud800", "a\\uDFFFb", "\\udc00\\ud800"])
def test_half_of_a_surrogate_pair_is_no_text(verifier: Verifier, name: str, text: str) -> None:
    payload = {"iss": "me", "sub": "kim", "jti": "1"} | {name: "?"}
    assert refusal(verifier, forged(payload=json.dumps(payload).replace("?", text))) == "invalid token"


def test_a_whole_surrogate_pair_is_one(verifier: Verifier) -> None:
    assert claims_of(verifier, forged(payload='{"sub":"\\ud83d\\ude00"}')).principal == "\U0001f600"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_json_in_another_encoding_is_refused(verifier: Verifier, encoding: str) -> None:
    assert refusal(verifier, forged(payload="{}".encode(encoding))) == "invalid token"


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


@pytest.mark.parametrize(
    ("payload", "principal"),
    [
        ({}, ""),
        ({"iss": "https://a.test/"}, ""),
        ({"sub": ""}, ""),
        ({"sub": "alice"}, "alice"),
        ({"sub": "alice", "iss": "https://a.test/"}, "https://a.test/#alice"),
        ({"sub": "b#alice", "iss": "a"}, "a#b#alice"),
        ({"sub": "alice", "iss": "a#b"}, "a%23b#alice"),
        ({"sub": "a#alice"}, "#a#alice"),
    ],
)
def test_a_principal_is_whom_a_token_names_and_by_whose_word(payload: dict[str, object], principal: str) -> None:
    assert principal_of(payload) == principal


@pytest.mark.parametrize("payload", [{"sub": 1}, {"sub": None}, {"sub": ["a"]}, {"sub": "a", "iss": 1}])
def test_a_principal_that_is_no_text_makes_a_token_bad(payload: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        principal_of(payload)
    assert refusal(Verifier(hmac_secret_key=SECRET), forged(payload=payload)) == "invalid token"
