"""Whose an endpoint is, and which names are taken for one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.routing.owners import Answer, Owners, defect_of_name, likeness
from engine.routing.tenants import key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shop", "SHOP"),
        ("shop", "shop"),
        ("häuser", "Häuser"),
        ("häuser", "xn--huser-gra"),
        ("häuser", "XN--HUSER-GRA"),
        ("straße", "STRASSE"),
        ("a.häuser", "a.xn--huser-gra"),
        ("kelvin", "\u212aelvin"),
        ("office", "oﬃce"),
    ],
)
def test_names_that_a_reader_takes_for_one_another_are_alike(one: str, other: str) -> None:
    assert likeness(one) == likeness(other)


@pytest.mark.parametrize(("one", "other"), [("shop", "shops"), ("a-b", "a_b"), ("xn--", "xn"), ("xn--é", "é")])
def test_other_names_are_not(one: str, other: str) -> None:
    assert likeness(one) != likeness(other)


@pytest.mark.parametrize("name", ["shop", "häuser & co", "a.b", "x" * 255, "xn--huser-gra", "a%2fb"])
def test_a_name_may_have_any_printable_characters(name: str) -> None:
    assert defect_of_name(name) == ""


@pytest.mark.parametrize(
    "name", ["", " shop", "shop ", "shop.", "a\nb", "a\u202eb", "a\u200bb", "x" * 256, "é" * 128, "a\u0308"]
)
def test_a_name_that_can_be_misread_is_none(name: str) -> None:
    assert defect_of_name(name)


def test_owners_in_one_tenant_are_of_no_account_in_another() -> None:
    owners = Owners(exclusive=True)
    with owners.hold(key("shop", "acme"), "alice"):
        assert owners.ask(key("shop", "acme"), "alice") is Answer.BUSY
        assert owners.ask(key("Shop", "acme"), "bob") is Answer.TAKEN
        for tenant in ("", "beta", "Acme"):
            assert owners.ask(key("shop", tenant), "bob") is Answer.YES


def test_an_endpoint_is_its_principals_as_long_as_a_session_lasts() -> None:
    owners = Owners()
    with owners.hold("shop", "alice"):
        with owners.hold("shop", "alice"), owners.hold("Shop", "alice"):
            assert owners.ask("shop", "alice") is owners.ask("SHOP", "alice") is Answer.YES
            assert owners.ask("shop", "bob") is owners.ask("SHOP", "bob") is owners.ask("shop", "") is Answer.TAKEN
            assert owners.ask("other", "bob") is Answer.YES
        assert owners.ask("Shop", "bob") is Answer.TAKEN
    assert owners.ask("shop", "bob") is Answer.YES
    with owners.hold("shop", "bob"):
        assert owners.ask("shop", "alice") is Answer.TAKEN
    assert not owners._held


def test_an_exclusive_endpoint_is_for_one_session_at_a_time() -> None:
    owners = Owners(exclusive=True)
    with owners.hold("shop", "alice"):
        assert owners.ask("shop", "alice") is Answer.BUSY
        assert owners.ask("shop", "bob") is Answer.TAKEN
        assert owners.ask("Shop", "alice") is Answer.YES
    assert owners.ask("shop", "alice") is Answer.YES


def test_what_another_worker_holds_is_held() -> None:
    owners = Owners()
    owners.hold_elsewhere("2", "shop", "alice")
    assert owners.ask("Shop", "bob") is Answer.TAKEN
    assert owners.ask("shop", "alice") is Answer.YES
    with owners.hold("shop", "alice"):
        owners.free_elsewhere("2", "shop")
        assert owners.ask("shop", "bob") is Answer.TAKEN
    assert owners.ask("shop", "bob") is Answer.YES
    owners.hold_elsewhere("2", "shop", "alice")
    owners.hold_elsewhere("3", "SHOP", "alice")
    owners.forget("2")
    assert owners.ask("shop", "bob") is Answer.TAKEN
    owners.put_elsewhere({"4": {"other": "bob"}})
    assert owners.ask("shop", "bob") is Answer.YES
    assert owners.ask("other", "alice") is Answer.TAKEN
    assert owners.held_elsewhere() == {"4": {"other": "bob"}}
    owners.forget("4")
    assert not owners._elsewhere


def test_an_exclusive_endpoint_is_for_one_worker_but_not_for_one_that_leaves() -> None:
    owners = Owners(exclusive=True)
    owners.hold_elsewhere("2", "shop", "alice")
    assert owners.ask("shop", "alice") is Answer.BUSY
    owners.leaves("2")
    assert owners.ask("shop", "alice") is Answer.YES
    assert owners.ask("shop", "bob") is Answer.TAKEN


def test_it_is_told_when_the_first_session_comes_and_when_the_last_goes() -> None:
    owners = Owners()
    told: list[tuple[str, str, bool]] = []
    owners.changed = lambda *what: told.append(what)
    with owners.hold("shop", "alice"), owners.hold("shop", "alice"), owners.hold("Shop", "alice"):
        assert owners.held() == {"shop": "alice", "Shop": "alice"}
        assert told == [("shop", "alice", True), ("Shop", "alice", True)]
    assert told[2:] == [("Shop", "alice", False), ("shop", "alice", False)]
    assert owners.held() == {}


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_a_likeness_that_is_like_itself(one: str, other: str) -> None:
    assert likeness(one) == likeness(one)
    if one.casefold() == other.casefold() and one.isascii():
        assert likeness(one) == likeness(other)
    defect_of_name(one)
