"""Round robin: fair, whoever comes and goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.routing.balance import RoundRobin


def round_of(*members: str) -> RoundRobin[str]:
    made: RoundRobin[str] = RoundRobin()
    for member in members:
        made.add(member)
    return made


def test_nobody_is_next_among_none() -> None:
    assert round_of().next() is None


def test_members_take_turns_in_the_order_they_joined() -> None:
    members = round_of("a", "b", "c")
    assert [members.next() for _ in range(7)] == list("abcabca")


def test_who_joins_is_the_last_of_the_round() -> None:
    members = round_of("a", "b")
    assert members.next() == "a"
    members.add("c")
    assert [members.next() for _ in range(4)] == list("bcab")


@pytest.mark.parametrize(("leaves", "then"), [(0, "cdbcdb"), (1, "cdacda"), (3, "cabcab")])
def test_who_leaves_costs_nobody_else_a_turn(leaves: int, then: str) -> None:
    everybody = list("abcd")
    members = round_of(*everybody)
    assert [members.next(), members.next()] == ["a", "b"]
    members.remove(everybody[leaves])
    assert "".join(str(members.next()) for _ in range(6)) == then


def test_a_stranger_cannot_leave() -> None:
    members = round_of("a")
    assert not members.remove("b")
    assert members.remove("a")
    assert not members.remove("a")


def test_in_place_of_the_avoided_one_another_is_drawn_and_loses_no_turn() -> None:
    members = round_of("a", "b", "c")
    drawn = turns(members, 60, avoid="b")
    assert set(drawn) == {"a", "c"}
    assert turns(members, 6) == "abcabc"


def test_the_avoided_one_is_taken_when_there_is_no_other() -> None:
    assert round_of("a").next(avoid="a") == "a"


def weighted(**weights: int) -> RoundRobin[str]:
    made: RoundRobin[str] = RoundRobin()
    for member, weight in weights.items():
        made.add(member, weight)
    return made


def turns(members: RoundRobin[str], count: int, avoid: str | None = None) -> str:
    return "".join(str(members.next(avoid)) for _ in range(count))


@pytest.mark.parametrize(
    ("weights", "cycle"),
    [
        ({"a": 3, "b": 1}, "abaa"),
        ({"b": 1, "a": 3}, "abaa"),
        ({"a": 50, "b": 50, "c": 50}, "abc"),
        ({"a": 200, "b": 100}, "aba"),
        ({"a": 5, "b": 3, "c": 2}, "abcaababca"),
    ],
)
def test_members_have_their_share_of_the_turns(weights: dict[str, int], cycle: str) -> None:
    assert turns(weighted(**weights), 3 * len(cycle)) == 3 * cycle


def test_who_is_lighter_waits_no_longer_than_has_to_be() -> None:
    served = turns(weighted(a=100, b=51), 151)
    assert (served.count("a"), served.count("b")) == (100, 51)
    assert "aaaa" not in served


def test_others_are_drawn_by_their_weight() -> None:
    members = weighted(a=256, b=1, c=3)
    drawn = turns(members, 400, avoid="a")
    assert drawn.count("b") + drawn.count("c") == 400
    assert 250 < drawn.count("c") < 350


def test_shares_change_with_who_is_there() -> None:
    members = weighted(a=2, b=1)
    assert turns(members, 1) == "a"
    members.add("c", 4)
    served = turns(members, 70)
    assert {one: served.count(one) for one in "abc"} == {"a": 20, "b": 10, "c": 40}
    members.remove("c")
    members.remove("a")
    assert turns(members, 2) == "bb"
    members.remove("b")
    assert members.next() is None


@given(st.lists(st.integers(1, 256), min_size=1, max_size=9), st.integers(0, 300))
def test_any_cycle_gives_everybody_their_share(weights: list[int], before: int) -> None:
    members: RoundRobin[int] = RoundRobin()
    for member, weight in enumerate(weights):
        members.add(member, weight)
    for _ in range(before):
        members.next()
    served = [members.next() for _ in range(sum(weights))]
    assert [served.count(member) for member in range(len(weights))] == weights


class Member:
    """Equal to every other one, as opaque sessions may be."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # nor need they be hashable


def test_members_are_told_apart_by_identity() -> None:
    one, two = Member(), Member()
    members: RoundRobin[Member] = RoundRobin()
    members.add(one)
    members.add(two)
    members.remove(two)
    assert members.next() is one


@given(st.lists(st.one_of(st.integers(0, 5), st.none()), max_size=60))
def test_between_changes_nobody_is_served_twice_before_everybody_was_once(steps: list[int | None]) -> None:
    members: RoundRobin[int] = RoundRobin()
    present: set[int] = set()
    served: list[int] = []
    for step in steps:
        if step is None:
            member = members.next()
            assert (member is None) == (not present)
            if member is not None:
                assert member in present
                assert member not in served[-len(present) + 1 :] or len(present) == 1
                served.append(member)
        else:
            served.clear()
            if step in present:
                present.remove(step)
                members.remove(step)
            else:
                present.add(step)
                members.add(step)
    assert len(members) == len(present)
