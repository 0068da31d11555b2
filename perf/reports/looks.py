"""How sides are told apart in pictures: by colours that the colour-blind can tell (Okabe and Ito, "Color Universal
Design", 2008), by line styles, markers and hatching on paper without colour, and by their names, beside their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Theirs but for yellow, which is not seen on white.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")
NAME_INCHES = 0.15  # the height of a name


class Look(NamedTuple):
    colour: str
    line: str
    marker: str
    hatch: str


class End(NamedTuple):
    """Where a line ends, in the units of its axes, and whose it is."""

    x: float
    y: float
    name: str
    colour: str


def look(index: int) -> Look:
    """Of the side, or the leg, with this index."""
    return Look(*(each[index % len(each)] for each in (COLOURS, LINES, MARKERS, HATCHES)))


def name_lines(axes: Axes, ends: Sequence[End]) -> None:
    """Write the names to the right of the axes, each in the colour of its line and led to its end.

    To be called when the lines are drawn and the scales are set.
    """
    axes.autoscale_view()
    heights = [axes.transAxes.inverted().transform(axes.transData.transform((end.x, end.y)))[1] for end in ends]
    inches = axes.get_window_extent().height / axes.figure.dpi
    for end, height in zip(ends, spread(heights, NAME_INCHES / inches), strict=True):
        axes.annotate(
            end.name,
            (end.x, end.y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=end.colour,
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places between 0 and 1 near the wanted ones, in their order, at least `gap` apart if there is room for all."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places = list(wanted)
    lowest = 0.0
    for index in order:
        places[index] = max(places[index], lowest)
        lowest = places[index] + gap
    highest = 1.0
    for index in reversed(order):
        places[index] = min(places[index], highest)
        highest = places[index] - gap
    return places
