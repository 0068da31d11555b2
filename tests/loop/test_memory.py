"""Accounts: what is held for whom, its limits, and who is ended for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.loop import memory as memory_module
from engine.loop.memory import MIB, SHARE, Account, Memory, Parts, Shares, process_limit, shares


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


def test_a_party_has_its_part_of_what_the_process_may_hold_now() -> None:
    memory = Memory(100)
    shares = Shares(memory, 0.5, 0)
    ended: list[str] = []
    owner = Owner(memory, "a", ended)
    shares.book(owner.account, "one", "")
    memory.resize(40)
    owner.account.charge(20)
    memory.reclaim()
    assert ended == []
    memory.resize(38)
    memory.reclaim()
    assert ended == ["a"]


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


# -- what one party may hold


@pytest.fixture
def parts(memory: Memory) -> Parts:
    """Of 100 bytes each may have 40."""
    return Parts(memory, 0.4)


def test_a_party_that_holds_too_much_loses_its_own_and_nobody_else_does(
    memory: Memory, parts: Parts, owners: list[Owner]
) -> None:
    a, b, c = owners
    a.account.charge(35)  # nobody's in particular, and unmoved for longest
    for owner in (b, c):
        owner.account.count_for(parts.of("acme"))
        owner.account.charge(30)
    assert list(memory.crowded) == [*parts.of("acme")]
    memory.reclaim()
    assert a.ended == ["b"]
    assert (memory.used, memory.ended, parts.ended) == (65, 0, 1)
    assert not memory.crowded


def test_what_is_held_moves_with_its_account(parts: Parts, owners: list[Owner]) -> None:
    account = owners[0].account
    account.charge(10)
    account.count_for(parts.of("acme"))
    (acme,) = parts.of("acme")
    account.count_for(parts.of("beta"))
    (beta,) = parts.of("beta")
    assert (acme.used, beta.used) == (0, 10)
    account.release(4)
    assert beta.used == 6
    assert parts.of("acme") != (acme,)  # nobody counted for it any more


def test_a_party_is_forgotten_with_its_last_account(parts: Parts, owners: list[Owner]) -> None:
    for owner in owners:
        owner.account.count_for(parts.of("acme"))
        owner.account.charge(10)
    for owner in owners:
        assert list(parts._parts) == ["acme"]
        owner.account.end()
    assert not parts._parts


def test_who_moves_is_not_the_first_to_go_in_a_part_either(memory: Memory, parts: Parts, owners: list[Owner]) -> None:
    for owner in owners:
        owner.account.count_for(parts.of("acme"))
        owner.account.charge(13)
    owners[0].account.release(1)
    owners[1].account.charge(10)  # which is no movement
    memory.reclaim()
    assert owners[0].ended == ["b"]


def test_nobody_and_no_limit_are_no_party(memory: Memory, parts: Parts) -> None:
    assert parts.of("") == ()
    assert Parts(memory, 0).of("acme") == ()


def test_an_account_counts_for_a_principal_and_its_tenant(memory: Memory, owners: list[Owner]) -> None:
    shares = Shares(memory, 0.5, 0.7)
    for owner, principal in zip(owners, ("alice", "bob", "carol"), strict=True):
        shares.book(owner.account, principal, "acme")
    owners[0].account.charge(45)
    owners[1].account.charge(20)
    memory.reclaim()
    assert owners[0].ended == []
    owners[2].account.charge(10)
    memory.reclaim()
    assert owners[0].ended == ["a"]
    assert shares.ended == {"principal_memory": 0, "tenant_memory": 1}
    owners[1].account.charge(40)
    memory.reclaim()
    assert owners[0].ended == ["a", "b"]
    assert shares.ended["principal_memory"] == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-60, 60), st.sampled_from(["", "x", "y"])), max_size=60))
def test_a_part_is_the_sum_of_its_accounts(moves: list[tuple[int, int, str]]) -> None:
    memory = Memory(100)
    parts = Parts(memory, 0.4)
    ended: list[str] = []
    owners = [Owner(memory, name, ended) for name in "abc"]
    of = ["", "", ""]
    for number, size, party in moves:
        account = owners[number].account
        account.count_for(parts.of(party))
        of[number] = party
        if size < 0:
            account.release(-size)
        elif size:
            account.charge(size)
        memory.reclaim()
        assert set(parts._parts) == {one for one in of if one}
        for name, part in parts._parts.items():
            mine = [owner.account for owner, its in zip(owners, of, strict=True) if its == name]
            assert part.used == sum(one.used for one in mine) <= part.limit
            assert set(part._holders) == {one for one in mine if one.used}


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
