"""Datagrams in frames: however the stream is cut, each comes as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.datagrams import (
    MAX_FLOW,
    MAX_LINE,
    MOST,
    OPEN,
    READY,
    DatagramError,
    Reader,
    encode_head,
    encode_over,
    line_end,
)

Frames = list[tuple[int, bytes | None]]


def encode(frames: Frames) -> bytes:
    return b"".join(encode_over(flow) if data is None else encode_head(flow, len(data)) + data for flow, data in frames)


def read(pieces: list[bytes]) -> Frames:
    reader, found = Reader(), []
    for piece in pieces:
        reader.position = 0
        while (frame := reader.next(memoryview(piece))) is not None:
            flow, data = frame
            found.append((flow, None if data is None else bytes(data)))
        assert reader.position == len(piece)
    return found


@given(
    st.lists(st.tuples(st.integers(0, MAX_FLOW), st.none() | st.binary(max_size=30)), max_size=8),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_frames_come_whole_wherever_the_stream_is_cut(frames: Frames, cuts: list[int]) -> None:
    said = encode(frames)
    places = sorted(min(cut, len(said)) for cut in cuts)
    pieces = [said[start:end] for start, end in zip([0, *places], [*places, len(said)], strict=True)]
    assert read(pieces) == frames
    assert read([said[at : at + 1] for at in range(len(said))]) == frames


def test_the_smallest_and_the_largest_pass() -> None:
    frames: Frames = [(0, b""), (MAX_FLOW, bytes(MOST)), (7, None), (7, b"x")]
    said = encode(frames)
    assert read([said]) == frames
    assert read([said[:3], said[3:40_000], said[40_000:]]) == frames


@pytest.mark.parametrize("size", [MOST + 1, 65534])
def test_a_size_that_no_datagram_has_is_refused_with_its_head(size: int) -> None:
    for pieces in ([encode_head(1, size)], [encode_head(1, size)[:5], encode_head(1, size)[5:]]):
        with pytest.raises(DatagramError, match=f"a datagram of {size} bytes, more than {MOST}"):
            read(pieces)


@pytest.mark.parametrize("line", [OPEN, READY])
def test_the_first_line_ends_where_frames_begin(line: bytes) -> None:
    assert line_end(line + b"\0\0", line) == len(line)
    assert {line_end(line[:size], line) for size in range(len(line))} == {-1}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"trioduct udp 2 ready\n", "expected version 1 of UDP in a tunnel, got 2"),
        (READY.replace(b"1", b"12"), "expected version 1 of UDP in a tunnel, got 12"),
        (OPEN, "expected UDP in a tunnel: b'trioduct udp 1 open"),  # an echo
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "expected UDP in a tunnel: b'SSH-2.0-OpenSSH_9.2p1"),
        (b"\n", "expected UDP in a tunnel: b'.n'"),
        (bytes(MAX_LINE), "expected UDP in a tunnel"),
    ],
)
def test_what_is_no_such_line_is_told_of(said: bytes, text: str) -> None:
    with pytest.raises(DatagramError, match=text):
        line_end(said, READY)
