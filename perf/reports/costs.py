"""What each proxy or tunnel costs, in words: the last lines of `trioduct-perf run`."""

import statistics
from collections.abc import Iterator

from perf.record import BY_US, BY_WRK, Record, Side
from perf.reports.words import interval, number, times
from perf.statistics.ratio import paired_ratio

AGREE_PERCENT = 10
WHAT_TAKES = {"fresh": "a new connection", "open": "a request"}  # medians
WHAT_REMAINS = {"crowd": "requests/s", "closed": "requests/s", "down": "MB/s down", "up": "MB/s up"}
OF_A_CROWD = " of a crowd"  # beside the closed loop, whose requests are all equal


def costs(record: Record) -> Iterator[str]:
    """A sentence for each side beside the first, and for `x+proxy` also beside `x`: what was added costs that."""
    names = [subject.name for subject in record.subjects]
    for index, name in enumerate(names):
        shorter = max((one for one in names if name.startswith(f"{one}+")), key=len, default=names[0])
        for base in dict.fromkeys((names[0], shorter)):
            if name != base and (found := _beside(record, index, names.index(base))):
                yield f"{name} beside {base}: {found}."


def agreements(record: Record) -> Iterator[str]:
    """Where wrk and our generator took turns: whether the two found the same rate."""
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            ratio = paired_ratio(side.values(BY_US), side.values(BY_WRK)) if side.values(BY_US) else None
            if ratio is None:
                continue
            if abs(ratio.middle - 1) <= AGREE_PERCENT / 100:
                verdict = f"they agree within {AGREE_PERCENT} %"
            elif any(sample.outcomes[0].exhausted for sample in side.samples):
                verdict = "ours used up its core, so the target can do more than it finds (--processes 2)"
            elif ratio.low > 1 or ratio.high < 1:
                verdict = f"they do NOT agree within {AGREE_PERCENT} %"
            else:
                verdict = "the rounds are too few, or too noisy, to tell whether they agree"
            yield (
                f"{subject.name}: our generator found {times(ratio.middle)} the requests/s of wrk{interval(ratio)}, "
                f"in turns: {verdict}."
            )


def _beside(record: Record, index: int, base: int) -> str:
    takes, remains = [], []
    for row in record.rows:
        side, other = row.sides[index], row.sides[base]
        doubt = "?" if any(sample.invalid for sample in side.samples + other.samples) else ""
        if row.name in WHAT_TAKES and (more := _difference(side, other, "p50 ms")) is not None:
            takes.append(f"{WHAT_TAKES[row.name]} takes {_signed(more)}{doubt}{_noise(side, other, 'p50 ms')}")
        of = OF_A_CROWD if row.name == "crowd" else ""
        if row.name in ("crowd", "closed") and (cpu := _difference(side, other, "CPU s/million")) is not None:
            # A second per million is a microsecond for each.
            noise = _noise(side, other, "CPU s/million")
            takes.append(f"the processes between take {number(cpu)} µs of CPU per request{of}{noise}")
        figure = WHAT_REMAINS.get(row.name, "")
        if (ratio := row.ratio(figure, index, base)) is not None:
            remains.append(f"{100 * ratio.middle:.0f} % of the {figure}{of}{_noise(side, other, figure)}")
    return ", ".join(takes) + ("; " if takes and remains else "") + " and ".join(remains) + " remain" * bool(remains)


def _difference(side: Side, base: Side, figure: str) -> float | None:
    """Of the middles; what the base has none of counts as nothing (no process in the path has no CPU)."""
    values, others = side.values(figure), base.values(figure)
    if not values or not (others or base.samples):
        return None
    return statistics.median(values) - (statistics.median(others) if others else 0.0)


def _noise(side: Side, base: Side, figure: str) -> str:
    """A warning where the rounds of the two overlap."""
    values, others = side.values(figure), base.values(figure)
    overlap = values and others and min(values) <= max(others) and min(others) <= max(values)
    return " (within the noise)" if overlap else ""


def _signed(milliseconds: float) -> str:
    sign = "+" if milliseconds >= 0 else "−"
    amount = abs(milliseconds)
    return f"{sign}{number(amount)} ms" if amount >= 1 else f"{sign}{number(amount * 1000)} µs"
