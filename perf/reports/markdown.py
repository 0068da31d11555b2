"""A record as a table in Markdown, and the table inside a page, with the figures that it was made of kept beside it.

A page says by two comments where its table stands and in which folder the figures are:

    <!-- begin figures/peers -->
    <!-- end figures/peers -->

What is between them is written by `trioduct-perf table RESULT --into PAGE`, by nobody else: from the record in that
folder it can be written again, so a test can tell a page that has drifted.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from perf.errors import LabError
from perf.record import Better, Figure, Record, Row, figures_only, load_record
from perf.reports.plots import plots
from perf.reports.table import figure_cells, remarks
from perf.statistics.ratio import CONFIDENCE, FEWEST_ROUNDS, Verdict

BLOCK = re.compile(r"(<!-- begin (?P<folder>\S+) -->\n).*?(<!-- end (?P=folder) -->)", re.DOTALL)

LEGEND_PAIR = (
    "Medians ± half the range of the rounds; ratios with the {confidence:.0%} interval of the paired rounds; ✓ and ✗ "
    "say whether the goal is met."
)
LEGEND_MANY = (
    "In each cell the median ± half the range of the rounds, and how often that is {first}'s: **bold** where it is "
    "surely better than {first}'s, `~` where the rounds cannot tell the two apart, — where the program cannot do it."
)

FOLDED = "<details><summary>What failed, what cannot be done, what may be doubted: {count}</summary>"


def markdown_table(record: Record) -> str:
    """When, where and how; the table; how to read it; what failed or may be doubted."""
    names = [subject.name for subject in record.subjects]
    columns = ["", "", *names, *(["ratio", "", "goal"] if record.pair else [])]
    lines = [_line(columns), _line(["---", "---", *("--:" for _ in columns[2:])])]
    for row in record.rows:
        for index, figure in enumerate(row.figures):
            lines.append(_line(["" if index else row.title, figure.name, *_cells(record, row, figure)]))
    legend = LEGEND_PAIR.format(confidence=CONFIDENCE) if record.pair else LEGEND_MANY.format(first=names[0])
    doubts = [f"- {remark.plain}" for remark in remarks(record)]
    parts = [_origin(record), "\n".join(lines), legend]
    if doubts:
        parts += [FOLDED.format(count=len(doubts)), "\n".join(doubts), "</details>"]
    return "\n\n".join(parts) + "\n"


def write_into(page: Path, record: Record) -> list[Path]:
    """Put the table into the page, keep its figures in the folder that the page names, and draw there the pictures
    that the page shows; what was written. Raises LabError if the page has no place for a table.
    """
    text = _text(page)
    folder = page.parent / _block(page, text)["folder"]
    small = figures_only(record)
    small.save(folder)
    page.write_text(BLOCK.sub(lambda found: found[1] + markdown_table(small) + found[3], text, count=1))
    return [page, *_draw_shown(record, folder, text)]


def drifted(page: Path) -> bool:
    """Whether the table of a page is another than its figures give."""
    text = _text(page)
    found = _block(page, text)
    return found[0] != found[1] + markdown_table(load_record(page.parent / found["folder"])) + found[3]


def _text(page: Path) -> str:
    try:
        return page.read_text()
    except OSError as error:
        raise LabError(f"no page at {page}: {error.strerror}") from error


def _block(page: Path, text: str) -> re.Match[str]:
    found = BLOCK.search(text)
    if found is None:
        raise LabError(f"{page} has no place for a table: <!-- begin FOLDER --> and <!-- end FOLDER -->")
    return found


def _draw_shown(record: Record, folder: Path, text: str) -> Iterator[Path]:
    from matplotlib import pyplot

    for name, figure in plots(record):
        for path in (folder / f"{name}.png", folder / f"{name}.svg"):
            if f"/{path.name})" in text:
                figure.savefig(path, dpi=110)
                yield path
        pyplot.close(figure)


def _origin(record: Record) -> str:
    facts, plan = record.facts, record.plan
    order = "interleaved" if all(row.interleaved for row in record.rows) else "measured one after the other"
    partly = "" if record.complete else " **Interrupted: partial results.**"
    versions = ", ".join(dict.fromkeys(subject.version or subject.name for subject in record.subjects))
    return (
        f"`{record.command}`, {facts.date[:10]}: {plan.rounds} rounds of {plan.seconds:g} s, {order}; {facts.machine}, "
        f"{facts.cores} cores, load {facts.load_average:g} before, Python {facts.python}; {versions}.{partly}"
    )


def _cells(record: Record, row: Row, figure: Figure) -> list[str]:
    cells = [re.sub("  |\n", "<br>", cell.plain) for cell in figure_cells(record, row, figure)]
    for index in range(1, len(row.sides)) if not record.pair else ():
        ratio = row.ratio(figure.name, index, 0)
        if ratio is None or ratio.rounds < FEWEST_ROUNDS:
            continue
        if ratio.verdict(higher_is_better=figure.better == Better.HIGHER) == Verdict.BETTER:
            cells[index] = f"**{cells[index]}**"
    return cells


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
