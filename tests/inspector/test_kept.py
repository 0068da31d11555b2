"""The first bytes of a body."""

from __future__ import annotations

from engine.inspector.kept import BODY_BYTES, Kept


def test_the_first_bytes_are_kept_and_all_are_counted() -> None:
    kept = Kept()
    assert kept.whole
    assert kept.add(memoryview(b"abc")) == 3
    assert kept.add(b"") == 0
    assert (bytes(kept.data), kept.size, kept.whole) == (b"abc", 3, True)
    assert kept.add(b"x" * BODY_BYTES) == BODY_BYTES - 3
    assert kept.add(b"y") == 0
    assert (len(kept.data), kept.size, kept.whole) == (BODY_BYTES, BODY_BYTES + 4, False)


def test_nothing_is_kept_behind_a_gap() -> None:
    kept = Kept()
    kept.size = 5  # that were not kept
    assert kept.add(b"abc") == 0
    assert (bytes(kept.data), kept.size) == (b"", 8)
