"""What processes and connections did in a row, as plain cells, for terminal and page alike."""

from collections.abc import Iterator
from typing import NamedTuple

from perf.record import Record, Row, Side
from perf.reports.words import number
from perf.statistics.histogram import answers_needed, merged, percentiles

FEWEST_ANSWERS = 100  # below, "per request" says nothing
NAMED_CALLS = 5
LEGS = ("tcp", "proxy", "tls", "first byte", "body")  # in the order in which a connection goes through them


class Grid(NamedTuple):
    title: str
    head: list[str]
    lines: list[list[str]]


def grids(record: Record) -> Iterator[Grid]:
    """Those that the record has the data for."""
    for grid in (legs_grid(record), cpu_grid(record), memory_grid(record), calls_grid(record)):
        if grid.lines:
            yield grid


def legs_grid(record: Record) -> Grid:
    """How long each leg of a new connection took."""
    lines = []
    for row in record.rows:
        each = [_leg_cells(side) for side in row.sides]
        found = dict.fromkeys(leg for cells in each for leg in cells)
        for leg in sorted(found, key=lambda leg: LEGS.index(leg) if leg in LEGS else len(LEGS)):
            lines.append([row.name, leg, *(cells.get(leg, "") for cells in each)])
    title = f"Legs of a new connection, ms: p50 / p99 (of {answers_needed(99)} or more) / max"
    return Grid(title, ["row", "leg", *(subject.name for subject in record.subjects)], _told_once(lines))


def cpu_grid(record: Record) -> Grid:
    """Where the CPU went in the last round of each row, and how often a process left its core."""
    legs = list(dict.fromkeys(leg for _, _, side in _sides(record) for sample in side.samples for leg in sample.legs))
    lines = []
    for row, name, side in _sides(record):
        sample = next((sample for sample in reversed(side.samples) if sample.outcomes), None)
        if sample is None:
            continue
        outcome = sample.outcomes[-1]
        cells = []
        for leg in legs:
            usage = sample.legs.get(leg)
            cell = "" if usage is None else f"{100 * usage.cpu_seconds / outcome.seconds:.0f}"
            if usage is not None and outcome.answers >= FEWEST_ANSWERS:
                waits, evictions = usage.waits / outcome.answers, usage.evictions / outcome.answers
                cell += f" · {waits:.2f} + {evictions:.2f}"
            cells.append(cell)
        load = f"{100 * outcome.generator_cpu_seconds / outcome.seconds:.0f}"
        others = f"{100 * outcome.others_cpu_seconds / outcome.seconds:.0f}" if sample.legs else ""
        lines.append([row.name, name, *cells, load, others])
    title = "Each process in the path: CPU in % of a core · context switches per request, voluntary + involuntary"
    return Grid(title, ["row", "side", *legs, "load", "others"], _told_once(lines))


def memory_grid(record: Record) -> Grid:
    """What each side's processes weighed after the last row in which they had work."""
    latest = {name: side.samples[-1].legs for _, name, side in _sides(record) if side.samples and side.samples[-1].legs}
    legs = list(dict.fromkeys(leg for usages in latest.values() for leg in usages))
    lines = []
    for name, usages in latest.items():
        sizes = ((usages[leg].resident_bytes, usages[leg].peak_bytes) if leg in usages else () for leg in legs)
        lines.append([name, *(" / ".join(number(size / 2**20) for size in pair) for pair in sizes)])
    return Grid("Memory of each process, MiB: after its last row / most so far", ["side", *legs], lines)


def calls_grid(record: Record) -> Grid:
    """System calls under strace."""
    lines = []
    for row, name, side in _sides(record):
        if side.calls is None:
            continue
        calls = side.calls
        each = calls.answers if calls.answers >= FEWEST_ANSWERS else calls.transferred_bytes / 1e6
        for leg, counts in calls.legs.items():
            per = {call: count / each for call, count in counts.items()} if each else {}
            often = sorted(per.items(), key=lambda pair: -pair[1])[:NAMED_CALLS]
            unit = "request" if calls.answers >= FEWEST_ANSWERS else "MB"
            said = ", ".join(f"{call} {number(count)}" for call, count in often)
            lines.append([row.name, name, leg, f"{number(sum(per.values()))} / {unit}", said])
    title = "System calls, counted in a round of their own under strace"
    return Grid(title, ["row", "side", "leg", "calls", "most frequent"], _told_once(lines))


def _sides(record: Record) -> Iterator[tuple[Row, str, Side]]:
    for row in record.rows:
        for subject, side in zip(record.subjects, row.sides, strict=True):
            yield row, subject.name, side


def _leg_cells(side: Side) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    for sample in side.samples:
        for outcome in sample.outcomes:
            for leg, text in outcome.legs.items():
                texts.setdefault(leg, []).append(text)
    cells = {}
    for leg, several in texts.items():
        found = percentiles(merged(several))
        p99 = number(found.p99) if found.count >= answers_needed(99) else "–"
        cells[leg] = f"{number(found.p50)} / {p99} / {number(found.maximum)}"
    return cells


def _told_once(lines: list[list[str]]) -> list[list[str]]:
    """A row's name stands in its first line only."""
    names = [line[0] for line in lines]
    for index in range(1, len(lines)):
        if names[index] == names[index - 1]:
            lines[index][0] = ""
    return lines
