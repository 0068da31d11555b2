"""Rounds: every row on every side in turns, so that a noisy machine is noisy for all of them.

In even rounds the sides have their turn in order, in odd ones in reverse (A B, B A): a drift of the
machine, which grows along both rounds, then falls on both sides alike.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from perf.contender import Contender
from perf.errors import LabError
from perf.loads.outcome import Progress
from perf.record import Plan, Record, Row, Side
from perf.rows import Measurable, Opened
from perf.statistics.histogram import histogram_of, percentiles

Tell = Callable[[str], None]


async def measure_rows(
    record: Record, rows: Sequence[Measurable], contenders: Sequence[Contender], *, tell: Tell
) -> None:
    """Measure the rows one after another into the record; `tell` hears what is being done.

    What a side cannot do is noted in its place, and the others go on. Cancelled in the middle of a row, the
    record holds the rounds finished so far.
    """
    for measurable in rows:
        row = Row(measurable.name, measurable.title, list(measurable.figures), [Side() for _ in contenders])
        record.rows.append(row)
        await _measure_row(row, measurable, contenders, record.plan, tell)
    record.complete = True


async def _measure_row(
    row: Row, measurable: Measurable, contenders: Sequence[Contender], plan: Plan, tell: Tell
) -> None:
    async with AsyncExitStack() as stack:
        opened: list[Opened | None] = []
        for side, contender in zip(row.sides, contenders, strict=True):
            tell(f"{row.name}: starting {contender.name}")
            try:
                ready = await stack.enter_async_context(measurable.opened(contender, plan))
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
                if one is None or side.failure:
                    continue
                doing = f"{row.name}: round {number + 1} of {rounds}, {contender.name}"
                tell(doing)
                try:
                    side.samples.append(await one.measure(partial(_tell_progress, tell, doing)))
                except LabError as error:
                    side.failure = str(error)


def _tell_progress(tell: Tell, doing: str, progress: Progress) -> None:
    histogram = histogram_of(progress.recent)
    if histogram.get_total_count():
        found = percentiles(histogram)
        rate = found.count / progress.seconds
        tell(f"{doing}: {rate:,.0f}/s, p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms")
