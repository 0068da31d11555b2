"""A record as tables on a terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perf.record import Better, Figure, Record, Row, middle_and_spread
from perf.statistics.ratio import Ratio, Verdict


def comparison_table(record: Record) -> RenderableType:
    """Medians and spreads of each side, and how the first compares with the second."""
    table = Table(title=_title(record), title_justify="left", caption=_caption(record), caption_justify="left")
    table.add_column("row", no_wrap=True)
    table.add_column("figure", no_wrap=True)
    for subject in record.subjects:
        table.add_column(subject.name, justify="right", no_wrap=True)
    if len(record.subjects) == 2:
        table.add_column("ratio [95 %]", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    table.add_column("goal", justify="right", no_wrap=True)
    for row in record.rows:
        for number, figure in enumerate(row.figures):
            table.add_row(row.name if not number else "", figure.name, *_cells(row, figure))
        table.add_section()
    return Group(table, *_remarks(record))


def cpu_table(record: Record) -> Table:
    """Where the CPU went: percent of one core per leg while each row ran, in its last round."""
    legs = list(
        dict.fromkeys(
            leg for row in record.rows for side in row.sides for sample in side.samples for leg in sample.legs
        )
    )
    table = Table(title="CPU of each process in the path, % of a core", title_justify="left")
    table.add_column("row", no_wrap=True)
    table.add_column("side", no_wrap=True)
    for leg in (*legs, "load"):
        table.add_column(leg, justify="right")
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            sample = next((s for s in reversed(side.samples) if s.outcomes), None)
            if sample is None:
                continue
            outcome = sample.outcomes[-1]
            used = [sample.legs[leg].cpu_seconds if leg in sample.legs else None for leg in legs]
            table.add_row(
                row.name,
                subject.name,
                *("" if cpu is None else f"{100 * cpu / outcome.seconds:.0f}" for cpu in used),
                f"{100 * outcome.generator_cpu_seconds / outcome.seconds:.0f}",
            )
    return table


def number(value: float) -> str:
    """Three or four digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _title(record: Record) -> str:
    names = " against ".join(subject.name for subject in record.subjects)
    return f"{names}, {record.plan.rounds} rounds of {record.plan.seconds:g} s, interleaved"


def _caption(record: Record) -> str:
    facts = record.facts
    words = [facts.date, f"{facts.machine}, {facts.cores} cores", f"load {facts.load_average}"]
    words.append("± is half the range")
    if not record.complete:
        words.append("INTERRUPTED: partial results")
    return " · ".join(words)


def _cells(row: Row, figure: Figure) -> Iterator[RenderableType]:
    for side in row.sides:
        found = middle_and_spread(side.values(figure.name))
        if found is None:
            yield Text("failed" if side.failure else "–", style="red" if side.failure else "")
        else:
            yield Text.assemble(number(found[0]), (f" ±{found[1]:.0f}%", "dim"))
    if len(row.sides) == 2:
        ratio = row.ratio(figure.name)
        yield _ratio(ratio)
        yield _verdict(ratio, figure)
    yield _goal(row, figure)


def _ratio(ratio: Ratio | None) -> Text:
    if ratio is None:
        return Text("–")
    interval = f" [{ratio.low:.2f}–{ratio.high:.2f}]" if ratio.rounds > 2 else ""
    return Text.assemble((f"{ratio.middle:.2f}×", "bold"), (interval, "dim"))


def _verdict(ratio: Ratio | None, figure: Figure) -> Text:
    if ratio is None:
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


def _remarks(record: Record) -> Iterator[Text]:
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            if side.failure:
                yield Text(f"{row.name}, {subject.name}: {side.failure}", style="red")
            doubts = dict.fromkeys(doubt for sample in side.samples for doubt in sample.doubts())
            for doubt in doubts:
                yield Text(f"{row.name}, {subject.name}: {doubt}", style="yellow")
