"""Heads that come again."""

from __future__ import annotations

from engine.wire import http1
from engine.wire.http1 import read


def test_a_head_that_comes_again_is_kept_from_then_on() -> None:
    head = b"GET /kept HTTP/1.1\r\nHost: kept.test\r\n\r\n"
    first, second, third = (http1.parse_request(head) for _ in range(3))
    assert not first.repeats
    assert second.repeats
    assert third is second


def test_heads_that_all_differ_are_not_kept() -> None:
    read._known_responses.clear()
    for number in range(2000):
        http1.parse_response(b"HTTP/1.1 200 OK\r\nETag: %d\r\nContent-Length: 0\r\n\r\n" % number, b"GET")
    assert not read._known_responses


def test_of_many_heads_that_repeat_only_so_many_are_kept() -> None:
    for number in range(2 * http1.KNOWN_HEADS):
        head = b"GET /%d HTTP/1.1\r\nHost: many.test\r\n\r\n" % number
        http1.parse_request(head)
        http1.parse_request(head)
    assert len(read._known_requests) == http1.KNOWN_HEADS


def test_what_an_answer_to_head_means_is_not_taken_from_one_to_get() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Kept: head\r\nContent-Length: 7\r\n\r\n"
    assert [http1.parse_response(head, b"GET").body for _ in range(3)] == [7, 7, 7]
    assert http1.parse_response(head, b"HEAD").body == 0
