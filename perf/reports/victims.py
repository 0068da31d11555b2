"""What victims of attacks noticed: p99 and maximum for each attack and program, on one logarithmic axis."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from perf.record import Record
from perf.reports.looks import look

if TYPE_CHECKING:
    from matplotlib import figure as drawn

CALM, P99, MAXIMUM = "calm p99 ms", "p99 ms", "max ms"


def victim_dots(record: Record) -> Iterator[tuple[str, drawn.Figure]]:
    """The picture, if the record has attacks. The caller closes the figure."""
    rows = [row for row in record.rows if any(figure.name == CALM for figure in row.figures)]
    if not rows:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    picture, axes = pyplot.subplots(figsize=(8, 1.2 + 0.28 * len(rows)), layout="constrained")
    places = range(len(rows))
    for index, subject in enumerate(record.subjects):
        colour, _, marker, _ = look(index)
        for figure, filled in ((P99, True), (MAXIMUM, False)):
            found = [
                (place, statistics.median(values))
                for place, row in zip(places, rows, strict=True)
                if (values := row.sides[index].values(figure))
            ]
            axes.plot(
                [value for _, value in found],
                [place for place, _ in found],
                marker,
                color=colour,
                markerfacecolor=colour if filled else "white",
                label=f"{subject.name}, {'p99' if filled else 'maximum'}",
            )
    axes.set_xscale("log")
    axes.set_xlabel("ms that a victim waited, less is better")
    axes.set_yticks(list(places), [row.name for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", color="0.85")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2 * len(record.subjects), fontsize=8)
    yield "victims", picture
