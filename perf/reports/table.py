"""A record as tables on a terminal."""

import statistics
from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perf.probes.flames import Flames, hottest
from perf.record import Better, Figure, Record, Row, Side
from perf.reports.words import bars, machine_words, number
from perf.statistics.histogram import merged
from perf.statistics.ratio import FEWEST_ROUNDS, Ratio, Verdict, spread_percent


def comparison_table(record: Record) -> RenderableType:
    """Two sides: medians and spreads, how A compares with B, and whether it reaches its goals."""
    title = _title(record, " against ".join(subject.name for subject in record.subjects))
    table = _table(record)
    if len(record.subjects) == 2:
        table.add_column("ratio [95 %]", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("goal", justify="right", no_wrap=True)
    for row in record.rows:
        for index, figure in enumerate(row.figures):
            table.add_row("" if index else row.name, figure.name, *figure_cells(row, figure))
        table.add_section()
    return Group(title, table, Text(machine_words(record), style="dim"), *remarks(record))


def topologies_table(record: Record) -> RenderableType:
    """Any number of sides: medians and spreads, and in brackets how often the first side's."""
    title = _title(record, f"each against {record.subjects[0].name}")
    table = _table(record)
    for row in record.rows:
        for index, figure in enumerate(row.figures):
            table.add_row("" if index else row.name, figure.name, *figure_cells(row, figure, first=True))
        if shapes := _shapes(row):
            table.add_row("", *shapes)
        table.add_section()
    return Group(title, table, Text(machine_words(record), style="dim"), *remarks(record))


def figure_cells(row: Row, figure: Figure, *, first: bool = False) -> list[Text]:
    """A figure of every side; of two sides also ratio, verdict and goal, or (`first`) how often the first side's."""
    cells = [_middle(side, figure) for side in row.sides]
    if first or len(row.sides) > 2:
        for index in range(1, len(cells)):
            if (ratio := row.ratio(figure.name, index, 0)) is not None:
                cells[index] = Text.assemble(cells[index], f"  {ratio.middle:.2f}×")
    elif len(row.sides) == 2:
        ratio = row.ratio(figure.name)
        cells += [_ratio(ratio), _verdict(ratio, figure), _goal(row, figure)]
    return cells


def cpu_table(record: Record) -> RenderableType:
    """Where the CPU went: percent of one core per leg, in the last round of each row."""
    legs = list(
        dict.fromkeys(
            leg for row in record.rows for side in row.sides for sample in side.samples for leg in sample.legs
        )
    )
    title = Text("CPU of each process in the path, % of a core", style="bold")
    table = Table()
    table.add_column("row", no_wrap=True)
    table.add_column("side", no_wrap=True)
    for leg in (*legs, "load"):
        table.add_column(leg, justify="right")
    for row in record.rows:
        for index, (subject, side) in enumerate(zip(record.subjects, row.sides, strict=True)):
            sample = next((s for s in reversed(side.samples) if s.outcomes), None)
            if sample is None:
                continue
            outcome = sample.outcomes[-1]
            used = [sample.legs[leg].cpu_seconds if leg in sample.legs else None for leg in legs]
            shares = [None if cpu is None else cpu / outcome.seconds for cpu in used]
            shares.append(outcome.generator_cpu_seconds / outcome.seconds)
            cells = ("" if share is None else f"{100 * share:.0f}" for share in shares)
            table.add_row("" if index else row.name, subject.name, *cells)
    return Group(title, table)


def hottest_table(flames: Mapping[str, Flames]) -> RenderableType:
    """The functions of each watched process in which most samples were taken."""
    table = Table("leg", "function", "own samples")
    for leg, found in flames.items():
        for index, (name, share) in enumerate(hottest(found.stacks)):
            table.add_row("" if index else leg, name, f"{100 * share:.1f} %")
        table.add_section()
    return table


def _title(record: Record, title: str) -> Text:
    plan = record.plan
    order = "interleaved" if all(row.interleaved for row in record.rows) else "measured one after the other"
    return Text(f"{title}, {plan.rounds} rounds of {plan.seconds:g} s, {order}", style="bold")


def _table(record: Record) -> Table:
    table = Table()
    table.add_column("row", no_wrap=True)
    table.add_column("figure", no_wrap=True)
    for subject in record.subjects:
        table.add_column(subject.name, justify="right", no_wrap=True)
    return table


def _middle(side: Side, figure: Figure) -> Text:
    values = side.values(figure.name)
    if not values:
        return Text("failed", style="red") if side.failure else Text("–")
    middle = number(statistics.median(values))
    return Text.assemble(middle, (f" ±{spread_percent(values):.0f}%", "dim")) if len(values) > 1 else Text(middle)


def _ratio(ratio: Ratio | None) -> Text:
    if ratio is None:
        return Text("–")
    interval = f" [{ratio.low:.2f}–{ratio.high:.2f}]" if ratio.rounds >= FEWEST_ROUNDS else ""
    return Text.assemble((f"{ratio.middle:.2f}×", "bold"), (interval, "dim"))


def _verdict(ratio: Ratio | None, figure: Figure) -> Text:
    if ratio is None or ratio.rounds < FEWEST_ROUNDS:
        return Text("")
    verdict = ratio.verdict(higher_is_better=figure.better == Better.HIGHER)
    return Text(verdict, style={Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.UNSURE: "dim"}[verdict])


def _goal(row: Row, figure: Figure) -> Text:
    if figure.goal is None:
        return Text("")
    sign = "≥" if figure.better == Better.HIGHER else "≤"
    text = f"{sign} {number(figure.goal.bound)}" + ("" if figure.goal.absolute else "×")
    match row.reached(figure):
        case True:
            return Text(f"{text} ✓", style="green")
        case False:
            return Text(f"{text} ✗", style="red")
        case None:
            return Text(text)


def _shapes(row: Row) -> list[Text]:
    """The latencies of each side as small bars over one common scale, with a first cell that names it."""
    sides = [[o.latency for s in side.samples for o in s.outcomes if o.latency] for side in row.sides]
    if not any(figure.name.startswith("p") for figure in row.figures) or not any(sides):
        return []
    histograms = [merged(texts) if texts else None for texts in sides]
    scale, drawn = bars(histograms)
    return [Text(scale, style="dim"), *(Text(line) for line in drawn)]


def remarks(record: Record) -> Iterator[Text]:
    """What failed, and why some of the rest may be doubted."""
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            if side.failure:
                yield Text(f"{row.name}, {subject.name}: {side.failure}", style="red")
            for doubt in dict.fromkeys(doubt for sample in side.samples for doubt in sample.doubts()):
                yield Text(f"{row.name}, {subject.name}: {doubt}", style="yellow")
