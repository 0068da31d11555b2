"""What an agent says of itself."""

from __future__ import annotations

import pytest

from engine.wire.agents import DIRECT, FIELD, MAX_WEIGHT, About, about_in, new_name

NAME = "0123456789abcdef"


@pytest.mark.parametrize(
    "about",
    [
        About("0.1.0", DIRECT, NAME),
        About("1.2.3+deb", "http,socks5h", new_name()),
        About("0.1.0", DIRECT, NAME, 0),
        About("0.1.0", DIRECT, NAME, MAX_WEIGHT),
    ],
)
def test_what_was_said_is_read(about: About) -> None:
    assert about_in([(b"Host", b"x"), (b"X-Trioduct-Agent", about.encode())]) == about


def test_a_way_that_is_not_known_is_said_to_be_direct() -> None:
    assert about_in([(FIELD, About("0.1.0", "", NAME).encode())]) == About("0.1.0", DIRECT, NAME)


def test_names_differ() -> None:
    assert new_name() != new_name()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"0.1.0"],
        [b"0.1.0 direct"],
        [b"0.1.0 <b> 0123456789abcdef"],
        [b"0.1.0 direct 0123456789abcdef "],
        [b"0.1.0 direct 0123456789ABCDEF"],
        [b"0.1.0 direct a; Path=/"],
        [b"0.1.0 direct 0123456789abcdef"] * 2,
        [b"0.1.0 direct 0123456789abcdef 257"],
        [b"0.1.0 direct 0123456789abcdef -1"],
        [b"0.1.0 direct 0123456789abcdef 1.5"],
        [b"0.1.0 direct 0123456789abcdef 0000"],
        [b"1" * 33 + b" direct 0123456789abcdef"],
        [b"\xff \xff \xff"],
    ],
)
def test_what_cannot_be_read_says_nothing_and_has_a_name_of_its_own(values: list[bytes]) -> None:
    about = about_in([(FIELD, value) for value in values])
    assert (about.version, about.way, about.weight) == ("", "", 1)
    assert len(about.name) == 16
    assert about.name != NAME
