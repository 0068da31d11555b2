"""What all tests of a hop begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.loop.reactor import Reactor
from tests.gateway.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A hop whose reactor does not run: time passes when the test says so, and no turn is ever over."""
    reactor = Reactor()
    yield Bench(reactor)
    reactor.close()
