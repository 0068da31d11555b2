"""Answers as generators read them."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf.crowd import Crowd
from perf.loads.http import Answer, Asker, NotHttp
from perf.loads.outcome import Watch

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nDigest: 1\r\n\r\n"
EMPTY_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + SIZED
BARE = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
ANSWERS = {SIZED: 5, CHUNKED: 5, EMPTY_CHUNKED: 0, EARLY: 5, BARE: 0}


def feed(pieces: list[bytes]) -> Answer:
    answer = Answer()
    for number, piece in enumerate(pieces, 1):
        assert answer.feed(piece) == (number == len(pieces))
    return answer


@pytest.mark.parametrize("message", ANSWERS)
def test_an_answer_is_complete_with_its_last_byte_whole_or_byte_by_byte(message: bytes) -> None:
    assert feed([message]).size == ANSWERS[message]
    assert feed([message[i : i + 1] for i in range(len(message))]).size == ANSWERS[message]


@given(st.sampled_from(list(ANSWERS)), st.data())
def test_any_split_of_an_answer_gives_the_same_size(message: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(message) - 1), max_size=5)))
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    assert feed(pieces).size == ANSWERS[message]


def test_without_a_length_the_end_of_the_connection_completes_the_answer() -> None:
    answer = Answer()
    assert not answer.feed(b"HTTP/1.0 200 OK\r\n\r\nhel")
    assert not answer.feed(b"lo")
    assert answer.feed(b"")
    assert answer.size == 5
    assert answer.head is not None
    assert answer.head.last


def test_connection_close_is_noticed() -> None:
    answer = feed([b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"])
    assert answer.head is not None
    assert answer.head.last


@pytest.mark.parametrize(
    "message",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"z" * 2000,
        b"x" * 70_000,
    ],
)
def test_what_is_not_http_is_refused(message: bytes) -> None:
    with pytest.raises(NotHttp):
        Answer().feed(message)


async def test_answers_that_repeat_and_answers_that_differ_are_all_counted() -> None:
    longer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhello!!"
    refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    answers = [SIZED, SIZED, longer, SIZED[:20], SIZED[20:], SIZED, refusal, refusal, CHUNKED, CHUNKED, longer]
    crowd, watch = Crowd(), Watch(lambda _: None, 0.0)
    watch.begin()
    near, far = socket.socketpair()
    near.setblocking(False)

    def ask(asker: Asker) -> None:
        if answers:
            asker.ask(b"GET / HTTP/1.1\r\n\r\n", 0.0)
            far.send(answers.pop(0))
        else:
            crowd.stop()

    def send_the_rest(_events: int) -> None:
        far.recv(1 << 16)
        if answers and answers[0] == SIZED[20:]:
            far.send(answers.pop(0))

    crowd.add(far.fileno(), send_the_rest)
    with near, far:
        ask(Asker(crowd, near, watch, ask, lambda _: crowd.stop()))
        await crowd.run()
    outcome = watch.end()
    assert answers == []
    assert outcome.answers == 8
    assert outcome.bytes_down == 5 * 6 + 7 * 2
    assert outcome.errors == {"status 503": 2}


def test_an_answer_cut_in_the_middle_is_not_an_answer() -> None:
    answer = Answer()
    answer.feed(SIZED[:-1])
    with pytest.raises(NotHttp):
        answer.feed(b"")
