"""What carriers of plain HTTP requests say: every message comes back as it was meant, and nothing else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import HTTPError, RemoteProtocolError
from engine.wire import posts
from engine.wire.posts import Close, Data, Down, End, Hello, Open, StreamUp, Up, Welcome

ID = b"0123456789abcdef0123456789abcdef"
SECRET = "fedcba9876543210fedcba9876543210"
BASES = (posts.UPSTREAM_PATH, posts.PROBE_PATH, posts.TCP_PATH)
COUNTS = st.integers(0, 10**15 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
LINES = st.sampled_from(
    [
        posts.encode_up(ID, 5),
        posts.encode_down(ID, 3, 2, 20),
        posts.encode_close(ID, 1000, "stopping"),
        posts.encode_up_stream(ID),
        posts.encode_open("poll", ID, Hello("new 30", summaries=True)),
        posts.encode_data(17, b""),
        posts.encode_end(17, 1001, "node is stopping"),
        posts.encode_welcome(Welcome("resumed 5", "https://*.example.com")),
    ]
)


@given(st.sampled_from(["poll", "stream"]), TEXTS, st.booleans())
def test_an_opening_says_what_was_wished_for(kind: str, session: str, summaries: bool) -> None:
    hello = Hello(session, summaries)
    assert posts.parse_request(posts.encode_open(kind, ID, hello)) == Open(kind, ID, hello)


@given(COUNTS)
def test_an_up_says_where_its_bytes_begin(offset: int) -> None:
    assert posts.parse_request(posts.encode_up(ID, offset)) == Up(ID, offset)


@given(COUNTS, COUNTS, st.integers(0, 99))
def test_a_down_says_what_is_asked_for(number: int, oldest: int, hold_seconds: int) -> None:
    line = posts.encode_down(ID, number, oldest, hold_seconds)
    assert posts.parse_request(line) == Down(ID, number, oldest, hold_seconds)


def test_the_other_half_of_a_stream_says_whose() -> None:
    assert posts.parse_request(posts.encode_up_stream(ID)) == StreamUp(ID)


@given(st.integers(1000, 4999), st.text(max_size=400))
def test_a_good_bye_is_one_line_of_ascii_whatever_its_reason(code: int, reason: str) -> None:
    line = posts.encode_close(ID, code, reason)
    close = posts.parse_request(line)
    assert isinstance(close, Close)
    assert (close.id, close.code) == (ID, code)
    assert line.count(b"\n") == 1
    assert close.reason.isascii()
    end = posts.parse_answer(posts.encode_end(17, code, reason))
    assert end == End(17, f"{code} {close.reason}")


def test_a_reason_that_is_ascii_arrives_as_it_is() -> None:
    assert posts.parse_request(posts.encode_close(ID, 1000, "it ends")) == Close(ID, 1000, "it ends")


@given(COUNTS)
def test_an_answer_says_where_its_bytes_begin(offset: int) -> None:
    assert posts.parse_answer(posts.encode_data(offset, b"")) == Data(offset)


@given(COUNTS)
def test_what_was_taken_is_a_number(count: int) -> None:
    assert posts.parse_taken(posts.encode_taken(count)) == count


def test_a_carrier_that_is_gone_is_said_to_be() -> None:
    assert posts.parse_answer(posts.GONE + b"\n") is None
    assert posts.parse_taken(posts.GONE + b"\n") is None


@given(TEXTS, TEXTS)
def test_a_welcome_says_what_became_of_the_wish(session: str, public_url: str) -> None:
    welcome = Welcome(session, public_url)
    line = posts.encode_welcome(welcome)
    assert posts.parse_welcome(line) == welcome
    assert line.index(b"\n") == len(line) - 1


# -- What is none


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"poll " + ID + b" {" + tail + b"}\n"))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        posts.parse_request(data)
    except HTTPError:
        pass


@given(LINES, st.data())
def test_a_damaged_line_is_a_message_or_refused(line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line) - 1))
    damaged = line[:at] + data.draw(st.binary(max_size=3)) + line[at + data.draw(st.integers(0, 3)) :]
    for parse in (posts.parse_request, posts.parse_answer, posts.parse_taken, posts.parse_welcome):
        try:
            parse(damaged)
        except RemoteProtocolError:
            pass


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    for parse in (posts.parse_answer, posts.parse_taken, posts.parse_welcome):
        try:
            parse(data)
        except RemoteProtocolError:
            pass


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"up\n",
        b"up " + ID + b"\n",
        b"up " + ID + b" -1\n",
        b"up " + ID + b" 1_0\n",
        b"up " + ID + b" 0x10\n",
        b"up " + ID + " ٣".encode() + b"\n",
        b"up " + ID + b" " + b"9" * 19 + b"\n",
        b"up " + ID.upper() + b" 0\n",
        b"up " + ID[:-1] + b" 0\n",
        b"up " + ID + b"0 0\n",
        b"up " + ID + b" 0\r\n",
        b"up  " + ID + b" 0\n",
        b"UP " + ID + b" 0\n",
        b"down " + ID + b" 0 0\n",
        b"down " + ID + b" 0 0 100\n",
        b"close " + ID + b" 10 x\n",
        b"close " + ID + b" 1000 \x80\n",
        b"close " + ID + b" 1000 " + b"x" * 201 + b"\n",
        b"stream-up\n",
        b"stream " + ID + b"\n",
        b"stream " + ID + b" {\n",
        b"poll " + ID + b" []\n",
        b"poll " + ID + b' {"session": 5}\n',
        b"poll " + ID + b' {"session": "\xff"}\n',
        b"poll " + ID + b' {"session": "\\ud800"}\n',
        b"poll " + ID + b' {"x": ' + b"[" * 950 + b"}\n",
        b"websocket " + ID + b" {}\n",
    ],
)
def test_what_is_nearly_a_message_is_refused(line: bytes) -> None:
    with pytest.raises(HTTPError) as refused:
        posts.parse_request(line)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "line", [b"{" * 10_000 + b"\n", b'{"x": ' + b"[" * 10_000 + b"}\n", b'{"session": 1}\n', b"<html>\n"]
)
def test_what_is_no_welcome_is_against_the_protocol(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        posts.parse_welcome(line)


def test_what_a_newer_end_says_besides_is_passed_over() -> None:
    line = b"poll " + ID + b' {"session": "new 5", "colour": ["red"]}\n'
    assert posts.parse_request(line) == Open("poll", ID, Hello("new 5"))
    assert posts.parse_welcome(b'{"session": "", "colour": "red"}\n') == Welcome()


# -- Lines


@given(st.binary(max_size=2 * posts.MAX_LINE))
def test_a_line_ends_behind_its_first_newline_or_is_too_long_or_has_not_come(data: bytes) -> None:
    end = data[: posts.MAX_LINE + 1].find(b"\n") + 1
    if not end and len(data) > posts.MAX_LINE:
        with pytest.raises(HTTPError):
            posts.line_end(data)
    else:
        assert posts.line_end(data) == (end or -1)


# -- Paths


@given(TEXTS.filter(bool), st.sampled_from(BASES))
def test_a_path_leads_to_its_endpoint(endpoint: str, base: str) -> None:
    target = posts.path(base, endpoint).encode()
    assert posts.endpoint_of(target, base) == endpoint
    assert posts.endpoint_of(target + b"?proxy=added", base) == endpoint
    assert [posts.endpoint_of(target, other) for other in BASES if other != base] == [None, None]


def test_no_two_paths_and_no_two_names_are_alike() -> None:
    assert len({posts.path(posts.UPSTREAM_PATH, "web") for _ in range(100)}) == 100
    assert len({posts.new_id() for _ in range(100)}) == 100


@given(st.binary(max_size=100) | st.binary(max_size=50).map(lambda tail: posts.UPSTREAM_PATH.encode() + tail))
def test_any_target_has_an_endpoint_or_none(target: bytes) -> None:
    endpoint = posts.endpoint_of(target, posts.UPSTREAM_PATH)
    assert endpoint is None or target.startswith(posts.UPSTREAM_PATH.encode())


# -- Secrets


@pytest.mark.parametrize(
    "message",
    [
        Up(SECRET.encode(), 5),
        Down(SECRET.encode(), 1, 1, 20),
        Close(SECRET.encode(), 1000, "stopping"),
        StreamUp(SECRET.encode()),
        Open("poll", SECRET.encode(), Hello(f"resume {SECRET} 1 5")),
        Hello(f"resume {SECRET} 1 5"),
        Welcome(f"opened {SECRET} 30"),
    ],
)
def test_names_are_not_shown(message: object) -> None:
    assert SECRET not in repr(message)
    assert SECRET not in f"{message}"
