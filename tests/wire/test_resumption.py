"""What two ends say of a session that is to go on: it comes back as it was meant, and nothing else is it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import HTTPError, RemoteProtocolError
from engine.wire import resumption
from engine.wire.resumption import FIELD, MAX_SECONDS, New, Opened, Resume, Resumed

ID = b"0123456789abcdef0123456789abcdef"
COUNTS = st.integers(0, 10**18 - 1)
SECONDS = st.integers(0, 10**9 - 1)


@given(SECONDS)
def test_who_wants_a_session_says_for_how_long_it_is_kept_within_reason(seconds: int) -> None:
    assert resumption.parse_wish(New(seconds).encode()) == New(min(seconds, MAX_SECONDS))
    assert resumption.parse_answer(Opened(ID, seconds).encode()) == Opened(ID, min(seconds, MAX_SECONDS))


@given(st.integers(0, 10**9 - 1), COUNTS)
def test_who_goes_on_says_with_what_and_from_where(generation: int, received: int) -> None:
    wish = Resume(ID, generation, received)
    assert resumption.parse_wish(wish.encode()) == wish
    assert resumption.parse_answer(Resumed(received).encode()) == Resumed(received)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_wish_or_refused(text: bytes) -> None:
    try:
        resumption.parse_wish(text)
    except HTTPError:
        pass


@given(st.binary(max_size=100))
def test_any_bytes_are_an_answer_or_against_the_protocol(text: bytes) -> None:
    try:
        resumption.parse_answer(text)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"new",
        b"new -1",
        b"new 3.5",
        b"new 30 ",
        b"new 30\n",
        "new ٣".encode(),
        b"new 1000000000",
        b"resume " + ID,
        b"resume " + ID + b" 1",
        b"resume " + ID + b" 1 -1",
        b"resume " + ID[:-1] + b" 1 1",
        b"resume " + ID.upper() + b" 1 1",
        b"resume " + ID + b" 1 " + b"9" * 19,
        b"new 30, new 30",
        b"opened " + ID + b" 30",
        b"resumed 5",
    ],
)
def test_what_is_nearly_a_wish_is_refused(text: bytes) -> None:
    with pytest.raises(HTTPError):
        resumption.parse_wish(text)


@pytest.mark.parametrize("text", [b"", b"opened " + ID, b"opened x 30", b"resumed", b"resumed -1", b"new 30"])
def test_what_is_nearly_an_answer_is_against_the_protocol(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        resumption.parse_answer(text)


def test_a_field_says_it_whatever_its_case() -> None:
    fields = [(b"Host", b"node.test"), (b"X-Trioduct-Session", b"new 30")]
    assert resumption.wish_in(fields) == New(30)
    assert resumption.answer_in([(b"X-TRIODUCT-SESSION", b"resumed 7")]) == Resumed(7)


def test_fields_that_say_nothing_of_it_ask_for_nothing() -> None:
    assert resumption.wish_in([(b"Host", b"node.test")]) is None
    assert resumption.answer_in([(b"Server", b"x")]) is None


def test_two_fields_are_refused_even_if_they_are_equal() -> None:
    with pytest.raises(HTTPError):
        resumption.wish_in([(FIELD, b"new 30"), (FIELD, b"new 30")])
    with pytest.raises(RemoteProtocolError):
        resumption.answer_in([(FIELD, b"resumed 7"), (FIELD, b"resumed 7")])


@pytest.mark.parametrize("message", [Resume(ID, 1, 5), Opened(ID, 30)])
def test_names_are_not_shown(message: object) -> None:
    assert ID.decode() not in repr(message)
    assert ID.decode() not in f"{message}"
