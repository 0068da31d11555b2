"""Buckets and counts, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import limits
from engine.limits import BURST_SECONDS, Counts, Crowd, Rates, Traffic, Visits, Whose, client_of
from engine.node.aborts import ABORT_SECONDS, MAX_ABORTS, Aborts


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    rates = Rates(2)
    burst = round(2 * BURST_SECONDS)
    assert [rates.take("a", 0.0) for _ in range(burst)] == [0.0] * burst
    assert rates.take("a", 0.0) == pytest.approx(0.5)
    assert rates.take("b", 0.0) == 0.0  # which is another's
    assert rates.take("a", 0.5) == 0.0
    assert rates.take("a", 0.5) == pytest.approx(0.5)
    assert rates.refused == 2


@given(st.lists(st.floats(0, 30), max_size=300), st.integers(1, 20))
def test_no_more_comes_than_the_burst_and_the_rate(pauses: list[float], rate: int) -> None:
    rates, now, taken = Rates(rate), 0.0, 0
    for pause in pauses:
        now += pause
        wait = rates.take("a", now)
        taken += not wait
        assert wait <= 1 / rate + 1e-6
    assert taken <= rate * (BURST_SECONDS + now) + 1e-6


def test_without_a_rate_nothing_is_kept_and_all_is_taken() -> None:
    rates = Rates(0)
    assert all(rates.take(str(number), 0.0) == 0.0 for number in range(100))
    assert not rates._buckets


def test_a_table_is_bounded_and_forgets_who_was_heard_of_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PARTIES", 3)
    rates = Rates(0.1)
    for party in "abcad":
        rates.take(party, 0.0)
    assert list(rates._buckets) == ["c", "a", "d"]


def test_a_count_is_given_back() -> None:
    counts = Counts(2)
    with ExitStack() as held:
        for _ in range(2):
            assert not counts.is_full("a")
            held.enter_context(counts.hold("a"))
        assert counts.is_full("a")
        assert not counts.is_full("b")
    assert not counts.is_full("a")
    assert not counts._held
    assert counts.refused == 1


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("127.0.0.1", ""),
        ("127.8.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("a unix socket", "a unix socket"),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str, client: str) -> None:
    assert client_of(address) == client


def test_this_machine_is_not_counted() -> None:
    visits = Visits(1, 1)
    with ExitStack() as held:
        for _ in range(50):
            assert not visits.refuse("127.0.0.1", 0.0)
            held.enter_context(visits.hold("127.0.0.1"))
        assert not visits.refuse("192.0.2.7", 0.0)
        held.enter_context(visits.hold("192.0.2.7"))
        assert visits.refuse("192.0.2.7", 0.0)
    assert visits.refused == {"connections": 1, "connection_rate": 0}


def whose(endpoint: str = "web", party: str = "", tenant: str = "") -> Whose:
    return Whose(endpoint, party, tenant)


def test_what_has_passed_is_missing_for_the_next_request() -> None:
    traffic = Traffic((0, 0, 0), (1000, 0, 0))
    assert traffic.ask(whose(), 0.0) == 0
    traffic.passed(whose(), 0.0, 15_000)
    assert traffic.ask(whose(), 0.0) == 6
    assert traffic.ask(whose(party="other"), 0.0) == 0
    assert traffic.ask(whose(), 6.0) == 0
    assert {name: count for name, count in traffic.refused.items() if count} == {"bytes": 1}


def test_a_party_and_a_tenant_have_limits_of_their_own() -> None:
    traffic = Traffic((0, 1, 2), (0, 0, 0))
    for number in range(10):
        assert traffic.ask(whose(f"web-{number}", "alice", "acme"), 0.0) == 0
    assert traffic.ask(whose("another", "alice", "acme"), 0.0) == 1  # whatever the endpoint
    for _ in range(10):
        assert traffic.ask(whose("web", "bob", "acme"), 0.0) == 0
    assert traffic.ask(whose("web", "carol", "acme"), 0.0) == 1  # the tenant has had its twenty
    assert traffic.ask(whose("web", "carol", "beta"), 0.0) == 0
    assert all(traffic.ask(whose(), 0.0) == 0 for _ in range(100))  # who has no name has no limit of that kind
    assert {name: count for name, count in traffic.refused.items() if count} == {
        "principal_requests": 1,
        "tenant_requests": 1,
    }


def test_what_is_refused_costs_nothing() -> None:
    traffic = Traffic((1, 0, 1), (0, 0, 0))
    for _ in range(10):
        assert traffic.ask(whose(tenant="acme"), 0.0) == 0
    assert all(traffic.ask(whose(tenant="acme"), 0.0) for _ in range(50))
    assert traffic.ask(whose(tenant="acme"), 1.0) == 0


def test_a_pace_lets_a_burst_through_and_then_its_rate() -> None:
    traffic = Traffic((0, 0, 0), (0, 1000, 500))
    pace = traffic.pace(whose("web", "alice", "acme"))
    assert pace is not None
    assert pace(5000 - 1, 0.0) == 0
    assert pace(1001, 0.0) == pytest.approx(2, abs=0.01)  # the tenant's debt is the longer one
    other = traffic.pace(whose("else", "bob", "acme"))
    assert other is not None
    assert other(0, 0.0) == pytest.approx(2, abs=0.01)  # and it is all of the tenant's
    assert traffic.pace(whose()) is None
    assert traffic.refused["tenant_bytes"] == 2
    assert Traffic((1, 1, 1), (0, 0, 0)).pace(whose("web", "alice", "acme")) is None


# -- one limit for several processes


def together(tables: Sequence[Counts | Rates]) -> None:
    """Have them tell each other, as if it took no time."""

    def tell(number: int, party: str, amount: float) -> None:
        for one in (*tables[:number], *tables[number + 1 :]):
            if isinstance(one, Counts):
                one.hold_elsewhere(str(number), party, round(amount))
            else:
                one.charge_elsewhere(party, 0.0, amount)

    for number, table in enumerate(tables):
        table.share(len(tables), partial(tell, number))


@given(st.integers(1, 400), st.integers(2, 4), st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=600))
def test_a_count_holds_for_all_processes_within_a_sixteenth(
    limit: int, processes: int, moves: list[tuple[int, bool]]
) -> None:
    tables = [Counts(limit) for _ in range(processes)]
    together(tables)
    held = [0] * processes
    for process, comes in [(0, True)] * (limit // 2) + moves:
        process %= processes
        table = tables[process]
        if comes:
            full = table.is_full("a")
            assert full or sum(held) < limit + limit / 16
            assert not full or sum(held) > limit - 1 - limit / 16
            if not full:
                table.enter("a")
                held[process] += 1
        elif held[process]:
            table.leave("a")
            held[process] -= 1
    for process, table in enumerate(tables):
        for _ in range(held[process]):
            table.leave("a")
    for table in tables:  # nothing is left behind
        assert not table._held
        assert not table._elsewhere
        assert not table._of_others
        assert not table.told()


def test_a_small_count_is_exact_and_who_is_gone_holds_nothing() -> None:
    tables = [Counts(10) for _ in range(4)]
    together(tables)
    for number in range(10):
        assert not tables[number % 4].is_full("a")
        tables[number % 4].enter("a")
    assert all(table.is_full("a") for table in tables)
    tables[0].forget("1")  # which had three
    assert not tables[0].is_full("a")
    tables[2].put_elsewhere({"0": {"a": 7}})
    assert not tables[2].is_full("a")
    tables[2].hold_elsewhere("3", "a", 1)
    assert tables[2].is_full("a")


@given(st.integers(1, 30), st.integers(2, 4), st.lists(st.integers(0, 3), min_size=200, max_size=400))
def test_a_rate_holds_for_all_processes_within_a_sixteenth(rate: int, processes: int, turns: list[int]) -> None:
    tables = [Rates(rate) for _ in range(processes)]
    together(tables)
    taken = sum(not tables[turn % processes].take("a", 0.0) for turn in turns)
    burst = rate * BURST_SECONDS
    assert taken <= burst + burst / 16
    assert taken >= min(len(turns), burst - burst / 16)


def test_who_is_banned_by_one_process_is_by_all() -> None:
    processes = [Aborts() for _ in range(2)]
    together([one.rates for one in processes])
    count = 0
    while not processes[0].is_banned("192.0.2.7", 0.0):
        processes[count % 2].count("192.0.2.7", 0.0)
        count += 1
    assert MAX_ABORTS <= count <= MAX_ABORTS * 17 / 16 + 1
    assert processes[1].is_banned("192.0.2.7", ABORT_SECONDS - 0.1)
    assert not processes[1].is_banned("192.0.2.8", 0.0)
    for one in processes:
        assert not one.is_banned("192.0.2.7", 1.2 * ABORT_SECONDS)
    assert processes[0].banned + processes[1].banned == 1


def test_a_crowd_is_bounded_in_all_by_address_and_by_principal() -> None:
    crowd = Crowd(5, 2)
    for _ in range(2):
        crowd.enter("192.0.2.7", "alice")
    assert crowd.is_full("192.0.2.8", "alice")
    assert crowd.is_full("192.0.2.7", "")
    assert not crowd.is_full("192.0.2.8", "")
    for last in range(3):
        crowd.enter(f"192.0.2.{last}", "")
    assert crowd.is_full("192.0.2.9", "bob")
    crowd.leave("192.0.2.7", "alice")
    assert not crowd.is_full("192.0.2.7", "alice")
    assert crowd.refused == 3
