"""The access log: Piko's keys and ours, nothing secret, nothing that breaks a line."""

from __future__ import annotations

import io
import json
import os
import pty
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import log
from engine.access_log import KNOWN_HEADS, KNOWN_LINES, AccessLog, Finished, HeaderFilter
from engine.wire import http1
from engine.wire.http1 import Fields


@pytest.fixture(autouse=True)
def default_settings() -> Iterator[None]:
    yield
    log.configure("warn")


def head(first: bytes, fields: Fields) -> bytes:
    return http1.encode_lines([first, *map(b": ".join, fields)])


def record(
    access: AccessLog,
    *,
    status: int = 200,
    target: bytes = b"/a/b?token=x",
    request: Fields | None = None,
    response: Fields | None = None,
    endpoint: str = "svc",
    known: object = None,
    tenant: str = "",
) -> None:
    access.record(
        Finished(
            proto=b"HTTP/1.1",
            method=b"GET",
            host=b"svc.example.com",
            target=target,
            status=status,
            request_head=None if request is None else head(b"GET / HTTP/1.1", request),
            response_head=None if response is None else head(b"HTTP/1.1 200 OK", response),
            known=known,
            client="192.0.2.1:5000",
            endpoint=endpoint,
            bytes_in=3,
            bytes_out=128,
            first_byte_seconds=0.001,
            seconds=0.0015,
            tenant=tenant,
        )
    )


def written(access: AccessLog, level: str = "info", **what: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    log.configure(level, (), stream)
    record(access, **what)
    assert log.flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_tenant_where_there_is_one() -> None:
    (line,) = written(AccessLog("proxy.access"), tenant="ac\u202eme")
    assert (line["endpoint-id"], line["tenant-id"]) == ("svc", "ac\\u202eme")


def test_a_line_of_one_of_several_workers_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log._settings, "worker", 2)
    (line,) = written(AccessLog("proxy.access"), tenant="acme")
    assert (line["tenant-id"], line["worker"]) == ("acme", 2)


def test_a_line_has_pikos_keys_then_ours() -> None:
    (line,) = written(AccessLog("proxy.access"), request=[(b"user-agent", b"x")], response=[(b"ETAG", b'"1"')])
    assert line.pop("ts")
    assert line == {
        "level": "info",
        "subsystem": "proxy.access",
        "msg": "request",
        "request": {
            "proto": "HTTP/1.1",
            "method": "GET",
            "host": "svc.example.com",
            "path": "/a/b",
            "request_headers": {"User-Agent": ["x"]},
            "response_headers": {"Etag": ['"1"']},
            "status": 200,
            "duration": "1.500ms",
        },
        "client-ip": "192.0.2.1:5000",
        "endpoint-id": "svc",
        "bytes_in": 3,
        "bytes_out": 128,
        "first_byte_us": 1000,
    }


@pytest.mark.parametrize(
    ("level", "status", "at"),
    [
        ("debug", 499, "debug"),
        ("debug", 500, "warn"),
        ("info", 200, "info"),
        ("info", 502, "warn"),
        ("error", 200, "error"),
        ("error", 502, "error"),
    ],
)
def test_answers_of_500_and_above_are_warnings_at_least(level: str, status: int, at: str) -> None:
    (line,) = written(AccessLog("proxy.access", level=level), "debug", status=status)
    assert line["level"] == at


def test_the_log_level_silences_the_access_log_and_its_subsystem_brings_it_back() -> None:
    assert written(AccessLog("proxy.access"), "warn") == []
    assert len(written(AccessLog("proxy.access"), "warn", status=502)) == 1
    stream = io.StringIO()
    log.configure("error", ["proxy.access"], stream)
    record(AccessLog("proxy.access"))
    assert log.flush()
    assert stream.getvalue().count("\n") == 1


def test_credentials_are_masked_whatever_the_lists_say() -> None:
    names = (
        b"Authorization proxy-authorization Cookie X-Piko-Authorization COOKIE X-Api-Key api-key X-Auth-Token"
        b" X-CSRF-Token X-Amz-Security-Token Ocp-Apim-Subscription-Key X-Functions-Key X_Api_Key X-Session-Id Signature"
        b" X-Goog-IAP-JWT-Assertion Sec-WebSocket-Protocol apikey"
    ).split()
    access = AccessLog("a", request_headers=HeaderFilter(allow=["authorization", "cookie"]))
    for log_of in (AccessLog("a"), access):
        (line,) = written(
            log_of, request=[(name, b"canary") for name in names], response=[(b"Set-Cookie", b"canary")] * 2
        )
        assert "canary" not in json.dumps(line)
        assert line["request"]["request_headers"]["Cookie"] == ["***"]


@pytest.mark.parametrize(
    "name", ["Referer", "referrer", "Location", "Content-Location", "Link", "Refresh", "X-Original-URL"]
)
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://a.test/b?token=canary", "https://a.test/b?***"),
        ("/b#access_token=canary", "/b#***"),
        ("https://user:canary@a.test/", "https://***@a.test/"),
        ("/b", "/b"),
    ],
)
def test_of_a_url_no_query_no_fragment_and_no_password_is_written(name: str, value: str, shown: str) -> None:
    fields = [(name.encode(), value.encode())]
    for _ in range(2):
        (line,) = written(AccessLog("a"), request=fields, response=fields)
        for way in ("request_headers", "response_headers"):
            assert list(line["request"][way].values()) == [[shown]]


def test_a_secret_is_masked_by_its_form_under_any_name_and_in_a_path() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.canary.canary"
    fields = [(b"x-a", token.encode()), (b"x-b", b"Bearer canary-canary"), (b"x-c", b"basic Y2FuYXJ5")]
    (line,) = written(AccessLog("a"), target=f"/reset/{token}".encode(), request=fields)
    assert "canary" not in json.dumps(line)
    assert "Y2FuYXJ5" not in json.dumps(line)
    assert line["request"]["path"] == "/reset/***"


@pytest.mark.parametrize("piece", ["://eyJ-", "eyJa.b.c ", "http://a "])
def test_of_a_value_full_of_what_begins_like_a_secret_nothing_is_written(piece: str) -> None:
    value = f"eyJ {piece * 20}".strip().encode()
    (line,) = written(AccessLog("a"), target=b"/" + value.replace(b" ", b"/"), request=[(b"x-a", value)])
    assert line["request"]["request_headers"]["X-A"] == ["***"]
    assert line["request"]["path"] == "***"


def test_of_long_heads_each_value_is_cut() -> None:
    (line,) = written(AccessLog("a"), request=[(b"x-a", b"a" * 8000), (b"x-b", b"eyJa.canary.canary")])
    assert line["request"]["request_headers"] == {"X-A": ["a" * 200], "X-B": ["***"]}


FIELDS = [(b"a", b"1"), (b"B", b"2"), (b"x-c", b"3")]


@pytest.mark.parametrize(
    ("lists", "names"),
    [
        (HeaderFilter(), ["A", "B", "X-C"]),
        (HeaderFilter(allow=["X-C", "a", "other"]), ["A", "X-C"]),
        (HeaderFilter(block=["x-C"]), ["A", "B"]),
    ],
)
def test_the_lists_name_fields_in_any_case(lists: HeaderFilter, names: list[str]) -> None:
    (line,) = written(AccessLog("a", request_headers=lists, response_headers=lists), request=FIELDS)
    assert list(line["request"]["request_headers"]) == names
    assert line["request"]["response_headers"] == {}


def test_a_field_that_comes_twice_keeps_both_values() -> None:
    (line,) = written(AccessLog("a"), response=[(b"Via", b"1"), (b"via", b"2"), (b"Age", b"3")])
    assert line["request"]["response_headers"] == {"Via": ["1", "2"], "Age": ["3"]}


def test_what_is_not_ascii_is_escaped() -> None:
    (line,) = written(
        AccessLog("a"),
        target=b"/\xff",
        endpoint="\u202e",
        request=[(b"a", "é\u009b".encode())],
        response=[(b"b", b"\x1b\x9b")],
    )
    assert line["request"]["path"] == r"/\xff"
    assert line["request"]["request_headers"] == {"A": [r"\xe9\x9b"]}
    assert line["request"]["response_headers"] == {"B": ["\x1b\\x9b"]}
    assert line["endpoint-id"] == r"\u202e"


def test_a_long_line_is_made_again_with_its_values_cut() -> None:
    (line,) = written(AccessLog("a"), target=b"/" * 8000, request=[(b"a", b"v" * 8000)])
    assert line["request"]["path"] == "/" * 200
    assert line["request"]["request_headers"] == {"A": ["v" * 200]}


@given(st.binary(), st.lists(st.tuples(st.binary(min_size=1), st.binary())))
def test_any_request_is_one_line_of_printable_json(target: bytes, fields: Fields) -> None:
    stream = io.StringIO()
    log.configure("info", (), stream)
    record(AccessLog("a"), target=target, request=fields, response=fields)
    assert log.flush()
    (text,) = stream.getvalue().splitlines()
    assert text.isascii()
    assert not any(sign < " " for sign in text)
    json.loads(text)


def test_names_that_strangers_make_up_are_not_remembered_for_ever() -> None:
    lists = HeaderFilter()
    lists.shown(head(b"", [(b"name-%d" % number, b"") for number in range(5000)]))
    assert len(lists._names) == 1000
    assert not lists._parts


def test_lines_that_come_again_are_remembered_in_bounds_and_none_that_may_be_secret() -> None:
    lists = HeaderFilter()
    for number in range(3 * KNOWN_LINES):
        fields = [(name, b"%d" % number) for name in (b"Accept", b"Cookie", b"X-Api-Key", b"Referer")]
        assert lists.shown(head(b"", fields)).startswith(b'"Accept":["%d"],"Cookie":["***"],' % number)
        assert len(lists._parts) <= KNOWN_LINES
    assert {line.partition(b":")[0] for line in lists._parts} == {b"Accept"}


def test_on_a_terminal_a_request_is_a_readable_line() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        log.configure("info", (), terminal)
        record(AccessLog("proxy.access"))
        assert log.flush()
        text = os.read(ours, 65536).decode()
        log.configure("warn")
    os.close(ours)
    assert "GET 200" in text
    assert "/a/b" in text
    assert "token" not in text


def test_heads_that_come_again_are_written_the_same_and_remembered_in_bounds() -> None:
    access = AccessLog("a", request_headers=HeaderFilter(block=["x-quiet"]))
    fields: Fields = [(b"authorization", b"Bearer x"), (b"x-quiet", b"1"), (b"accept", b"*/*")]
    known = object()
    (first,) = written(access, request=fields, known=known)
    (again,) = written(access, request=fields, known=known)
    (alone,) = written(access, request=fields)
    assert first["request"] == again["request"] == alone["request"]
    assert first["request"]["request_headers"] == {"Authorization": ["***"], "Accept": ["*/*"]}
    for _ in range(3 * KNOWN_HEADS):
        record(access, request=fields, known=object())
    assert log.flush()
    assert 0 < len(access._known) <= KNOWN_HEADS
