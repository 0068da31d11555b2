"""The box that a test is parametrised with, and roles."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.carriers.beds import KINDS
from tests.carriers.ends import Ends, open_ends
from tests.conftest import Pki
from tests.roles import roles

__all__ = ["roles"]


@pytest.fixture
def checked(name: str) -> str:
    """The name of a box whose programs are here; without them the test is skipped, and fails on CI."""
    KINDS[name].check()
    return name


@pytest.fixture
async def ends(request: pytest.FixtureRequest, checked: str, pki: Pki) -> AsyncIterator[Ends]:
    """Both ends of the way through the box, not for longer than the test may take."""
    limit = request.node.get_closest_marker("timeout")
    seconds = float(limit.args[0] if limit else request.config.getini("timeout")) - 5

    async def give_up() -> None:
        await trio.sleep(seconds)
        raise trio.TooSlowError(f"not done after {seconds:g} s")

    async with open_ends(checked, pki) as opened:
        opened.nursery.start_soon(give_up)
        yield opened
