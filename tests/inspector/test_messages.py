"""WebSocket messages followed from bytes, which wsproto has made."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameProtocol

from engine.inspector.messages import FRAMES_AT_ONCE, INFLATED_BYTES, MESSAGE_BYTES, MOST_MESSAGES, Messages


class Followed:
    """Both ends of a WebSocket, and what is followed of it."""

    def __init__(self, *, compressed: bool = False) -> None:
        self.held = 0
        self.messages = Messages(compressed=compressed, keep=self._keep)
        self.client = FrameProtocol(client=True, extensions=self._extensions(compressed))
        self.service = FrameProtocol(client=False, extensions=self._extensions(compressed))

    @staticmethod
    def _extensions(compressed: bool) -> list[Extension]:
        if not compressed:
            return []
        extension = PerMessageDeflate()
        extension.finalize("permessage-deflate")
        return [extension]

    def _keep(self, size: int) -> None:
        self.held += size

    def hear(self, data: bytes, *, to_service: bool = True) -> None:
        self.messages.receive(data, to_service=to_service, seconds=1.0)

    def told(self) -> list[tuple[bool, str, bytes]]:
        return [(message.to_service, message.kind, message.data) for message in self.messages.latest]


@pytest.mark.parametrize("compressed", [False, True])
def test_both_ways_are_followed(compressed: bool) -> None:
    followed = Followed(compressed=compressed)
    for text in ("hello", "hello again", ""):
        followed.hear(bytes(followed.client.send_data(text)))
        followed.hear(bytes(followed.service.send_data(text.encode())), to_service=False)
    followed.hear(bytes(followed.client.ping(b"there?")))
    followed.hear(bytes(followed.client.close(CloseReason.NORMAL_CLOSURE, "done")))
    followed.hear(b"what comes behind a close is nobody's")
    assert followed.told() == [
        (True, "text", b"hello"),
        (False, "binary", b"hello"),
        (True, "text", b"hello again"),
        (False, "binary", b"hello again"),
        (True, "text", b""),
        (False, "binary", b""),
        (True, "ping", b"there?"),
        (True, "close", b"\x03\xe8done"),
    ]
    assert followed.messages.notes == []
    assert followed.held == sum(len(data) for _, _, data in followed.told())


@given(st.lists(st.integers(1, 60), max_size=30), st.booleans())
def test_any_split_gives_the_same(cuts: list[int], compressed: bool) -> None:
    followed = Followed(compressed=compressed)
    parts = [followed.client.send_data("one", fin=False), followed.client.ping(b"p"), followed.client.send_data("two")]
    data = b"".join(map(bytes, [*parts, followed.client.send_data(b"x" * 300)]))
    for cut in cuts:
        followed.hear(data[:cut])
        data = data[cut:]
    followed.hear(data)
    assert followed.told() == [(True, "ping", b"p"), (True, "text", b"onetwo"), (True, "binary", b"x" * 300)]


@pytest.mark.parametrize("compressed", [False, True])
def test_of_a_long_message_the_beginning_is_kept(compressed: bool) -> None:
    followed = Followed(compressed=compressed)
    for text in ("a" * 50_000, "b"):
        followed.hear(bytes(followed.client.send_data(text)))
    long, short = followed.messages.latest
    assert (long.data, long.cut) == (b"a" * MESSAGE_BYTES, True)
    assert (short.data, short.cut) == (b"b", False)
    assert followed.held == MESSAGE_BYTES + 1


def test_a_compressed_bomb_is_not_inflated() -> None:
    followed = Followed(compressed=True)
    followed.hear(bytes(followed.client.send_data(bytes(20 * INFLATED_BYTES))))
    followed.hear(bytes(followed.client.send_data("behind it")))
    assert followed.told() == [(True, "binary", bytes(MESSAGE_BYTES))]
    assert followed.messages.notes == ["client: a compressed message of more than 1 MiB"]
    followed.hear(bytes(followed.service.send_data("the other way")), to_service=False)
    assert followed.told()[1:] == [(False, "text", b"the other way")]


def test_the_oldest_messages_are_forgotten_and_counted() -> None:
    followed = Followed()
    for number in range(MOST_MESSAGES + 5):
        followed.hear(bytes(followed.client.send_data(f"{number:06}")))
    assert len(followed.messages.latest) == MOST_MESSAGES
    assert followed.messages.latest[0].data == b"000005"
    assert followed.messages.forgotten == 5
    assert followed.held == 6 * MOST_MESSAGES


def test_a_flood_of_small_messages_is_left_alone() -> None:
    followed = Followed()
    small = bytes(followed.client.send_data(b""))
    followed.hear(small * (2 * FRAMES_AT_ONCE))
    assert len(followed.messages.latest) == FRAMES_AT_ONCE
    followed.hear(small)
    assert len(followed.messages.latest) == MOST_MESSAGES or len(followed.messages.latest) == 2 * FRAMES_AT_ONCE
    followed.hear(small * 200_000)
    assert followed.messages.notes == ["client: more small messages than are followed"]
    followed.hear(small)


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x80\x80mask", b"\x81\x05hello"])
def test_what_is_no_websocket_is_said_once(data: bytes) -> None:
    followed = Followed()
    for _ in range(3):
        followed.hear(data)
    assert len(followed.messages.notes) == 1
    assert followed.messages.notes[0].startswith("client: no WebSocket any more: ")
    assert followed.told() == []


@given(st.binary(max_size=400), st.booleans())
def test_nothing_that_comes_raises(data: bytes, compressed: bool) -> None:
    followed = Followed(compressed=compressed)
    followed.hear(data)
    followed.hear(data, to_service=False)


def test_a_message_may_be_a_stream_of_its_own() -> None:
    followed = Followed(compressed=True)
    for text in (b"first", b"second"):
        squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = squeezer.compress(text) + squeezer.flush()
        followed.hear(bytes((0xC1, len(data))) + data, to_service=False)
    assert [data for _, _, data in followed.told()] == [b"first", b"second"]
