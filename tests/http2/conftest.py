"""What all tests of HTTP/2 in memory begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.loop.reactor import Reactor


@pytest.fixture
async def reactor() -> AsyncIterator[Reactor]:
    """It does not run: time passes when the test says so."""
    reactor = Reactor()
    reactor._working = True  # no bell
    reactor._turn_ends = float("inf")
    yield reactor
    reactor.close()
