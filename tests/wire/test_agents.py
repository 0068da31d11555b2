"""What an agent says of itself."""

from __future__ import annotations

import pytest

from engine.wire.agents import DIRECT, FIELD, UNKNOWN, About, about_in


@pytest.mark.parametrize("about", [About("0.1.0", DIRECT), About("1.2.3+deb", "http,socks5h")])
def test_what_was_said_is_read(about: About) -> None:
    assert about_in([(b"Host", b"x"), (b"X-Trioduct-Agent", about.encode())]) == about


def test_a_way_that_is_not_known_is_said_to_be_direct() -> None:
    assert about_in([(FIELD, About("0.1.0").encode())]) == About("0.1.0", DIRECT)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"0.1.0"],
        [b"0.1.0 <b>"],
        [b"0.1.0 direct "],
        [b"0.1.0 direct"] * 2,
        [b"1" * 33 + b" direct"],
        [b"\xff \xff"],
    ],
)
def test_what_cannot_be_read_says_nothing(values: list[bytes]) -> None:
    assert about_in([(FIELD, value) for value in values]) == UNKNOWN
