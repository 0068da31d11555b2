"""What was sent and is not confirmed: exactly that is given again, whatever was confirmed, and in whatever pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.carriers.retained import SMALL, Retained
from engine.wire.yamux import CONFIRM_WRAP

SIZES = st.integers(0, 2 * SMALL) | st.integers(0, 20)
PUTS = st.lists(SIZES, max_size=3)
STEPS = st.lists(PUTS | st.floats(0, 1), max_size=40)


def pattern(start: int, size: int) -> bytes:
    """Bytes that tell where in the session they stand."""
    return bytes((at * 7 + at // 256) % 256 for at in range(start, start + size))


def given_again(retained: Retained) -> bytes:
    return b"".join(b"".join(parts) for parts in retained.unconfirmed())


@given(STEPS)
def test_what_is_not_confirmed_is_given_again(steps: list[list[int] | float]) -> None:
    retained, said, confirmed = Retained(), b"", 0
    for step in steps:
        if isinstance(step, float):
            count = confirmed + int(step * (len(said) - confirmed))
            assert retained.confirm(count) == count - confirmed
            confirmed = count
        else:
            parts = tuple(pattern(len(said) + sum(step[:index]), size) for index, size in enumerate(step))
            retained.keep(sum(step), parts)
            said += b"".join(parts)
        assert (retained.sent, retained.confirmed, retained.size) == (len(said), confirmed, len(said) - confirmed)
        assert given_again(retained) == said[confirmed:]


@given(st.integers(0, 5000), st.integers(-5000, 10_000))
def test_only_what_was_sent_and_not_yet_confirmed_can_be_confirmed(confirmed: int, count: int) -> None:
    retained = Retained()
    retained.keep(5000, (bytes(5000),))
    retained.confirm(confirmed)
    if confirmed <= count <= 5000:
        assert retained.confirm(count) == count - confirmed
    else:
        with pytest.raises(ValueError, match="confirmed"):
            retained.confirm(count)
        assert retained.confirmed == confirmed


@given(st.integers(0, 5 * CONFIRM_WRAP), st.integers(0, CONFIRM_WRAP // 2 - 1))
def test_a_count_is_known_by_its_low_bits_however_often_they_have_wrapped(confirmed: int, more: int) -> None:
    retained = Retained()
    retained.confirmed = confirmed
    assert retained.expand((confirmed + more) % CONFIRM_WRAP) == confirmed + more


@given(st.integers(0, 5 * CONFIRM_WRAP), st.integers(1, CONFIRM_WRAP // 2))
def test_a_confirmation_that_comes_late_says_nothing_new(confirmed: int, behind: int) -> None:
    retained = Retained()
    retained.confirmed = confirmed
    assert retained.expand((confirmed - behind) % CONFIRM_WRAP) == confirmed


@given(st.lists(st.integers(1, 20), min_size=100, max_size=100))
def test_many_small_pieces_are_kept_as_a_few(sizes: list[int]) -> None:
    retained = Retained()
    for size in sizes:
        retained.keep(size, (bytes(size),))
    assert len(list(retained.unconfirmed())) <= 1 + 2 * sum(sizes) // SMALL


def test_what_nobody_will_ask_for_is_forgotten() -> None:
    retained = Retained()
    retained.keep(5, (b"hello",))
    retained.clear()
    assert (retained.size, given_again(retained)) == (0, b"")
