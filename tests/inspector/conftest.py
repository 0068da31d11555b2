"""The fixtures that start roles, and an agent that is inspected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.inspector.inspected import Inspected, open_inspected
from tests.roles import Roles, roles

__all__ = ["inspected", "roles"]


@pytest.fixture
async def inspected(roles: Roles) -> AsyncIterator[Inspected]:
    async with open_inspected(roles) as found:
        yield found
