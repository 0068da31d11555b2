"""Buckets and counts, by a clock that the test turns."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import limits
from engine.limits import BURST_SECONDS, Counts, Rates, Traffic, Visits, Whose, client_of


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
