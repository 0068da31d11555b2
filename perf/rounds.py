"""Rounds: every row on every side in turns, so that a noisy machine is noisy for all of them.

In even rounds the sides have their turn in order, in odd ones in reverse (A B, B A): a drift of the
machine, which grows along both rounds, then falls on both sides alike.

A round in which the generator was too late against its own schedule says nothing about the target, and is measured
again. What the target did (errors, nothing finished), and a generator that is the limit, would be the same again, and
stand as they are.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from perf.contender import Contender
from perf.errors import LabError, Unsupported
from perf.loads.outcome import Progress
from perf.probes.calls import Calls, counted
from perf.record import Plan, Record, Row, Sample, Side
from perf.rows import Measurable, Opened, Reach, reached
from perf.statistics.histogram import answers_needed, histogram_of, percentiles

Tell = Callable[[str], None]
MOST_TRIES = 3  # of a round


async def measure_rows(
    record: Record, rows: Sequence[Measurable], contenders: Sequence[Contender], *, tell: Tell, reach: Reach = reached
) -> None:
    """Measure the rows one after another into the record; `tell` hears what is being done.

    What a side cannot do is noted in its place, and the others go on. Cancelled in the middle of a row, the
    record holds the rounds finished so far. `reach` says whether a row starts topologies or finds them standing.
    """
    for index, measurable in enumerate(rows):
        row = Row(measurable.name, measurable.title, list(measurable.figures), [Side() for _ in contenders])
        record.rows.append(row)
        tell_of = partial(_tell_row, tell, f"{row.name} ({index + 1} of {len(rows)})")
        await _measure_row(row, measurable, contenders, record.plan, reach, tell_of)
        if record.plan.strace:
            await _count_calls(row, measurable, contenders, record.plan, reach, tell_of)
    record.complete = True


async def _measure_row(
    row: Row, measurable: Measurable, contenders: Sequence[Contender], plan: Plan, reach: Reach, tell: Tell
) -> None:
    async with AsyncExitStack() as stack:
        opened: list[Opened | None] = []
        for side, contender in zip(row.sides, contenders, strict=True):
            tell(f"starting {contender.name}")
            try:
                ready = await stack.enter_async_context(measurable.opened(contender, plan, reach))
            except Unsupported as error:
                side.unsupported = str(error)
                opened.append(None)
            except LabError as error:
                side.failure = str(error)
                opened.append(None)
            else:
                side.commands = ready.commands
                opened.append(ready)
        rounds = min(plan.rounds, measurable.most_rounds or plan.rounds)
        for number in range(rounds):
            turns = list(zip(row.sides, opened, contenders, strict=True))
            for side, one, contender in turns if number % 2 == 0 else reversed(turns):
                if one is None or side.failure or side.unsupported:
                    continue
                doing = f"round {number + 1} of {rounds}, {contender.name}"
                try:
                    side.samples.append(await _measure_round(one, tell, doing))
                except Unsupported as error:
                    side.unsupported = str(error)
                except LabError as error:
                    side.failure = str(error)


async def _measure_round(one: Opened, tell: Tell, doing: str) -> Sample:
    """A round, or the first of its tries in which the generator was not late, or the last."""
    tries, said = 1, doing
    while True:
        tell(said)
        sample = await one.measure(partial(_tell_progress, tell, said))
        sample.tries = tries
        if not sample.invalid or tries == MOST_TRIES:
            return sample
        tries += 1
        said = f"{doing}, try {tries} of {MOST_TRIES}, because the generator itself was late"


async def _count_calls(
    row: Row, measurable: Measurable, contenders: Sequence[Contender], plan: Plan, reach: Reach, tell: Tell
) -> None:
    """One round more of every side under strace, without a warm-up: what is counted is all of it."""
    unwarmed = msgspec.structs.replace(plan, warmup_seconds=0)
    for side, contender in zip(row.sides, contenders, strict=True):
        if not side.samples:
            continue
        doing = f"counting system calls, {contender.name}"
        tell(doing)
        try:
            async with measurable.opened(contender, unwarmed, reach) as one:
                if not (pids := one.pids()):
                    continue
                async with counted(pids) as legs:
                    sample = await one.measure(partial(_tell_progress, tell, doing))
        except LabError as error:
            side.failure = str(error)
            continue
        answers = sum(outcome.answers for outcome in sample.outcomes)
        transferred = sum(outcome.bytes_down + outcome.bytes_up for outcome in sample.outcomes)
        side.calls = Calls(answers, transferred, legs)


def _tell_row(tell: Tell, row: str, doing: str) -> None:
    tell(f"{row}: {doing}")


def _tell_progress(tell: Tell, doing: str, progress: Progress) -> None:
    histogram = histogram_of(progress.recent)
    if histogram.get_total_count():
        found = percentiles(histogram)
        rate = found.count / progress.seconds
        p99 = f", p99 {found.p99:.2f} ms" if found.count >= answers_needed(99) else ""
        tell(f"{doing}: {rate:,.0f}/s, p50 {found.p50:.2f} ms{p99}")
