"""Rounds: sides in turns, what fails, what stands from row to row, what is planted and found."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from perf.bench import Options, contender_named, load_row
from perf.contender import Contender
from perf.loads.outcome import Outcome
from perf.probes.machine import facts
from perf.record import Figure, Plan, Record, Sample, Subject
from perf.rounds import measure_rows
from perf.rows import Heard, Measurable, Opened, RampRow, Reach, Standing
from perf.statistics.histogram import encoded, histogram_of
from perf.statistics.ratio import Verdict
from perf.topologies.shape import Route, Service, Shape

OWN = Options(own_service=True, connections=4)
DIRECT = Contender(name="direct", route=Route.DIRECT)
LATE = Contender(name="late", route=Route.DIRECT, service_options=("--slow", "20ms@100%"))


def record_of(*contenders: Contender, rounds: int = 1, strace: bool = False) -> Record:
    plan = Plan(rounds, 0.2, 0.05, strace)
    return Record([Subject(contender.name) for contender in contenders], plan, facts(), "")


async def test_a_slow_down_that_was_planted_is_found_and_fails_the_comparison() -> None:
    contenders = [LATE, DIRECT]
    record = record_of(*contenders, rounds=5)
    await measure_rows(record, [load_row("closed", OWN)], contenders, tell=lambda _: None)
    (row,) = record.rows
    assert [side.failure for side in row.sides] == ["", ""]
    ratio = row.ratio("requests/s")
    assert ratio is not None
    assert ratio.high < 1
    assert ratio.verdict(higher_is_better=True) == Verdict.WORSE
    assert ("closed", "requests/s") in record.worse_by(10)


async def test_sides_take_turns_in_both_orders() -> None:
    heard: list[str] = []
    record = record_of(DIRECT, LATE, rounds=2)
    await measure_rows(record, [load_row("closed", OWN)], [DIRECT, LATE], tell=heard.append)
    rounds = [line.removeprefix("closed (1 of 1): ") for line in heard if "round" in line and line.count(": ") == 1]
    assert rounds == ["round 1 of 2, direct", "round 1 of 2, late", "round 2 of 2, late", "round 2 of 2, direct"]


class Scripted(msgspec.Struct, frozen=True):
    """A row whose rounds are given: by True those in which the generator was late."""

    late: Iterator[bool]
    name: str = "scripted"
    title: str = "scripted"
    figures: tuple[Figure, ...] = (Figure("requests/s"),)
    most_rounds: int | None = None

    @asynccontextmanager
    async def opened(self, contender: Contender, plan: Plan, reach: Reach) -> AsyncIterator[Opened]:
        async def measure(heard: Heard) -> Sample:
            lag = encoded(histogram_of({5000 if next(self.late) else 10: 100}))
            return Sample({"requests/s": 1.0}, [Outcome(1.0, answers=100, lag=lag)])

        yield Opened(measure, {})


async def test_a_round_in_which_the_generator_was_late_is_measured_again_and_that_is_told() -> None:
    heard: list[str] = []
    record = record_of(DIRECT, rounds=3)
    late = iter([False, True, True, False, True, True, True])
    await measure_rows(record, [Scripted(late)], [DIRECT], tell=heard.append)
    assert next(late, None) is None
    samples = record.rows[0].sides[0].samples
    assert [(sample.tries, sample.invalid) for sample in samples] == [(1, False), (3, False), (3, True)]
    assert [line.removeprefix("scripted (1 of 1): ") for line in heard if "try" in line] == [
        f"round {number} of 3, direct, try {count} of 3, because the generator itself was late"
        for number in (2, 3)
        for count in (2, 3)
    ]


@pytest.mark.parametrize(
    ("p99", "lag", "borne", "late"),
    [
        (5, 0.1, True, False),
        (19, 8, True, False),
        (300, 40, False, False),
        (25, 8, False, True),
        (20.5, 0.9, False, False),
    ],
)
def test_on_a_ramp_a_generator_is_late_only_where_that_has_decided_a_step(
    p99: float, lag: float, borne: bool, late: bool
) -> None:
    ramp = load_row("ramp", Options(bound_ms=20))
    assert isinstance(ramp, RampRow)
    latency, lags = (encoded(histogram_of({int(value * 1000): 100})) for value in (p99, lag))
    outcome = Outcome(1.0, answers=100, latency=latency, lag=lags)
    assert ramp.bears(outcome) == borne
    assert outcome.late == late
    outcome.errors["status 503"] = 1
    assert not ramp.bears(outcome)
    assert not outcome.late


async def test_topologies_stand_from_row_to_row_and_one_that_died_is_replaced() -> None:
    shape = Shape(service=Service.OWN)
    async with Standing() as standing:
        async with standing.reach(shape, DIRECT) as first:
            pass
        async with standing.reach(shape, DIRECT) as second:
            assert second is first
        os.kill(first.pids["service"], signal.SIGKILL)
        async with standing.reach(shape, DIRECT) as third:
            assert third.pids != first.pids
            assert await third.answers()
    assert not await third.answers()


async def test_a_side_that_cannot_be_started_leaves_the_others_alone() -> None:
    missing = contender_named("tunnel", proxy="pproxy", program="/not/there")
    record = record_of(missing, DIRECT)
    await measure_rows(record, [load_row("closed", OWN)], [missing, DIRECT], tell=lambda _: None)
    failed, done = record.rows[0].sides
    assert "/not/there is not installed" in failed.failure
    assert len(done.samples) == 1
    assert record.complete


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
async def test_system_calls_are_counted_in_a_round_of_their_own() -> None:
    record = record_of(DIRECT, strace=True)
    await measure_rows(record, [load_row("closed", OWN)], [DIRECT], tell=lambda _: None)
    (side,) = record.rows[0].sides
    assert side.failure == ""
    assert len(side.samples) == 1
    assert side.calls is not None
    assert side.calls.answers > 0
    # An answer is one read and one write, whatever else.
    assert side.calls.legs["service"]["sendto"] >= side.calls.answers


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
async def test_wrk_and_our_generator_are_measured_in_turns() -> None:
    record = record_of(DIRECT)
    rows: list[Measurable] = [load_row("wrk", OWN)]
    await measure_rows(record, rows, [DIRECT], tell=lambda _: None)
    (sample,) = record.rows[0].sides[0].samples
    assert set(sample.figures) == {"requests/s", "requests/s, ours", "p50 ms", "p99 ms"}
    assert all(outcome.answers > 100 for outcome in sample.outcomes)
