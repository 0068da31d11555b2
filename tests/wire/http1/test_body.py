"""What belongs to a body, whatever pieces it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RemoteProtocolError
from engine.wire.http1 import CHUNKED, UNTIL_CLOSE
from engine.wire.http1.body import CHUNK_LINES, Body


def pass_through(body: Body, data: bytes, step: int) -> tuple[bytes, bytes]:
    """What goes on of `data`, which comes `step` bytes at a time, and what is left behind the body's end."""
    gone_on = b""
    while data and not body.done:
        parts = body.receive(memoryview(data[:step]))
        assert body.taken
        gone_on += b"".join(parts)
        data = data[body.taken :]
    return gone_on, data


CHUNKS = b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n"


@given(st.integers(1, 60))
def test_a_length_is_counted_to_its_last_byte(step: int) -> None:
    body = Body()
    body.begin(6)
    assert pass_through(body, b"hello!GET / HTTP/1.1", step) == (b"hello!", b"GET / HTTP/1.1")
    assert body.done


@given(st.integers(1, 60))
def test_chunks_go_on_as_they_are_up_to_their_end(step: int) -> None:
    body = Body()
    body.begin(CHUNKED)
    gone_on, left = pass_through(body, CHUNKS + b"behind", step)
    assert left == b"behind"
    whole = Body()
    whole.begin(CHUNKED, chunks=False)
    assert pass_through(whole, gone_on, 1000) == (b"hello!", b"")


@given(st.integers(1, 60))
def test_for_http_1_0_only_the_data_of_chunks_goes_on(step: int) -> None:
    body = Body()
    body.begin(CHUNKED, chunks=False)
    assert pass_through(body, CHUNKS + b"behind", step) == (b"hello!", b"behind")
    assert body.end() == b""


def test_what_ends_with_its_connection_gets_chunks_and_an_end() -> None:
    body = Body()
    body.begin(UNTIL_CLOSE)
    assert body.until_close
    gone_on, left = pass_through(body, b"hello", 3)
    assert (gone_on + body.end(), left) == (b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"")
    assert body.done


def test_no_more_chunk_lines_are_read_in_one_call_than_a_turn_has_time_for() -> None:
    body = Body()
    body.begin(CHUNKED)
    data = b"1\r\na\r\n" * (CHUNK_LINES * 2) + b"0\r\n\r\n"
    body.receive(memoryview(data))
    assert body.taken == 6 * CHUNK_LINES
    assert not body.done


def test_a_body_that_breaks_the_grammar_is_no_body() -> None:
    body = Body()
    body.begin(CHUNKED)
    with pytest.raises(RemoteProtocolError):
        body.receive(memoryview(b"0x5\r\n"))


def test_one_body_follows_the_other() -> None:
    body = Body()
    for framing, data in [(3, b"abc"), (CHUNKED, CHUNKS.replace(b";x=y", b"")), (0, b""), (2, b"xy")]:
        body.begin(framing)
        gone_on, _ = pass_through(body, data, 1000)
        assert (gone_on, body.done) == (data, True)
