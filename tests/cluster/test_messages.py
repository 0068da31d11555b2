"""What a supervisor and its workers say to each other."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.entry import Change, Entry
from engine.cluster.messages import (
    LENGTH_SIZE,
    MAX_MESSAGE,
    Accept,
    Answer,
    Ask,
    Begin,
    Changed,
    Decoder,
    Gone,
    Leave,
    Message,
    Peers,
    Ready,
    Session,
    Sockets,
    Stop,
    ToSupervisor,
    ToWorker,
    encode,
)
from engine.errors import RemoteProtocolError

ENTRY = Entry("node.1", "a", "unix:/tmp/x/1", 3, {"web": 2, "häuser": 1})
BEGIN = Begin(0, 2, "node.1", "node", b"\x00secret", "/tmp/x/1", [Sockets([3], [4, 5], [[6]])], [("proxy.tcp", ":1")])
SAID: list[Message] = [
    BEGIN,
    Peers([ENTRY]),
    Accept([0, 1]),
    Changed(Change("node.1", "a", 4, "web", 0)),
    Gone("node.2"),
    Ask(7),
    Leave(),
    Stop(),
]


@given(st.lists(st.integers(min_value=1, max_value=40)))
def test_messages_are_read_as_they_were_written_however_they_are_split(sizes: list[int]) -> None:
    data = b"".join(map(encode, SAID))
    decoder: Decoder[Message] = Decoder(ToWorker)
    heard: list[Message] = []
    for size in [*sizes, len(data)]:
        heard += decoder.receive(data[:size])
        data = data[size:]
    assert heard == SAID


def test_a_worker_s_messages_are_read_too() -> None:
    said = [
        Ready(ENTRY),
        Answer(
            1,
            [Session("web", "me", "1.2.3.4", 1.5, "poll", True)],
            [("a", "counter", "A.", [("a_total", {"x": "y"}, 2.0)])],
        ),
    ]
    assert list(Decoder[Message](ToSupervisor).receive(b"".join(map(encode, said)))) == said


def test_the_secret_is_in_no_repr() -> None:
    assert "secret" not in repr(BEGIN)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_SIZE) + body


@pytest.mark.parametrize(
    "data",
    [
        (MAX_MESSAGE + 1).to_bytes(LENGTH_SIZE),
        framed(b""),
        framed(b"\xc1"),
        framed(msgspec.msgpack.encode({"type": "Nonsense"})),
        framed(msgspec.msgpack.encode({"type": "Accept", "of": ["1"]})),
        framed(msgspec.msgpack.encode({"type": "Accept"})),
        framed(msgspec.msgpack.encode({"type": "Gone", "id": "ab"}).replace(b"ab", b"\xff\xfe")),
        framed(b"\x82\xa4type\xa4Gone\xa1x" + b"\x91" * 100_000),
        encode(Ready(ENTRY)),  # which is what the other end may say
    ],
)
def test_what_is_no_message_is_a_defect_of_the_other_end(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        list(Decoder[Message](ToWorker).receive(data))


@given(st.binary())
def test_anything_is_messages_or_a_defect(data: bytes) -> None:
    try:
        list(Decoder[Message](ToWorker).receive(framed(data)))
    except RemoteProtocolError:
        pass
