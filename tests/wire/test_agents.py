"""Which agent a session is of."""

from __future__ import annotations

import pytest

from engine.wire.agents import name_in, new_name


def test_a_name_is_the_agents_own() -> None:
    name = new_name()
    assert name_in([(b"X-Trioduct-Agent", name)]) == name
    assert new_name() != name


@pytest.mark.parametrize("values", [[], [b""], [b"a; Path=/"], [b"0123456789ABCDEF"], [b"0123456789abcdef"] * 2])
def test_what_is_no_name_is_replaced(values: list[bytes]) -> None:
    name = name_in([(b"x-trioduct-agent", value) for value in values])
    assert len(name) == 16
    assert name not in values
