"""A record as tables on a terminal."""

import statistics
from collections.abc import Iterator, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perf.probes.flames import Flames, hottest
from perf.record import Better, Figure, Kind, Record, Row, Side
from perf.reports.costs import agreements, costs
from perf.reports.grids import grids
from perf.reports.words import RATIO, bars, interval, machine_words, number, times
from perf.statistics.histogram import merged
from perf.statistics.ratio import FEWEST_ROUNDS, Ratio, Verdict, spread_percent

MOST_WIDE = 4  # sides whose ratios have room beside their figures

OTHERS_CORES = 0.2


def record_table(record: Record) -> RenderableType:
    """Medians and spreads of every side; how they compare; what failed, and what may be doubted.

    Of a pair it says how A compares with B, and whether A reaches its goals; of others how often the first side's each
    figure is. Where topologies are compared, the latencies stand below as bars.
    """
    names = [subject.name for subject in record.subjects]
    if record.pair:
        said = f"{names[0]} against {names[1]}"
    else:
        said = f"each against {names[0]}" if len(names) > 1 else names[0]
    table = _table(record)
    if record.pair:
        table.add_column(RATIO, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("goal", justify="right", no_wrap=True)
    for row in record.rows:
        for index, figure in enumerate(row.figures):
            table.add_row("" if index else row.name, figure.name, *figure_cells(record, row, figure))
        if record.kind == Kind.RUN and (shapes := _shapes(row)):
            table.add_row("", *shapes)
        table.add_section()
    return Group(_title(record, said), table, Text(machine_words(record), style="dim"), *remarks(record))


def figure_cells(record: Record, row: Row, figure: Figure) -> list[Text]:
    """A figure of every side; of a pair also ratio, verdict and goal, of others how often the first side's it is."""
    cells = [_middle(side, figure) for side in row.sides]
    if record.pair:
        ratio = row.ratio(figure.name)
        return [*cells, _ratio(ratio), _verdict(ratio, figure), _goal(row, figure)]
    for index in range(1, len(cells)):
        if (ratio := row.ratio(figure.name, index, 0)) is not None:
            between = "\n" if len(cells) > MOST_WIDE else "  "
            cells[index] = Text.assemble(cells[index], f"{between}{_multiple(ratio, figure)}")
    return cells


def path_tables(record: Record) -> RenderableType:
    """What the processes in the path and the legs of connections did, as far as it is known."""
    tables: list[RenderableType] = []
    for grid in grids(record):
        table = Table()
        for head in grid.head:
            table.add_column(head, justify="left" if head in ("row", "side", "leg", "most frequent") else "right")
        for line in grid.lines:
            table.add_row(*line)
        tables += [Text(grid.title, style="bold"), table]
    return Group(*tables)


def cost_words(record: Record) -> RenderableType:
    """The answer in words, and whether the generators agree."""
    words = [*costs(record), *agreements(record)]
    return Group(*([Text("In short", style="bold")] if words else []), *(Text(sentence) for sentence in words))


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
        table.add_column(subject.name, justify="right")  # on a narrow terminal in two lines, never cut
    return table


def _middle(side: Side, figure: Figure) -> Text:
    values = side.values(figure.name)
    if not values:
        failed = side.failure and not side.samples
        return Text("failed", style="red") if failed else Text("—" if side.unsupported else "–")
    cell = Text(number(statistics.median(values)))
    if len(values) > 1:
        points = (max(values) - min(values)) / 2
        cell.append(f" ±{number(points)}" if figure.name.endswith("%") else f" ±{spread_percent(values):.0f}%", "dim")
    if any(sample.invalid for sample in side.samples):
        cell.append("?", "yellow")  # the remark below says why
    return cell


def _multiple(ratio: Ratio, figure: Figure) -> str:
    """How often the first side's: `~` before what the rounds cannot tell from once."""
    unsure = ratio.rounds >= FEWEST_ROUNDS and _verdict_of(ratio, figure) == Verdict.UNSURE
    return f"{'~' if unsure else ''}{ratio.middle:.2f}×"


def _ratio(ratio: Ratio | None) -> Text:
    if ratio is None:
        return Text("–")
    return Text.assemble((times(ratio.middle), "bold"), (interval(ratio), "dim"))


def _verdict(ratio: Ratio | None, figure: Figure) -> Text:
    if ratio is None or ratio.rounds < FEWEST_ROUNDS:
        return Text("")
    verdict = _verdict_of(ratio, figure)
    return Text(verdict, style={Verdict.BETTER: "green", Verdict.WORSE: "red", Verdict.UNSURE: "dim"}[verdict])


def _verdict_of(ratio: Ratio, figure: Figure) -> Verdict:
    return ratio.verdict(higher_is_better=figure.better == Better.HIGHER)


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
    sides = [[sample.latency for sample in side.samples if sample.latency] for side in row.sides]
    if not any(sides):
        return []
    histograms = [merged(texts) if texts else None for texts in sides]
    scale, drawn = bars(histograms)
    return [Text(scale, style="dim"), *(Text(line, no_wrap=True, overflow="ellipsis") for line in drawn)]


def remarks(record: Record) -> Iterator[Text]:
    """What failed, and why some of the rest may be doubted."""
    if others := _others(record):
        yield Text(others, style="yellow")
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            if side.failure:
                yield Text(f"{row.name}, {subject.name}: {side.failure}", style="red")
            if side.unsupported:
                yield Text(f"{row.name}: {side.unsupported}", style="dim")
            by_kind: dict[str, list[str]] = {}
            for doubt in (doubt for sample in side.samples for doubt in sample.doubts()):
                by_kind.setdefault(doubt.partition(":")[0], []).append(doubt)
            for doubts in by_kind.values():
                times = f" (and in {len(doubts) - 1} rounds more)" if len(doubts) > 1 else ""
                yield Text(f"{row.name}, {subject.name}: {doubts[0]}{times}", style="yellow")


def _others(record: Record) -> str:
    """How much of the machine others took during the rounds, if it was so much that the figures are theirs too."""
    sides = [side for row in record.rows for side in row.sides]
    outcomes = [outcome for side in sides for sample in side.samples for outcome in sample.outcomes]
    shares = [outcome.others_cpu_seconds / outcome.seconds for outcome in outcomes if outcome.seconds]
    if not shares or statistics.fmean(shares) < OTHERS_CORES:
        return ""
    return (
        f"the machine was not quiet: others used {statistics.fmean(shares):.1f} of its {record.facts.cores} cores "
        f"during the rounds, {max(shares):.1f} in one of them; what was measured is what they left"
    )
