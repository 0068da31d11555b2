"""Who may use an endpoint: by networks, names and passwords."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import bcrypt
import pytest

from engine.auth.visitors import (
    MAX_COST,
    MAX_GOOD,
    MAX_USERS,
    Guard,
    Guards,
    Users,
    Verdict,
    entry_for,
    parse_users,
)
from tests.programs import needs, path_of


def hash_of(password: str, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).replace(b"$2b$", b"$2y$")


HASH = b"$2y$04$9zHw2Un8DKuAObKtvMZ1ZuWdiVUxw/lKQwPpKjDrRQDw.pGNzOyR."  # of "secret"


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@needs("htpasswd")
def test_a_file_that_htpasswd_has_written_lets_its_users_in(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    for number, (user, password) in enumerate([("alice", "secret"), ("Jürgen", "grün: €"), ("long", "x" * 80)]):
        options = ["-c"] if number == 0 else []
        program = path_of("htpasswd")
        assert program is not None
        done = subprocess.run([program, "-iB", *options, path, user], input=password.encode(), capture_output=True)
        assert done.returncode == 0, done.stderr
    users = Users(parse_users(path.read_bytes()))
    assert users.check(basic("alice", "secret"))
    assert users.check(basic("Jürgen", "grün: €"))
    assert users.check(basic("long", "x" * 80))
    for user, password in [("alice", "Secret"), ("alice", ""), ("bob", "secret"), ("", "secret"), ("long", "x")]:
        assert not users.check(basic(user, password))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"alice", "line 3: no NAME:HASH"),
        (b":" + HASH, "line 3: no NAME:HASH"),
        (b"alice:secret", "line 3: no NAME:HASH"),
        (b"alice:" + HASH[:-1], "line 3: no NAME:HASH"),
        (b"alice:" + HASH + b":more", "line 3: no NAME:HASH"),
        (b"ali\0ce:" + HASH, "line 3: no NAME:HASH"),
        (b"alice:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", "line 3: a hash that is not bcrypt's"),
        (b"alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "line 3: a hash that is not bcrypt's"),
        (b"alice:$6$abcdefgh$xyz", "line 3: a hash that is not bcrypt's"),
        (b"alice:" + HASH.replace(b"$04$", b"$31$"), f"line 3: a hash of cost 31; expected 4 to {MAX_COST}"),
        (b"bob:" + HASH, "line 3: a user that stands above already"),
    ],
)
def test_a_broken_line_is_told_by_its_number_and_never_quoted(line: bytes, said: str) -> None:
    with pytest.raises(ValueError, match="line 3") as caught:
        parse_users(b"# users\nbob:" + HASH + b"\n" + line + b"\n")
    assert str(caught.value).startswith(said)
    for secret in ("secret", "eIMz", "5en6", HASH.decode()[10:30]):
        assert secret not in str(caught.value)


def test_a_file_without_users_is_refused_and_one_with_too_many() -> None:
    for document in (b"", b"\n  \n# nobody\n"):
        with pytest.raises(ValueError, match="no user"):
            parse_users(document)
    many = b"\n".join(b"user%d:%b" % (number, HASH) for number in range(MAX_USERS + 1))
    with pytest.raises(ValueError, match=f"line {MAX_USERS + 1}: too many users"):
        parse_users(many)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!!",
        b"Basic YWxpY2U6c2VjcmV",
        b"Basic " + base64.b64encode(b"alice"),
        b"Basic " + base64.b64encode(b"alice:sec\0ret"),
        b"Bearer YWxpY2U6c2VjcmV0",
        b"Basic " + base64.b64encode(b"alice:" + b"x" * 2000),
    ],
)
def test_what_is_no_name_and_password_is_not_checked(value: bytes) -> None:
    users = Users({b"alice": HASH})
    assert users.judge([value]) is Verdict.CREDENTIALS
    assert not users.check(value)


def test_two_values_are_none() -> None:
    users = Users({b"alice": HASH})
    good = basic("alice", "secret")
    assert users.check(good)
    assert users.judge([]) is Verdict.CREDENTIALS
    assert users.judge([good, good]) is Verdict.CREDENTIALS
    assert users.judge([b"basic" + good[5:]]) is Verdict.UNCHECKED  # another spelling is checked on its own


def test_who_was_found_right_is_remembered_until_the_users_are_others() -> None:
    users, good, bad = Users({b"alice": HASH}), basic("alice", "secret"), basic("alice", "other")
    assert users.judge([good]) is Verdict.UNCHECKED
    assert users.check(good)
    assert not users.check(bad)
    assert users.judge([good]) is Verdict.WELCOME
    assert users.judge([bad]) is Verdict.UNCHECKED
    users.replace({b"alice": hash_of("other")})
    assert users.judge([good]) is Verdict.UNCHECKED
    assert not users.check(good)
    assert users.check(bad)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.auth.visitors.MAX_GOOD", 2)
    users = Users({name: HASH for name in (b"a", b"b", b"c")})
    for name in "abc":
        assert users.check(basic(name, "secret"))
    verdicts = [users.judge([basic(name, "secret")]) for name in "abc"]
    assert verdicts == [Verdict.UNCHECKED, Verdict.WELCOME, Verdict.WELCOME]
    assert MAX_GOOD > 2


def test_a_users_repr_shows_no_hash() -> None:
    assert repr(Users({b"alice": HASH})) == "<1 users>"


@pytest.mark.parametrize(
    ("allow", "deny", "address", "verdict"),
    [
        ([], [], "10.0.0.1", Verdict.WELCOME),
        ([], [], "anybody", Verdict.WELCOME),
        (["10.0.0.0/8"], [], "10.0.0.1", Verdict.WELCOME),
        (["10.0.0.0/8"], [], "::ffff:10.0.0.1", Verdict.WELCOME),
        (["10.0.0.0/8"], [], "11.0.0.1", Verdict.ADDRESS),
        (["10.0.0.0/8"], [], "anybody", Verdict.ADDRESS),
        ([], ["10.0.0.0/8"], "10.0.0.1", Verdict.ADDRESS),
        ([], ["10.0.0.0/8"], "::ffff:10.0.0.1", Verdict.ADDRESS),
        ([], ["10.0.0.0/8"], "11.0.0.1", Verdict.WELCOME),
        ([], ["10.0.0.0/8"], "anybody", Verdict.ADDRESS),
        (["10.0.0.0/8"], ["10.0.0.1"], "10.0.0.1", Verdict.ADDRESS),
        (["10.0.0.0/8"], ["10.0.0.1"], "10.0.0.2", Verdict.WELCOME),
    ],
)
def test_an_address_is_let_in_or_not(allow: list[str], deny: list[str], address: str, verdict: Verdict) -> None:
    assert Guard(allow, deny).judge(address, ()) is verdict


def test_an_address_is_looked_at_before_a_password() -> None:
    guard = Guard(["10.0.0.0/8"], users=Users({b"alice": HASH}))
    assert guard.judge("11.0.0.1", [basic("alice", "secret")]) is Verdict.ADDRESS
    assert guard.judge("10.0.0.1", [basic("alice", "secret")]) is Verdict.UNCHECKED
    assert guard.judge("10.0.0.1", []) is Verdict.CREDENTIALS


def test_an_endpoint_has_the_guard_of_its_name_or_of_the_first_pattern_that_fits() -> None:
    own, first, second, tenants = Guard(), Guard(), Guard(), Guard()
    guards = Guards({"admin-*": first, "admin-shop": own, "*-shop": second, "acme/*": tenants})
    assert guards.of("admin-shop", "") is own
    assert guards.of("admin-x-shop", "") is first
    assert guards.of("my-shop", "") is second
    assert guards.of("shop", "") is None
    assert guards.of("shop", "acme") is tenants
    assert guards.of("Admin-x", "") is None
    assert entry_for("x", {}) is None
