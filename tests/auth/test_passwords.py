"""Passwords are checked in threads, a bounded number of them, and the same one once."""

from __future__ import annotations

import threading

import trio
import trio.testing

from engine.auth.passwords import MAX_WAITING, MAX_WAITING_OF_ONE, THREADS, Passwords
from engine.auth.visitors import Users
from tests.auth.test_visitors import HASH, basic

GOOD, BAD = basic("alice", "secret"), basic("alice", "other")


class Slow(Users):
    """Users whose passwords are checked when a test says so. `checked`: the values, in order."""

    def __init__(self) -> None:
        super().__init__({b"alice": HASH})
        self.may_go_on = threading.Event()
        self.checked: list[bytes] = []

    def check(self, value: bytes) -> bool:
        self.checked.append(value)
        assert self.may_go_on.wait(20)
        return value == GOOD


class Heard:
    """Who waits for an answer."""

    def __init__(self, number: int = 1) -> None:
        self.said: list[bool] = []
        self.all = trio.Event()
        self._number = number

    def __call__(self, right: bool) -> None:
        self.said.append(right)
        if len(self.said) == self._number:
            self.all.set()


async def test_who_asks_is_told(nursery: trio.Nursery) -> None:
    passwords, users = Passwords(), Users({b"alice": HASH})
    nursery.start_soon(passwords.run)
    for value, right in ((GOOD, True), (BAD, False)):
        heard = Heard()
        assert passwords.ask(users, value, "10.0.0.1", heard) is not None
        await heard.all.wait()
        assert heard.said == [right]


async def test_what_is_asked_at_once_is_checked_once(nursery: trio.Nursery) -> None:
    passwords, users, heard = Passwords(), Slow(), Heard(50)
    nursery.start_soon(passwords.run)
    for _ in range(50):
        assert passwords.ask(users, GOOD, "10.0.0.1", heard) is not None
    users.may_go_on.set()
    await heard.all.wait()
    assert heard.said == [True] * 50
    assert users.checked == [GOOD]


async def test_one_client_waits_for_a_few_only_and_others_have_room(nursery: trio.Nursery) -> None:
    passwords, users, heard = Passwords(), Slow(), Heard(MAX_WAITING_OF_ONE + 1)
    for number in range(MAX_WAITING_OF_ONE):
        assert passwords.ask(users, basic("alice", str(number)), "10.0.0.1", heard) is not None
    assert passwords.ask(users, basic("alice", "more"), "10.0.0.1", heard) is None
    assert passwords.ask(users, GOOD, "10.0.0.2", heard) is not None
    assert passwords.refused == 1
    users.may_go_on.set()
    nursery.start_soon(passwords.run)
    await heard.all.wait()
    assert sorted(heard.said) == [*[False] * MAX_WAITING_OF_ONE, True]
    again = Heard()
    assert passwords.ask(users, basic("alice", "more"), "10.0.0.1", again) is not None  # there is room again
    await again.all.wait()


async def test_the_queue_is_bounded() -> None:
    passwords, users = Passwords(), Slow()
    asked = [passwords.ask(users, basic("alice", str(number)), str(number), Heard()) for number in range(200)]
    assert sum(one is not None for one in asked) == MAX_WAITING
    assert passwords.refused == 200 - MAX_WAITING


async def test_what_nobody_waits_for_any_more_is_not_checked(nursery: trio.Nursery) -> None:
    passwords, users, heard = Passwords(), Slow(), Heard()
    forget = passwords.ask(users, BAD, "10.0.0.1", heard)
    assert forget is not None
    forget()
    forget()
    last = Heard()
    assert passwords.ask(users, GOOD, "10.0.0.1", last) is not None
    users.may_go_on.set()
    nursery.start_soon(passwords.run)
    await last.all.wait()
    assert users.checked == [GOOD]
    assert heard.said == []


async def test_a_check_that_lasts_holds_up_nobody_but_those_behind_it(nursery: trio.Nursery) -> None:
    passwords, slow, users = Passwords(), Slow(), Users({b"alice": HASH})
    nursery.start_soon(passwords.run)
    first = Heard(THREADS - 1)
    for number in range(THREADS - 1):
        assert passwords.ask(slow, basic("alice", str(number)), "10.0.0.1", first) is not None
    heard = Heard()
    assert passwords.ask(users, GOOD, "10.0.0.2", heard) is not None
    await heard.all.wait()
    assert first.said == []
    slow.may_go_on.set()
    await first.all.wait()
