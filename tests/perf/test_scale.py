"""Peers and workers beside the same without them: who stands behind each side, and a moment of each kind of row."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from perf.cgroups import cpu_group, memory_group
from perf.errors import LabError
from perf.probes.machine import facts
from perf.record import Goal, Plan, Record, Side, Subject
from perf.rounds import measure_rows
from perf.rows import Measurable
from perf.scale.rows import scale_rows
from perf.scale.sides import scale_sides
from tests.programs import TRIODUCT, needs


async def measured(row: Measurable) -> tuple[Side, Side]:
    sides = scale_sides(TRIODUCT)
    record = Record([Subject(side.name) for side in sides], Plan(1, 1.0, 0.1), facts(), "")
    await measure_rows(record, [row], sides, tell=lambda _: None)
    scaled, plain = record.rows[0].sides
    assert (scaled.failure, plain.failure) == ("", "")
    return scaled, plain


def row_named(name: str) -> Measurable:
    (row,) = scale_rows(TRIODUCT, name)
    return row


@needs("redis-server")
async def test_a_peer_is_asked_and_asks_the_node_that_has_the_agent() -> None:
    for side, asked, rests in zip(await measured(row_named("peer-down")), ("peer", "node"), ("", "peer"), strict=True):
        (sample,) = side.samples
        assert sample.figures["MB/s down"] > 0
        assert sample.legs[asked].cpu_seconds > 0
        if rests:
            assert sample.legs[rests].cpu_seconds < sample.legs[asked].cpu_seconds / 2
        assert "store" in sample.legs


def can_make_groups() -> bool:
    with suppress(LabError), cpu_group(0.5):
        return True
    return False


@pytest.mark.skipif("TRIODUCT_FULL" not in os.environ, reason="takes the processor from others; TRIODUCT_FULL=1")
@pytest.mark.skipif(not can_make_groups(), reason="no cgroup can be made here")
async def test_workers_get_their_share_and_no_more() -> None:
    scaled, plain = await measured(row_named("workers-keepalive"))
    two, one = scaled.samples[0].figures, plain.samples[0].figures
    for used in (two["worker 1 CPU %"], two["worker 2 CPU %"], one["worker 1 CPU %"]):
        assert 0 < used < 35
    assert "worker 2 CPU %" not in one
    assert "--workers 2" in scaled.commands["node"]
    assert "--workers 1" in plain.commands["node"]
    assert not list(Path("/sys/fs/cgroup").glob(f"**/trioduct-perf-{os.getpid()}-*"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_is_made_as_each_version_wants_it(version: int, tmp_path: Path) -> None:
    for controller in ("cpu", "memory") if version == 1 else ():
        (tmp_path / controller).mkdir()
    found = []
    for group in (cpu_group(0.25, tmp_path), memory_group(256, tmp_path)):
        with group as folder:
            found += sorted((path.name, path.read_text()) for path in folder.iterdir())
            for path in folder.iterdir():  # files of a real group go with it
                path.unlink()
        assert not folder.exists()
    if version == 1:
        assert found == [
            ("cpu.cfs_period_us", "20000"),
            ("cpu.cfs_quota_us", "5000"),
            ("cpu.shares", "262144"),
            ("memory.limit_in_bytes", "256M"),
        ]
    else:
        assert found == [("cpu.max", "5000 20000"), ("cpu.weight", "10000"), ("memory.max", "256M")]
        assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


def test_where_no_group_can_be_made_it_is_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(LabError, match=r"no cpu cgroup can be made at .*: No such file or directory"),
        cpu_group(0.25, tmp_path / "none"),
    ):
        pass


def test_each_row_promises_what_was_promised_of_it() -> None:
    rows = scale_rows(TRIODUCT)
    goals = {(row.name, figure.name): figure.goal for row in rows for figure in row.figures if figure.goal is not None}
    assert goals == {
        ("peer-crowd", "CPU s/million"): Goal(1.7),
        ("peer-keepalive", "CPU s/million"): Goal(1.7),
        ("peer-down", "MB/s down"): Goal(0.7),
        ("peer-up", "MB/s up"): Goal(0.7),
        ("workers-crowd", "requests/s"): Goal(1.7),
        ("workers-keepalive", "requests/s"): Goal(1.7),
    }


def test_a_program_without_workers_has_no_rows() -> None:
    for program in ("piko", "frp"):
        with pytest.raises(LabError, match=f"{program} has neither peers nor workers"):
            scale_rows(program)
