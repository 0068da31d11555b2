"""Heads and error responses as bytes."""

from __future__ import annotations

import json

import pytest

from engine.wire import http1
from tests.wire.http1.heads import BROWSER, NGINX


def test_what_is_written_reads_the_same() -> None:
    got = http1.parse_request(BROWSER)
    assert http1.encode_request(got.method, got.target, got.fields) == BROWSER
    answer = http1.parse_response(NGINX, b"GET")
    assert http1.encode_response(answer.status, answer.reason, answer.fields) == NGINX
    assert http1.encode_response(204, b"", []) == b"HTTP/1.1 204 \r\n\r\n"


@pytest.mark.parametrize("close", [True, False])
def test_an_error_response_is_pikos_json(close: bool) -> None:
    data = http1.error_response(502, 'no "upstream" \x00é', close=close)
    end = http1.head_end(data)
    got = http1.parse_response(data[:end], b"GET")
    assert (got.status, got.reason, got.body) == (502, b"Bad Gateway", len(data) - end)
    assert got.keep_alive is not close
    assert (b"X-Content-Type-Options", b"nosniff") in got.fields
    assert json.loads(data[end:]) == {"error": 'no "upstream" \x00é'}
    assert http1.error_response(499, "x", close=True).startswith(b"HTTP/1.1 499 \r\n")
