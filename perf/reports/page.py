"""A record as one HTML file that opens without a network: the table, the pictures, the commands to repeat it."""

from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.text import Text

from perf.record import Record
from perf.reports.costs import agreements, costs
from perf.reports.grids import grids
from perf.reports.plots import save_plots, undrawn
from perf.reports.table import figure_cells, remarks
from perf.reports.words import RATIO, machine_words


class Line(NamedTuple):
    row: str
    first: bool
    figure: str
    cells: list[str]


class Remark(NamedTuple):
    kind: str
    text: str


def write_page(record: Record, folder: Path) -> Path:
    """Draw the pictures into the folder, and write the page that holds them; its path."""
    environment = Environment(
        loader=PackageLoader("perf.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    lines = [
        Line(row.name, not index, figure.name, [cell.plain for cell in figure_cells(record, row, figure)])
        for row in record.rows
        for index, figure in enumerate(row.figures)
    ]
    page = environment.get_template("page.html.jinja").render(
        title=(" against " if record.pair else ", ").join(subject.name for subject in record.subjects),
        machine=machine_words(record),
        record=record,
        ratio=RATIO,
        lines=lines,
        costs=[*costs(record), *agreements(record)],
        grids=list(grids(record)),
        remarks=[Remark(_kind(remark), remark.plain) for remark in remarks(record)],
        undrawn=list(undrawn(record)),
        pictures=[(path.stem, _inline(path)) for path in save_plots(record, folder / "pictures")],
    )
    path = folder / "report.html"
    path.write_text(page)
    return path


def _kind(remark: Text) -> str:
    return "failed" if remark.style == "red" else "doubt"


def _inline(path: Path) -> Markup:
    """The svg element of a file, without the prologue that HTML does not know. Ours, not anybody's input."""
    text = path.read_text()
    return Markup(text[text.index("<svg") :])
