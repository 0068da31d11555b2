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


def test_the_avoided_one_is_skipped_while_there_is_another() -> None:
    members = round_of("a", "b", "c")
    assert [members.next(avoid="b") for _ in range(4)] == list("acac")


def test_the_avoided_one_is_taken_when_there_is_no_other() -> None:
    assert round_of("a").next(avoid="a") == "a"


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
