"""Many programs side by side: one figure of one row is a panel of bars, and what has one unit is one picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from perf.record import Better, Figure, Record, Row
from perf.reports.words import number

if TYPE_CHECKING:
    from matplotlib import figure as drawn
    from matplotlib.axes import Axes

PICTURES = {
    "requests": ("requests/s",),
    "bytes": ("MB/s down", "MB/s up"),
    "times": ("p50 ms", "p99 ms"),
    "work": ("CPU s/million", "CPU s/GB down", "CPU s/GB up"),
    "memory": ("node MiB at rest", "agent MiB at rest", "node MiB", "agent MiB"),
}


def panels(record: Record) -> Iterator[tuple[str, drawn.Figure]]:
    """Each picture that there is something for, with its name. The caller closes the figures."""
    for name, units in PICTURES.items():
        found = [
            (row, figure)
            for row in record.rows
            for figure in row.figures
            if figure.name in units and any(side.values(figure.name) for side in row.sides)
        ]
        if found:
            yield name, _picture(record, found)


def _picture(record: Record, found: list[tuple[Row, Figure]]) -> drawn.Figure:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 2 if len(found) == 4 else min(3, len(found))
    rows = -(-len(found) // columns)
    size = (3.2 * columns, rows * (0.6 + 0.22 * len(record.subjects)))
    picture, grid = pyplot.subplots(rows, columns, figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axes, (row, figure) in zip(grid.flat, found, strict=False):
        _panel(axes, record, row, figure)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    return picture


def _panel(axes: Axes, record: Record, row: Row, figure: Figure) -> None:
    """Bars to the median, lines from the lowest to the highest round; the first side's bar is the dark one."""
    better = "more is better" if figure.better == Better.HIGHER else "less is better"
    axes.set_title(f"{row.name}: {figure.name}\n{better}", loc="left", fontsize=8)
    longest = max(max(side.values(figure.name), default=0.0) for side in row.sides)
    for place, side in enumerate(row.sides):
        values = side.values(figure.name)
        text = "—"
        if values:
            middle, text = statistics.median(values), number(statistics.median(values))
            shade = "0.6" if place == 0 else "0.92"
            axes.barh(place, middle, height=0.65, color=shade, edgecolor="black", linewidth=0.6)
            axes.plot([min(values), max(values)], [place, place], color="black", linewidth=1.2)
        beside = (max(values, default=0.0), place)
        axes.annotate(text, beside, xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_xlim(0, longest * 1.3)
    axes.set_xticks([])
    axes.set_yticks(range(len(record.subjects)), [subject.name for subject in record.subjects], fontsize=8)
    axes.set_ylim(len(record.subjects) - 0.4, -0.6)
    for edge in ("top", "right", "bottom"):
        axes.spines[edge].set_visible(False)
    axes.tick_params(axis="y", length=0)
