"""What the other end of a stream may send: granted back when half is used up, grown while it is used up fast, and
bounded for the session.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.session.window import BUSY_SECONDS, MAX_FIRST_WINDOW, MAX_WINDOW, Pool, Window, first_window
from engine.wire.yamux import INITIAL_WINDOW

HALF = INITIAL_WINDOW // 2
FAST, SLOW = 0.05, 1000.0  # a round trip that what came fits into, or does not


def test_a_first_window_is_what_a_round_trip_is_believed_to_carry_within_bounds() -> None:
    assert first_window(0.0) == first_window(0.001) == INITIAL_WINDOW
    assert first_window(0.05) == 2_000_000
    assert first_window(10.0) == MAX_FIRST_WINDOW


def test_nothing_is_granted_before_half_a_window_is_passed_on() -> None:
    window = Window(Pool())
    assert not window.passed_on(HALF - 1)
    assert window.grant(0.0, FAST) == 0
    assert window.passed_on(1)
    assert window.grant(SLOW, FAST) == HALF
    assert window.grant(SLOW, FAST) == 0
    assert window.size == INITIAL_WINDOW


def test_a_window_that_is_used_up_within_a_round_trip_doubles_up_to_its_bound() -> None:
    pool = Pool(limit=1 << 40)
    window = Window(pool)
    now, sizes = 0.0, []
    for _ in range(10):
        now += 2 * FAST
        window.passed_on(window.size)
        granted = window.grant(now, FAST)
        assert granted == window.size, "what was used up, and what it has grown by"
        sizes.append(window.size)
    assert sizes == [min(INITIAL_WINDOW * 2**n, MAX_WINDOW) for n in range(1, 11)]
    assert pool.granted == MAX_WINDOW


def test_one_that_is_used_up_slowly_stays_as_it_is() -> None:
    window = Window(Pool())
    now = 0.0
    for _ in range(10):
        now += 2 * FAST + 2 * BUSY_SECONDS
        window.passed_on(INITIAL_WINDOW)
        assert window.grant(now, FAST) == INITIAL_WINDOW
    assert window.size == INITIAL_WINDOW


def test_what_a_receiver_holds_back_is_granted_when_it_goes_on() -> None:
    window = Window(Pool())
    window.hold(INITIAL_WINDOW)
    assert window.grant(SLOW, FAST) == 0
    window.let_go()
    assert window.grant(SLOW, FAST) == INITIAL_WINDOW


def test_streams_have_the_protocols_window_even_where_the_pool_is_empty_and_none_grows_then() -> None:
    pool = Pool(limit=INITIAL_WINDOW + 1000)
    first, second = Window(pool), Window(pool)
    assert pool.granted == 2 * INITIAL_WINDOW
    assert first.widen(MAX_WINDOW) == 0
    second.close()
    assert first.widen(MAX_WINDOW) == 1000
    assert pool.granted == pool.limit
    first.close()
    assert pool.granted == 0


def test_one_that_is_closed_twice_gives_its_share_back_once() -> None:
    pool = Pool()
    window, other = Window(pool), Window(pool)
    window.close()
    window.close()
    assert pool.granted == other.size


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["pass on", "hold", "let go", "grant", "widen", "close"]),
        st.integers(0, 3 * INITIAL_WINDOW),
        st.floats(0, 1),
    ),
    max_size=60,
)


@pytest.mark.interpreted
@given(STEPS, st.integers(0, 8 * INITIAL_WINDOW))
def test_a_pool_counts_what_its_windows_may_have_under_way_and_no_more_is_granted(
    steps: list[tuple[int, str, int, float]], limit: int
) -> None:
    """The other end may never have more under way than the window's size, whatever is granted when."""
    pool = Pool(limit)
    windows = [Window(pool) for _ in range(4)]
    under_way = [INITIAL_WINDOW] * 4  # what the other end may send now
    unpaid = [0] * 4  # what has come and is not granted back
    closed: set[int] = set()
    now = 0.0
    for number, what, size, seconds in steps:
        window = windows[number]
        now += seconds
        if number in closed:
            continue
        if what in ("pass on", "hold"):
            size = min(size, under_way[number])
            under_way[number] -= size
            unpaid[number] += size
            (window.passed_on if what == "pass on" else window.hold)(size)
        elif what == "let go":
            window.let_go()
        elif what == "close":
            window.close()
            closed.add(number)
            under_way[number] = unpaid[number] = 0
        else:
            before = window.size
            granted = window.grant(now, seconds) if what == "grant" else window.widen(size)
            under_way[number] += granted
            unpaid[number] -= granted - (window.size - before)
        assert unpaid[number] >= 0, "more was granted than had been passed on"
        assert under_way[number] + unpaid[number] == window.size
        assert pool.granted == sum(window.size for window in windows)
        assert pool.granted <= max(limit, INITIAL_WINDOW * 4)
