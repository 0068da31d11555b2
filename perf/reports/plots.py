"""A record as pictures.

matplotlib is imported by the functions: most commands never draw.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from perf.loads.outcome import SLICE_SECONDS
from perf.record import Better, Record, Row, Sample, Side
from perf.record import Figure as Measured
from perf.reports.looks import End, look, name_lines
from perf.reports.panels import panels
from perf.reports.schemes import scheme_bars
from perf.reports.victims import victim_dots
from perf.reports.words import interval, times
from perf.statistics.histogram import merged
from perf.statistics.ratio import FEWEST_ROUNDS, Ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MANY_TICKS = 1000  # from one end of an axis to the other: then only powers of ten are named
LEGEND_CHARACTERS = 90  # in a line
BEYOND = 10  # answers that lie beyond a percentile that is drawn
FEWEST_ANSWERS = 2 * BEYOND  # of all rounds, for the median
FEWEST_IN_A_ROUND = 100  # for a rate over time
NINES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)


def plots(record: Record) -> Iterator[tuple[str, Figure]]:
    """Every picture that the record has the data for, with its name. The caller closes the figures."""
    if len(record.subjects) == 2 and (found := _compared(record)):
        yield "ratios", _ratios(record, found)
    for row in record.rows:
        if any(_latencies(side) for side in row.sides):
            yield f"latency-{row.name}", _latency(record, row)
        if any(len(_timeline(side)) > 2 for side in row.sides):
            yield f"rate-{row.name}", _rate(record, row)
        if any(_steps(side) for side in row.sides):
            yield f"knee-{row.name}", _knee(record, row)
    if any(sample.legs and sample.outcomes for sample in _samples(record)):
        yield "cpu", _cpu(record)
    if len(record.subjects) > 2:
        yield from panels(record)
    yield from scheme_bars(record)
    yield from victim_dots(record)


def undrawn(record: Record) -> Iterator[str]:
    """A sentence for each side that a reader misses in the pictures of a row, because it had too few answers."""
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            answers = _answers(side)
            if answers and not _latencies(side):
                yield (
                    f"{row.name}, {subject.name}: no picture of the latency, which needs {FEWEST_ANSWERS} answers; "
                    f"there were {answers}"
                )
            most = max((s.outcomes[0].answers for s in side.samples if s.latency and len(s.outcomes) == 1), default=0)
            if 0 < most < FEWEST_IN_A_ROUND:
                yield (
                    f"{row.name}, {subject.name}: no picture of the rate over time, which needs {FEWEST_IN_A_ROUND} "
                    f"answers in a round; there were {most}"
                )


def save_plots(record: Record, folder: Path) -> list[Path]:
    """Each picture as PNG and SVG; the paths of the SVG files."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for name, figure in plots(record):
        for suffix in ("png", "svg"):
            figure.savefig(folder / f"{name}.{suffix}", dpi=144)
        saved.append(folder / f"{name}.svg")
        pyplot.close(figure)
    return saved


def _new(title: str, *, height: float = 3.6) -> tuple[Figure, Axes]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, height), layout="constrained")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(visible=True, color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _legend(figure: Figure) -> None:
    """Below the picture, where it hides nothing."""
    _, labels = figure.axes[0].get_legend_handles_labels()
    columns = max(1, min(len(labels), int(LEGEND_CHARACTERS / (9 + max(len(label) for label in labels)))))
    figure.legend(frameon=False, ncols=columns, loc="outside lower center", handlelength=3.2)


def _plain(axis: Axis, unit: str = "", *, subs: tuple[float, ...] = (1, 2, 5)) -> None:
    """A logarithmic axis with the numbers people say: 1, 2, 5, 10."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(lambda value, _: f"{value:g}{unit}")
    axis.set_minor_locator(NullLocator())


def _latency(record: Record, row: Row) -> Figure:
    """Percentiles, with every further nine as wide as the one before."""
    figure, axes = _new(f"{row.title}: latency by percentile")
    last = 0.0
    ends = []
    for index, (subject, side) in enumerate(zip(record.subjects, row.sides, strict=True)):
        texts = _latencies(side)
        if not texts:
            continue
        histogram = merged(texts)
        count = histogram.get_total_count()
        percents = [percent for percent in NINES if count * (100 - percent) >= 100 * BEYOND]
        xs = [100 / (100 - percent) for percent in percents]
        ys = [histogram.get_value_at_percentile(percent) / 1000 for percent in percents]
        colour, line, marker, _ = look(index)
        axes.plot(xs, ys, linestyle=line, marker=marker, color=colour, markersize=4)
        ends.append(End(xs[-1], ys[-1], subject.name, colour))
        last = max(last, percents[-1])
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = [percent for percent in (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99) if percent <= last]
    axes.set_xticks([100 / (100 - percent) for percent in shown], [f"{percent:g} %" for percent in shown])
    axes.minorticks_off()
    axes.set_xlabel("share of the answers that came within")
    axes.set_ylabel("milliseconds")
    _plain(axes.yaxis)
    name_lines(axes, ends)
    return figure


def _rate(record: Record, row: Row) -> Figure:
    """Answers per second over the time of a round: the median of the rounds, and their range as a band."""
    figure, axes = _new(f"{row.title}: answers per second over time")
    ends = []
    for index, (subject, side) in enumerate(zip(record.subjects, row.sides, strict=True)):
        rounds = [timeline for sample in side.samples for timeline in _timelines(sample)]
        length = min((len(timeline) for timeline in rounds), default=0)
        if length < 3:
            continue
        # The last slice is cut by the end of the round.
        moments = [(i + 0.5) * SLICE_SECONDS for i in range(length - 1)]
        slices = [[timeline[i] / SLICE_SECONDS for timeline in rounds] for i in range(length - 1)]
        colour, line, *_ = look(index)
        middles = [statistics.median(one) for one in slices]
        axes.plot(moments, middles, linestyle=line, color=colour)
        axes.fill_between(moments, [min(s) for s in slices], [max(s) for s in slices], color=colour, alpha=0.12, lw=0)
        ends.append(End(moments[-1], middles[-1], subject.name, colour))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", "\u202f"))
    axes.set_xlabel("seconds; the line is the median of the rounds, the band their range")
    axes.set_ylabel("answers per second")
    name_lines(axes, ends)
    return figure


def _knee(record: Record, row: Row) -> Figure:
    """p50 and p99 against the rate that was asked for."""
    figure, axes = _new(f"{row.title}: latency against rate")
    ends = []
    for index, (subject, side) in enumerate(zip(record.subjects, row.sides, strict=True)):
        steps = sorted(_steps(side))
        if not steps:
            continue
        colour, line, marker, _ = look(index)
        rates = [step[0] for step in steps]
        for column, name, width, fill in ((2, "p99", 1.6, True), (1, "p50", 0.8, False)):
            axes.plot(
                rates,
                [step[column] for step in steps],
                linestyle=line,
                linewidth=width,
                marker=marker,
                markersize=5,
                markerfacecolor=None if fill else "white",
                color=colour,
            )
            ends.append(End(rates[-1], steps[-1][column], f"{subject.name}, {name}", colour))
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain(axes.xaxis)
    _plain(axes.yaxis)
    axes.set_xlabel("requests per second asked for")
    axes.set_ylabel("milliseconds")
    name_lines(axes, ends)
    return figure


def _cpu(record: Record) -> Figure:
    """CPU of each leg while a row ran, stacked, in cores; the load generator on top."""
    bars: list[tuple[str, dict[str, float]]] = []
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            samples = [sample for sample in side.samples if sample.outcomes and sample.legs]
            if samples:
                used = [_cores(sample) for sample in samples]
                legs = list(dict.fromkeys(leg for one in used for leg in one))
                middle = {leg: statistics.median([one.get(leg, 0.0) for one in used]) for leg in legs}
                bars.append((f"{row.name}, {subject.name}", middle))
    legs = [leg for leg in dict.fromkeys(leg for _, used in bars for leg in used) if leg != "load"] + ["load"]
    figure, axes = _new("CPU of each process in the path, in cores", height=1.2 + 0.26 * len(bars))
    left = [0.0] * len(bars)
    for index, leg in enumerate(legs):
        widths = [used.get(leg, 0.0) for _, used in bars]
        axes.barh(
            range(len(bars)),
            widths,
            left=left,
            height=0.7,
            label=leg,
            color=look(index + 1).colour,  # black would hide the hatching
            hatch=look(index).hatch,
            edgecolor="black",
            linewidth=0.5,
        )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("cores")
    _legend(figure)
    return figure


def _compared(record: Record) -> list[tuple[Row, Measured, Ratio]]:
    """The ratios of two sides, each in the direction of the tables."""
    a, b = (0, 1) if record.pair else (1, 0)
    return [
        (row, figure, ratio)
        for row in record.rows
        for figure in row.figures
        if (ratio := row.ratio(figure.name, a, b)) is not None
    ]


def _ratios(record: Record, found: list[tuple[Row, Measured, Ratio]]) -> Figure:
    """Each ratio with its whole interval, the two in the words of the tables beside it; the goal as a bar."""
    a, b = (subject.name for subject in (record.subjects if record.pair else reversed(record.subjects)))
    figure, axes = _new(f"{a} / {b}\nfull: better when larger, hollow: when smaller", height=1 + 0.24 * len(found))
    ends = [0.5, 2.0]
    for place, (_, measured, ratio) in enumerate(found):
        ends.append(ratio.middle)
        if ratio.rounds >= FEWEST_ROUNDS:
            ends += ratio.low, ratio.high
            axes.plot([ratio.low, ratio.high], [place, place], color="black", linewidth=1.2)
        fill = "black" if measured.better == Better.HIGHER else "white"
        axes.plot([ratio.middle], [place], "o", color="black", markerfacecolor=fill, markersize=5)
        if record.pair and measured.goal is not None and not measured.goal.absolute:
            ends.append(measured.goal.bound)
            axes.plot([measured.goal.bound], [place], "|", color="0.45", markersize=12, markeredgewidth=2)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    lowest, highest = min(ends) / 1.2, max(ends) * 1.2
    axes.set_xlim(lowest, highest)
    _plain(axes.xaxis, "×", subs=(1, 2, 5) if highest / lowest < MANY_TICKS else (1,))
    axes.set_yticks(range(len(found)), [f"{row.name}: {f.name}" for row, f, _ in found], fontsize=8)
    axes.set_ylim(len(found) - 0.4, -0.6)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(found)), [times(r.middle) + interval(r) for *_, r in found], fontsize=8)
    beside.tick_params(length=0)
    beside.spines["right"].set_visible(False)
    return figure


def _samples(record: Record) -> Iterator[Sample]:
    for row in record.rows:
        for side in row.sides:
            yield from side.samples


def _latencies(side: Side) -> list[str]:
    return [sample.latency for sample in side.samples if sample.latency] if _answers(side) >= FEWEST_ANSWERS else []


def _answers(side: Side) -> int:
    """Those whose latencies are known."""
    return sum(sample.outcomes[-1].answers for sample in side.samples if sample.latency)


def _timelines(sample: Sample) -> list[list[int]]:
    many = [outcome for outcome in sample.outcomes if outcome.answers >= FEWEST_IN_A_ROUND]
    return [outcome.timeline for outcome in many] if len(sample.outcomes) == 1 else []


def _timeline(side: Side) -> list[int]:
    return max((timeline for sample in side.samples for timeline in _timelines(sample)), key=len, default=[])


def _steps(side: Side) -> list[tuple[float, float, float]]:
    """(rate, p50, p99) of every step of a ramp."""
    steps = []
    for sample in side.samples:
        for outcome in sample.outcomes if len(sample.outcomes) > 1 else ():
            found = outcome.percentiles()
            if outcome.asked_per_second and found is not None:
                steps.append((outcome.asked_per_second, found.p50, found.p99))
    return steps


def _cores(sample: Sample) -> dict[str, float]:
    outcome = sample.outcomes[-1]
    used = {leg: usage.cpu_seconds / outcome.seconds for leg, usage in sample.legs.items()}
    return used | {"load": outcome.generator_cpu_seconds / outcome.seconds}
