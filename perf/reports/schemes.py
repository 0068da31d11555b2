"""What a handshake takes, scheme by scheme: bars in microseconds, the sides of each scheme beside one another."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from perf.record import Record
from perf.reports.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREFIX = "handshake-"
PANELS = (
    ("first µs", "the proxy is not known yet"),
    ("again µs", "it is known: ours remembers, curl was told the scheme"),
)
HATCHES = ("", "////", "....", "xxxx")
SHADES = ("0.35", "0.95", "0.7", "0.85")


def scheme_bars(record: Record) -> Iterator[tuple[str, Figure]]:
    """The picture, with its name, if handshakes were measured. The caller closes it."""
    rows = [row for row in record.rows if row.name.startswith(PREFIX)]
    if not any(side.samples for row in rows for side in row.sides):
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    height = 1.3 + len(rows) * (0.12 + 0.2 * len(record.subjects))
    picture, both = pyplot.subplots(1, 2, figsize=(9.5, height), layout="constrained", sharey=True)
    for axes, (figure, title) in zip(both, PANELS, strict=True):
        axes.set_title(title, loc="left", fontsize=9)
        _draw(axes, record, figure)
    both[0].set_yticks(range(len(rows)), [row.name.removeprefix(PREFIX) for row in rows], fontsize=9)
    both[0].invert_yaxis()
    picture.legend(
        *both[0].get_legend_handles_labels(), frameon=False, ncols=len(record.subjects), loc="outside lower center"
    )
    yield "handshakes", picture


def _draw(axes: Axes, record: Record, figure: str) -> None:
    """Bars to the median, lines from the lowest to the highest round."""
    rows = [row for row in record.rows if row.name.startswith(PREFIX)]
    width = 0.8 / len(record.subjects)
    longest = 0.0
    for index, subject in enumerate(record.subjects):
        places = [place + width * (index - (len(record.subjects) - 1) / 2) for place in range(len(rows))]
        found = [row.sides[index].values(figure) for row in rows]
        axes.barh(
            places,
            [statistics.median(values) if values else 0.0 for values in found],
            height=width,
            label=subject.name,
            color=SHADES[index % len(SHADES)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor="black",
            linewidth=0.6,
        )
        for place, values in zip(places, found, strict=True):
            end = max(values, default=0.0)
            longest = max(longest, end)
            if len(values) > 1:
                axes.plot([min(values), end], [place, place], color="black", linewidth=1.4)
            text = number(statistics.median(values)) if values else "no tunnel"
            axes.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_xlim(0, longest * 1.15)
    axes.set_xlabel("microseconds until the tunnel is open")
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.grid(visible=True, axis="x", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
