"""Short texts for numbers, machines and histograms."""

import math
from collections.abc import Sequence

from hdrh.histogram import HdrHistogram

from perf.record import Record
from perf.statistics.ratio import CONFIDENCE, FEWEST_ROUNDS, Ratio

RATIO = f"ratio [{CONFIDENCE:.0%}]".replace("%", " %")  # the head of what `interval` writes
STEPS = " ▁▂▃▄▅▆▇█"
BARS = 16


def number(value: float) -> str:
    """Three digits that count, or all of a larger number."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(ratio: float) -> str:
    """A ratio, the same wherever it stands."""
    return f"{ratio:.2f}×"


def interval(ratio: Ratio) -> str:
    """Where the truth may be, behind a ratio; nothing of too few rounds."""
    return f" [{ratio.low:.2f}–{ratio.high:.2f}]" if ratio.rounds >= FEWEST_ROUNDS else ""


def machine_words(record: Record) -> str:
    facts = record.facts
    words = [facts.date, f"{facts.machine}, {facts.cores} cores", f"load {facts.load_average}"]
    words.append("± is half the range of the rounds")
    if not record.complete:
        words.append("INTERRUPTED: partial results")
    return " · ".join(words)


def bars(histograms: Sequence[HdrHistogram | None]) -> tuple[str, list[str]]:
    """Histograms as bars over one logarithmic scale of latency; the scale in words, and a line for each."""
    present = [histogram for histogram in histograms if histogram is not None]
    lowest = max(1.0, min(histogram.get_value_at_percentile(0.1) for histogram in present))
    highest = max(lowest * 1.1, *(histogram.get_value_at_percentile(99.9) for histogram in present))
    step = math.log(highest / lowest) / BARS
    lines = []
    for histogram in histograms:
        counts = [0] * BARS
        for item in histogram.get_recorded_iterator() if histogram is not None else ():
            place = int(math.log(max(1.0, item.value_iterated_to / lowest)) / step)
            counts[min(place, BARS - 1)] += item.count_at_value_iterated_to
        tallest = max(counts) or 1
        # A count that is there is seen, however small beside the tallest.
        lines.append("".join(STEPS[math.ceil(8 * count / tallest)] for count in counts))
    return f"{number(lowest / 1000)}–{number(highest / 1000)} ms", lines
