"""Bodies of chunks: whole, byte by byte, with a tail, and cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import HTTPError
from engine.wire import http1
from engine.wire.http1 import ChunkedBody
from tests.wire.http1.heads import soup


def passed(parts: list[bytes], *, decode: bool = False) -> tuple[bytes, bytes | None]:
    """What goes on when `parts` arrive one by one, and what is left behind the end (None before it)."""
    body = ChunkedBody(decode=decode)
    out = b""
    for at, part in enumerate(parts):
        out += b"".join(body.receive(memoryview(part)))
        if body.done:
            return out, bytes(body.rest) + b"".join(parts[at + 1 :])
    return out, None


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


WIKI = b"4\r\nWiki\r\n6\r\npedia \r\n0E\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "verbatim", "decoded"),
    [
        (WIKI, WIKI, b"Wikipedia in \r\n\r\nchunks."),
        (b"0\r\n\r\n", b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b"0\r\n\r\n", b""),
        (b"1;a\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"x"),
        (
            b'1 ; a = "q\\"\xe9" ;b=c\r\nx\r\n2\r\nyz\r\n0;z\r\n\r\n',
            b"1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n",
            b"xyz",
        ),
        (b"1\r\nx\r\n0\r\nA: b \r\nC:d\r\n\r\n", b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"x"),
    ],
)
def test_a_chunked_body_passes_whole_byte_by_byte_and_with_a_tail(sent: bytes, verbatim: bytes, decoded: bytes) -> None:
    for decode, expected in (False, verbatim), (True, decoded):
        assert passed([sent], decode=decode) == (expected, b"")
        assert passed(singly(sent), decode=decode) == (expected, b"")
        assert passed([sent + b"GET /"], decode=decode) == (expected, b"GET /")


BAD_CHUNKS = [
    b"0x5\r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"5_0\r\n",
    b" 5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"\r\nhello\r\n",
    b"g\r\n",
    b"0" * 16 + b"5\r\nhello\r\n",
    b"f" * 17 + b"\r\n",
    b"FFFFFFFFFFFFFFFF\r\nhello\r\n",
    b"8000000000000000\r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\rhello\r\n",
    b"5;a\nb\r\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b"5;a\x00\r\nhello\r\n",
    b"5;=a\r\nhello\r\n",
    b'5;a="b\r\nhello\r\n',
    b"5;a=b c\r\nhello\r\n",
    b"5a b\r\n",
    b"5\r\nhello!\r\n",
    b"5\r\nhello\n\r\n",
    b"5\r\nhello\rX\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"0\r\nA b: c\r\n\r\n",
    b"0\r\nA: b\n\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\n: b\r\n\r\n",
    b"0\r\nA: \x00\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_CHUNKS)
def test_a_chunked_body_outside_the_grammar_breaks_off(data: bytes) -> None:
    for parts in [data], singly(data), [b"1\r\nx\r\n" + data]:
        with pytest.raises(HTTPError):
            passed(parts)


def test_a_body_that_breaks_off_never_looks_complete() -> None:
    whole = b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    for size in range(len(whole)):
        out, rest = passed([whole[:size]])
        assert rest is None
        assert b"0\r\n" not in out


def test_a_large_chunk_passes_as_one_view_of_the_input() -> None:
    data = memoryview(b"40000\r\n" + b"x" * 0x40000 + b"\r\n5\r\nhe")
    parts = ChunkedBody().receive(data)
    assert [len(part) for part in parts] == [len(data)]
    assert isinstance(parts[0], memoryview)
    assert parts[0].obj is data.obj


def test_each_byte_passes_when_it_comes() -> None:
    body = ChunkedBody()
    for part in b"1\r\n", b"x", b"\r\n", b"1\r\ny", b"\r\n":
        assert b"".join(body.receive(memoryview(part))) == part


def test_a_chunk_may_have_all_but_2_to_the_63_bytes() -> None:
    start = b"7fffFFFFffffFFFF\r\nhello"
    assert passed([start]) == (start, None)
    with pytest.raises(HTTPError) as caught:
        passed([b"8000000000000000\r\n"])
    assert caught.value.status == 400


def test_with_a_limit_a_call_stops_between_two_chunks_and_says_where() -> None:
    body, data = ChunkedBody(), memoryview(b"1\r\na\r\n1\r\nb\r\n2\r\ncd\r\n0\r\n\r\nnext")
    assert b"".join(body.receive(data, 2)) == b"1\r\na\r\n1\r\nb\r\n"
    assert (body.taken, body.done) == (12, False)
    assert b"".join(body.receive(data[12:], 1)) == b"2\r\ncd\r\n"
    assert (body.taken, body.done) == (7, False)
    assert b"".join(body.receive(data[19:], 1)) == b"0\r\n\r\n"
    assert (body.taken, body.done, bytes(body.rest)) == (5, True, b"next")


def test_the_rest_of_a_chunk_is_taken_at_any_limit_and_so_is_half_a_line() -> None:
    body = ChunkedBody()
    body.receive(memoryview(b"100\r\n"), 1)
    assert body.taken == 5
    assert b"".join(body.receive(memoryview(b"x" * 256 + b"\r\n5"), 1)) == b"x" * 256 + b"\r\n"
    assert body.taken == 259
    assert b"".join(body.receive(memoryview(b"\r\nhello\r\n5\r\nagain\r\n"), 1)) == b"5\r\nhello\r\n"
    assert body.taken == 9


def test_extensions_are_bounded_in_a_line_and_in_a_message() -> None:
    flood = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    assert passed([flood * 64])[0] == b"1\r\nx\r\n" * 64
    with pytest.raises(HTTPError):
        passed([flood * 66])
    for long_line in b"1;" + b"a" * 5000, b"1;" + b"a" * 5000 + b"\r\nx\r\n":
        with pytest.raises(HTTPError):
            passed([long_line])
        with pytest.raises(HTTPError):
            passed(singly(long_line))


def test_trailers_are_bounded() -> None:
    line = b"A: " + b"b" * 995 + b"\r\n"
    assert passed([b"0\r\n", line * 8, b"\r\n"]) == (b"0\r\n" + line * 8 + b"\r\n", b"")
    for parts in (
        [b"0\r\n" + line * 9],
        [b"0\r\n", line * 5, line * 5],
        [b"0\r\n", line * 8, line + b"\r\n"],
        [b"0\r\n" + line * 9 + b"\r\n"],
    ):
        with pytest.raises(HTTPError):
            passed(parts)
    with pytest.raises(HTTPError):
        passed([b"0\r\n" + b"A:\r\n" * (http1.MAX_FIELDS + 1) + b"\r\n"])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
extension = st.sampled_from([b"", b";a", b';a="b;\\"c"', b" ; x=y;z"])
places = st.lists(st.integers(0, 2000), max_size=12)


@given(chunks, extension, places, st.booleans())
def test_any_split_of_a_chunked_body_gives_the_same(
    data: list[bytes], extension: bytes, places: list[int], decode: bool
) -> None:
    sent = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in data) + b"0\r\nT: 1\r\n\r\n"
    out, rest = passed(cut(sent + b"next", places), decode=decode)
    assert rest == b"next"
    if decode:
        assert out == b"".join(data)
    else:
        assert passed([out], decode=True) == (b"".join(data), b"")
        assert out == passed([sent])[0]


def limited(parts: list[bytes], limits: list[int], *, decode: bool) -> tuple[bytes, bytes | None] | None:
    """As `passed`, with limits in turn; what a call has not taken is given again. None for a body that is refused."""
    body = ChunkedBody(decode=decode)
    out, waiting, calls = b"", b"", 0
    for at, part in enumerate(parts):
        waiting += part
        while waiting:
            limit = limits[calls % len(limits)]
            calls += 1
            try:
                got = b"".join(body.receive(memoryview(waiting), limit))
            except HTTPError:
                return None
            assert 0 < body.taken <= len(waiting)
            out += got
            waiting = waiting[body.taken :]
            if body.done:
                assert body.rest == waiting
                return out, waiting + b"".join(parts[at + 1 :])
    return out, None


limits = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@given(chunks, extension, places, limits, st.booleans())
def test_any_limit_and_any_split_give_the_same(
    data: list[bytes], extension: bytes, places: list[int], limits: list[int], decode: bool
) -> None:
    sent = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in data) + b"0\r\nT: 1\r\n\r\n"
    whole = passed([sent + b"next"], decode=decode)
    assert limited(cut(sent + b"next", places), limits, decode=decode) == whole
    assert limited([sent + b"next"], limits, decode=decode) == whole


@given(soup, places, limits)
def test_whatever_a_body_holds_a_limit_changes_nothing(data: bytes, places: list[int], limits: list[int]) -> None:
    try:
        whole = passed([data])
    except HTTPError:
        whole = None
    assert limited(cut(data, places), limits, decode=False) == whole


@settings(max_examples=500)
@given(soup, places)
def test_whatever_a_body_holds_it_passes_or_breaks_off_the_same_however_it_is_split(
    data: bytes, places: list[int]
) -> None:
    def outcome(parts: list[bytes]) -> tuple[bytes, bytes | None] | None:
        try:
            return passed(parts)
        except HTTPError:
            return None

    assert outcome([data]) == outcome(cut(data, places)) == outcome(singly(data))
