"""What a token permits: good ones by PyJWT, and every bad one we could think of, forged by hand."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import jwt
import pytest

from engine.auth.verifier import MAX_KNOWN, Claims, UnknownKey, Verifier, tenant_said
from engine.errors import ConfigError, Unauthorized
from tests.auth.tokens import NOW, SECRET, TOKEN, Clock, bearer, claims_of, forged, jwk, key_set, refusal, rsa_key


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


def sign(payload: dict[str, object]) -> bytes:
    return jwt.encode(payload, SECRET, "HS256").encode()


def test_a_token_is_good_in_the_tenant_that_it_names_and_in_no_other() -> None:
    verifier = Verifier(hmac_secret_key=SECRET, tenants=["acme", "beta"])
    acme = bearer(sign({"piko": {"tenant": "acme", "endpoints": ["e"]}}))
    for _ in range(2):  # the second time it is known
        for named in ([], [b""], [b"acme"], [b"acme", b"acme"]):
            assert verifier.verify([], acme, named) == Claims(frozenset("e"), None, "", "acme")
        for named in ([b"beta"], [b"acme", b"beta"], [b"other"], [b"Acme"], [b"\xff"]):
            with pytest.raises(Unauthorized, match="unknown tenant"):
                verifier.verify([], acme, named)
        with pytest.raises(Unauthorized, match="unknown tenant"):
            verifier.verify([], bearer(TOKEN), [b"acme"])
    assert verifier.verify([], bearer(TOKEN)).tenant == ""
    with pytest.raises(Unauthorized, match="unknown tenant"):
        verifier.verify([], bearer(sign({"piko": {"tenant": "other"}})))


def test_keys_of_a_tenant_verify_its_tokens_alone() -> None:
    verifier = Verifier(hmac_secret_key=SECRET, tenant="acme")
    assert verifier.verify([], bearer(TOKEN)).tenant == "acme"
    assert verifier.verify([], bearer(sign({"piko": {"tenant": "acme"}})), [b"acme"]).tenant == "acme"
    for token, named in ((TOKEN, [b"beta"]), (sign({"piko": {"tenant": "beta"}}), [])):
        with pytest.raises(Unauthorized, match="unknown tenant"):
            verifier.verify([], bearer(token), named)


@pytest.mark.parametrize("piko", [{"tenant": 1}, {"tenant": ["acme"]}, {"Tenant": "acme"}, {"tenant": {}}])
def test_a_tenant_is_a_text_under_its_one_name(piko: dict[str, object]) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, tenants=["acme"])
    with pytest.raises(Unauthorized, match="invalid token"):
        verifier.verify([], bearer(sign({"piko": piko})))


def test_whose_keys_are_to_verify_a_token_says_the_field_or_else_the_token() -> None:
    acme = bearer(sign({"piko": {"tenant": "acme"}}))
    assert tenant_said([], acme, []) == "acme"
    assert tenant_said(acme, bearer(b"x.y.z"), [b""]) == "acme"
    assert tenant_said([], acme, [b"beta", b"beta"]) == "beta"
    assert tenant_said([], bearer(TOKEN), []) == ""
    for standard, tenant, said in (
        ([], [b"acme"], "missing authorization"),
        (bearer(b"x.y.z"), [], "unknown tenant"),
        (acme, [b"acme", b"beta"], "unknown tenant"),
    ):
        with pytest.raises(Unauthorized, match=said):
            tenant_said([], standard, tenant)


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


def test_verified_tokens_are_remembered_within_bounds(clock: Clock) -> None:
    verifier = Verifier(hmac_secret_key=SECRET, now=clock)
    for number in range(MAX_KNOWN + 10):
        claims_of(verifier, forged(payload={"n": number}))
    claims_of(verifier, forged(payload={"n": "x" * 5000}))
    assert len(verifier._known) == MAX_KNOWN


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
def test_a_document_that_is_no_key_set_changes_nothing(shared: Verifier, document: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        shared.replace_keys(document)
    assert claims_of(shared, forged(header={"alg": "HS256", "kid": "h"}))


def test_a_token_of_an_unknown_key_asks_for_a_newer_set(shared: Verifier) -> None:
    asked: list[str] = []
    shared.on_unknown_key = lambda: asked.append("!")
    token = forged(header={"alg": "HS256", "kid": "new"})
    with pytest.raises(UnknownKey, match=r"^invalid token$"):
        claims_of(shared, token)
    assert asked == ["!"]
    shared.replace_keys(key_set(jwk(SECRET, kid="new")))
    assert claims_of(shared, token)
    assert asked == ["!"]


def test_a_token_whose_key_is_gone_is_refused_also_when_it_was_known(shared: Verifier) -> None:
    token = forged(header={"alg": "HS256", "kid": "h"})
    assert claims_of(shared, token)
    shared.replace_keys(key_set(jwk(rsa_key(), kid="r")))
    assert refusal(shared, token) == "invalid token"


def test_the_same_document_again_forgets_no_token(shared: Verifier) -> None:
    claims_of(shared, forged(header={"alg": "HS256", "kid": "h"}))
    shared.replace_keys(shared._document)
    assert len(shared._known) == 1


def test_before_a_set_has_come_every_token_is_of_an_unknown_key() -> None:
    with pytest.raises(UnknownKey):
        claims_of(Verifier(), TOKEN)


def test_two_keys_that_would_fit_a_nameless_token_are_not_both_tried() -> None:
    verifier = Verifier()
    verifier.replace_keys(key_set(jwk(SECRET, kid="a"), jwk(SECRET, kid="b")))
    assert refusal(verifier, TOKEN) == "invalid token"
    assert claims_of(verifier, forged(header={"alg": "HS256", "kid": "b"}))


@pytest.mark.parametrize(("size", "taken"), [(32, 1), (47, 1), (48, 2), (63, 2), (64, 3)])
def test_a_secret_verifies_only_what_it_is_long_enough_for(size: int, taken: int) -> None:
    secret = "s" * size
    verifier, of_a_set = Verifier(hmac_secret_key=secret), Verifier()
    of_a_set.replace_keys(key_set(jwk(secret)))
    algorithms = ["HS256", "HS384", "HS512"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        tokens = [jwt.encode({}, secret, algorithm) for algorithm in algorithms]
    for one in (verifier, of_a_set):
        for token in tokens[:taken]:
            assert claims_of(one, token)
        for token in tokens[taken:]:
            assert refusal(one, token) == "invalid token"


def test_a_secret_that_is_too_short_for_any_algorithm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^hmac_secret_key: a secret of 31 bytes; expected 32 or more"):
        Verifier(hmac_secret_key="s" * 31)
    with pytest.raises(ValueError, match="no key"):
        Verifier().replace_keys(key_set(jwk("s" * 31)))


def test_a_secret_that_was_published_is_refused() -> None:
    with pytest.raises(ConfigError, match="published"):
        Verifier(hmac_secret_key="change-me-to-thirty-two-bytes-or-more")
