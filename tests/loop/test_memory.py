"""Accounts: what is held for whom, its limits, and who is ended for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.loop import memory as memory_module
from engine.loop.memory import MIB, SHARE, Account, Memory, process_limit, shares


class Owner:
    """Frees what it holds when it is told to; `ended` says in which order owners were."""

    ended: list[str]

    def __init__(self, memory: Memory, name: str, ended: list[str], limit: int = 1000) -> None:
        self.name = name
        self.ended = ended
        self.account = Account(memory, self, limit)

    def overdrawn(self) -> None:
        self.ended.append(self.name)
        self.account.close()


@pytest.fixture
def memory() -> Memory:
    return Memory(100)


@pytest.fixture
def owners(memory: Memory) -> list[Owner]:
    ended: list[str] = []
    return [Owner(memory, name, ended) for name in "abc"]


def test_a_charge_over_the_limit_is_booked_and_told(memory: Memory) -> None:
    account = Owner(memory, "a", [], limit=10).account
    assert account.charge(10)
    assert not account.charge(1)
    assert (account.used, memory.used) == (11, 11)
    account.release(5)
    assert account.charge(4)


def test_no_more_is_released_than_is_held(memory: Memory, owners: list[Owner]) -> None:
    owners[0].account.charge(5)
    owners[1].account.charge(5)
    owners[0].account.release(50)
    assert (owners[0].account.used, memory.used) == (0, 5)
    owners[1].account.close()
    owners[1].account.close()
    assert memory.used == 0


def test_who_has_moved_nothing_for_longest_is_ended_first_and_no_more_than_needed(
    memory: Memory, owners: list[Owner]
) -> None:
    a, b, c = owners
    a.account.charge(40)
    b.account.charge(40)
    c.account.charge(40)
    a.account.release(1)  # it takes something: now b is the one that has moved nothing for longest
    memory.reclaim()
    assert a.ended == ["b"]
    assert (memory.used, memory.ended) == (79, 1)


def test_another_charge_is_no_movement(memory: Memory, owners: list[Owner]) -> None:
    a, b, _ = owners
    a.account.charge(40)
    b.account.charge(40)
    a.account.charge(40)
    memory.reclaim()
    assert a.ended == ["a"]


def test_below_the_limit_nobody_is_ended(memory: Memory, owners: list[Owner]) -> None:
    owners[0].account.charge(100)
    memory.reclaim()
    assert owners[0].ended == []


def test_an_owner_that_frees_nothing_is_not_asked_for_ever(memory: Memory) -> None:
    class Stubborn:
        def overdrawn(self) -> None: ...

    Account(memory, Stubborn()).charge(1000)
    memory.reclaim()
    assert (memory.used, memory.ended) == (0, 1)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-60, 60)), max_size=60))
def test_the_whole_is_the_sum_of_its_accounts(moves: list[tuple[int, int]]) -> None:
    memory = Memory(100)
    ended: list[str] = []
    owners = [Owner(memory, name, ended) for name in "abc"]
    for number, size in moves:
        account = owners[number].account
        if size < 0:
            account.release(-size)
        elif size:
            account.charge(size)
        memory.reclaim()
        assert memory.used == sum(owner.account.used for owner in owners) <= memory.limit
        assert set(memory._holders) == {owner.account for owner in owners if owner.account.used}


@given(st.integers(0, 1 << 40), st.lists(st.integers(0, 1 << 40), max_size=9))
def test_shares_are_the_limit_together_unless_more_is_in_use_by_some_than_there_is(limit: int, used: list[int]) -> None:
    given_ = shares(limit, used)
    assert len(given_) == len(used)
    if used and max(used) <= limit // len(used):
        assert limit - len(used) <= sum(given_) <= limit
        assert all(one >= need for one, need in zip(given_, used, strict=True))


def test_who_needs_more_gets_what_others_do_not_use_but_for_a_rest() -> None:
    assert shares(800, [0, 0]) == [400, 400]
    assert shares(800, [400, 0]) == [550, 250]
    used = [0, 0]
    for _ in range(20):
        used[0] = shares(800, used)[0]
    assert used[0] >= 690
    assert shares(800, [700, 0]) == [700, 100]
    assert shares(800, [700, 300]) == [600, 200]  # both give up as much
    assert shares(800, []) == []


# -- what the process may use


def test_this_process_has_a_limit() -> None:
    assert 16 * MIB < process_limit() < 1 << 50


@pytest.mark.parametrize(
    ("text", "limit"), [("268435456\n", 256 * MIB), ("max\n", memory_module._UNLIMITED), ("", memory_module._UNLIMITED)]
)
def test_a_cgroups_limit_is_read_of_its_file(tmp_path: Path, text: str, limit: int) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert memory_module._limit_in(tmp_path / "memory.max") == limit


def test_a_cgroup_without_a_file_has_no_limit(tmp_path: Path) -> None:
    assert memory_module._limit_in(tmp_path / "memory.max") == memory_module._UNLIMITED


@pytest.mark.interpreted
def test_the_smallest_limit_of_the_machine_and_all_cgroups_above_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("inner", "outer", "missing")]
    files[0].write_text("max")
    files[1].write_text(str(128 * MIB))
    monkeypatch.setattr(memory_module, "_cgroup_files", lambda: iter(files))
    assert process_limit() == int(SHARE * 128 * MIB)


def test_the_files_are_those_of_this_cgroup_and_of_all_above_it() -> None:
    for file in memory_module._cgroup_files():
        assert file.is_relative_to("/sys/fs/cgroup")
        assert file.name in ("memory.max", "memory.limit_in_bytes")
