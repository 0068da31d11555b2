"""The registry: in once, out once, and nobody waits in vain."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from engine.routing.registry import LocalRegistry, Registry, SharedRegistry


class Session:
    """Opaque, as the registry sees it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@pytest.fixture
def registry() -> Registry[Session]:
    return LocalRegistry()


A, B, C = Session("a"), Session("b"), Session("c")


def test_a_session_serves_its_endpoint_within_the_context_only(registry: Registry[Session]) -> None:
    assert registry.pick("e") is None
    with registry.register("e", A):
        assert registry.pick("e") is A
        assert registry.pick("other") is None
        assert registry.endpoints() == {"e": 1}
    assert registry.pick("e") is None
    assert registry.endpoints() == {}


def test_sessions_of_an_endpoint_take_turns(registry: Registry[Session]) -> None:
    with registry.register("e", A), registry.register("e", B), registry.register("f", C):
        assert [registry.pick("e") for _ in range(4)] == [A, B, A, B]
        assert registry.pick("e", avoid=A) is B
        assert registry.endpoints() == {"e": 2, "f": 1}


def test_sessions_have_their_shares_and_standbys_none(registry: Registry[Session]) -> None:
    with registry.register("e", C, 0):
        assert registry.pick("e") is C
        with registry.register("e", A, 2), registry.register("e", B):
            assert [registry.pick("e") for _ in range(6)] == [A, B, A] * 2
            registry.set_aside(B)
            assert registry.pick("e", avoid=A) is C
            registry.set_aside(A)
            assert registry.pick("e") is C
            registry.bring_back(A)
            assert registry.pick("e") is A
            registry.set_aside(C)
            assert registry.pick("e", avoid=A) is A
            assert registry.endpoints() == {"e": 3}
        assert registry.pick("e") is C
        registry.bring_back(C)
    assert registry.pick("e") is None


def test_the_best_has_to_be_above_zero_and_may_be_a_standby(registry: Registry[Session]) -> None:
    with registry.register("e", A, 2), registry.register("e", B, 0):
        assert registry.pick_best("e", lambda one: one is B) is B
        assert registry.pick_best("e", lambda one: one is B, avoid=B) is None
        assert registry.pick_best("e", lambda one: 0.0) is None
        registry.set_aside(B)
        assert registry.pick_best("e", lambda one: one is B) is None


def test_whether_there_is_another_costs_nobody_a_turn(registry: Registry[Session]) -> None:
    with registry.register("e", A), registry.register("e", C, 0):
        assert registry.has_other("e", A)
        registry.set_aside(C)
        assert not registry.has_other("e", A)
        assert registry.has_other("e", B)
        with registry.register("e", B):
            assert [registry.has_other("e", A) and registry.pick("e") for _ in range(4)] == [A, B, A, B]
    assert not registry.has_other("e", None)


def test_standbys_are_told_as_a_second_choice() -> None:
    registry: LocalRegistry[Session] = LocalRegistry()
    seen: list[int] = []
    registry.observe(lambda endpoint, sessions: seen.append(sessions))
    with registry.register("e", C, 0), registry.register("e", A):
        registry.set_aside(A)
        registry.set_aside(C)
    assert seen == [-1, 1, -2, -2, -1, 0]


class Elsewhere:
    """Peers that have a session of their first choice, or not."""

    def __init__(self, has: Session, *, first_choice: bool) -> None:
        self._has = has
        self._first_choice = first_choice

    def pick(self, endpoint: str, *, avoid: Session | None = None, first_choice: bool = False) -> Session | None:
        return self._has if self._first_choice or not first_choice else None

    def expects(self, endpoint: str) -> bool:
        return False


@pytest.mark.parametrize(("first_choice", "picked"), [(True, B), (False, A)])
def test_a_standby_is_picked_where_no_peer_has_another(first_choice: bool, picked: Session) -> None:
    registry: SharedRegistry[Session] = SharedRegistry()
    registry.peers = Elsewhere(B, first_choice=first_choice)
    with registry.register("e", A, 0):
        assert registry.pick("e") is picked


def test_a_session_that_withdrew_is_not_taken_out_again_by_its_end(registry: Registry[Session]) -> None:
    with registry.register("e", B):
        with registry.register("e", A):
            registry.withdraw(A)
            registry.withdraw(A)
            assert registry.pick("e") is B
            assert registry.endpoints() == {"e": 1}
        assert registry.endpoints() == {"e": 1}
        assert registry.pick("e") is B


def test_a_session_leaves_also_when_its_context_ends_by_an_error(registry: Registry[Session]) -> None:
    with pytest.raises(OSError, match="reset"), registry.register("e", A):
        raise OSError("reset")
    assert registry.endpoints() == {}


def test_a_session_cannot_be_registered_twice(registry: Registry[Session]) -> None:
    with registry.register("e", A):
        with pytest.raises(ValueError, match="a is registered already"), registry.register("f", A):
            pass
        assert registry.endpoints() == {"e": 1}


def test_who_waits_is_called_once_when_a_session_can_be_picked(registry: Registry[Session]) -> None:
    picked: list[Session | None] = []
    registry.wait_for("e", lambda: picked.append(registry.pick("e")))
    registry.wait_for("e", lambda: picked.append(registry.pick("e")))
    with registry.register("other", C):
        assert picked == []
    with registry.register("e", A), registry.register("e", B):
        assert picked == [A, A]


def test_who_takes_the_callback_back_is_not_called(registry: Registry[Session]) -> None:
    called: list[str] = []
    forget = registry.wait_for("e", lambda: called.append("one"))
    registry.wait_for("e", lambda: called.append("two"))
    forget()
    forget()
    with registry.register("e", A):
        assert called == ["two"]
        forget()


def test_endpoints_that_nobody_waits_for_any_more_leave_no_trace() -> None:
    registry: LocalRegistry[Session] = LocalRegistry()
    for number in range(100):
        registry.wait_for(f"made up {number}", lambda: None)()
    assert registry._waiting == {}


def test_observers_are_told_every_change_once() -> None:
    registry: LocalRegistry[Session] = LocalRegistry()
    seen: list[tuple[str, int]] = []
    forget = registry.observe(lambda endpoint, sessions: seen.append((endpoint, sessions)))
    with ExitStack() as stack:
        stack.enter_context(registry.register("e", A))
        stack.enter_context(registry.register("e", B))
        registry.withdraw(A)
    assert seen == [("e", 1), ("e", 2), ("e", 1), ("e", 0)]
    assert registry.changes == 4
    forget()
    forget()
    with registry.register("e", A):
        pass
    assert len(seen) == 4


def test_who_waits_is_told_of_a_session_that_is_brought_back() -> None:
    registry = LocalRegistry[str]()
    told: list[str | None] = []
    with registry.register("e", "one"):
        registry.set_aside("one")
        registry.wait_for("e", lambda: told.append(registry.pick("e")))
        assert told == []
        registry.bring_back("one")
        registry.bring_back("one")
        assert told == ["one"]
