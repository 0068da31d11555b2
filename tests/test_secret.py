"""What is a secret: by the name of its field, by its form, by where it stands in a URL."""

from __future__ import annotations

import pytest

from engine.secret import is_secret, is_url, without_query, without_secrets


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "x-piko-authorization",
        "proxy_authorization",
        "Cookie",
        "Set-Cookie",
        "X-Api-Key",
        "api_key",
        "apiKey",
        "x-key",
        "X-Auth",
        "X-Auth-Email",
        "X-Vault-Token",
        "PRIVATE-TOKEN",
        "password",
        "db_password",
        "secret",
        "hmac_secret_key",
        "X-Hub-Signature-256",
        "X-CSRFToken",
        "session",
        "sid",
        "credentials",
        "X-Amz-Credential",
    ],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "Accept",
        "Host",
        "User-Agent",
        "Referer",
        "X-Request-ID",
        "traceparent",
        "ETag",
        "Author",
        "authority",
        "X-Author",
        "Keep-Alive",
        "monkey",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Idempotency-Key",
        "WWW-Authenticate",
        "path",
        "error",
        "endpoint_id",
        "client-ip",
        "bytes",
        "seconds",
        "reason",
    ],
)
def test_other_names_are_of_no_secret(name: str) -> None:
    assert not is_secret(name)


def test_a_url_is_known_by_its_name_and_shown_before_its_query() -> None:
    for name in ("Referer", "Location", "Content-Location", "path", "url", "X-Original-URL", "X-Rewrite-Uri", "Link"):
        assert is_url(name)
    assert not any(map(is_url, ("Origin", "Host", "curl", "allocation", "Accept")))
    for url in ("/a", "/a?", "/a#", "", "https://a.test"):
        assert without_query(url) == url
    assert without_query("/a?b=c#d") == "/a?***"
    assert without_query("/a#b?c") == "/a#***"


@pytest.mark.parametrize(
    "text",
    [
        "GET https://a.test/b?x=canary failed",
        "see https://a.test/#canary",
        "via socks5://user:canary@proxy:1080 -> http://b",
        "Authorization: Digest canary-canary",
        "a?signature=canary&b=c",
        "key eyJhbGciOiJub25lIn0.canary.",
        "first\nNTLM canary-canary\nlast",
        "NEGOTIATE canary-canary",
        "bearer 12token=#canary",
        "token=bearer canary-canary",
        "http://a?token=@canary",
        "http://a?token=@bearer canary-canary",
        "it says basic canary-canary",
        "Pa\u017f\u017fword=canary",  # the long s is an "s" where case does not count
    ],
)
def test_a_secret_inside_other_text_is_masked_by_its_form(text: str) -> None:
    assert "canary" not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://a.test/b and https://c.test",
        "eyJhbGciOiJub25lIn0 or eyJhbGciOiJub25lIn0.e30",
        "bearer authentication, basic auth, ntlm",
        "a token= and password",
        "see https://a.test/?",
    ],
)
def test_what_only_looks_like_one_is_left(text: str) -> None:
    assert without_secrets(text) == text


def test_all_of_them_in_one_text_are_masked() -> None:
    text = (
        "http://me:canary@a.test/?q=canary 'x' token=canary&b=1\nBearer canary-canary.\n-eyJhbGciOiJub25lIn0.canary.c."
    )
    shown = "http://***@a.test/?*** 'x' token=***&b=1\nBearer ***\n-***."
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "piece", ["eyJ-", "eyJ.", "eyJ-a.", "://", "://a", "://a:b", "bearer ", "token=", "?://", "a="]
)
def test_a_long_text_that_begins_one_again_and_again_is_read_through_once(piece: str) -> None:
    """Patterns that looked for the rest of each of them to the end would take minutes."""
    assert "canary" not in without_secrets(piece * (500_000 // len(piece)) + " token=canary")
