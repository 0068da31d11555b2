"""Faults of a cluster, for a moment each; `python -m tests.faults` has them for longer."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.faults.bed import open_bed
from tests.faults.cluster import FAULTS
from tests.programs import needs

pytestmark = [needs("redis-server", "haproxy"), pytest.mark.timeout(200)]


patient = pytest.mark.skipif("TRIODUCT_FULL" not in os.environ, reason="takes a minute; TRIODUCT_FULL=1")
LONG = {"F4a", "F4b", "F15", "F16"}


@pytest.mark.parametrize("fault", [pytest.param(one, marks=patient if one in LONG else ()) for one in FAULTS])
async def test_what_has_to_hold_holds(fault: str, tmp_path: Path) -> None:
    async with open_bed(tmp_path, seconds=190) as bed, aclosing(FAULTS[fault](bed, 1)) as outcomes:
        async for outcome in outcomes:
            assert not outcome.broken, str(outcome)
