"""Pictures: who is who in them, and what is missing from them."""

from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex

from perf.loads.outcome import Outcome
from perf.probes.machine import facts
from perf.record import Better, Figure, Plan, Record, Row, Sample, Side, Subject
from perf.reports.looks import COLOURS, spread
from perf.reports.page import write_page
from perf.reports.plots import plots, undrawn
from perf.statistics.histogram import encoded, histogram_of

NAMES = ["one", "two", "three", "four", "five", "six", "seven"]


def record_of(answers: int, names: list[str]) -> Record:
    """An open loop on so many sides, in two rounds of so many answers each."""
    rate = answers // 10

    def sample(milliseconds: int) -> Sample:
        latency = encoded(histogram_of({1000 * milliseconds: answers}))
        outcome = Outcome(1.0, answers=answers, latency=latency, timeline=[rate] * 10, asked_per_second=answers)
        return Sample({"p50 ms": float(milliseconds)}, [outcome])

    sides = [Side([sample(index + 1), sample(index + 1)]) for index in range(len(names))]
    row = Row("open", "open loop", [Figure("p50 ms", Better.LOWER)], sides)
    return Record([Subject(name) for name in names], Plan(2, 1.0), facts(), "trioduct-perf run", [row], complete=True)


@pytest.mark.parametrize("name", ["latency-open", "rate-open"])
def test_seven_lines_have_seven_colours_and_their_names_beside_them(name: str) -> None:
    pictures = dict(plots(record_of(1000, NAMES)))
    (axes,) = pictures[name].axes
    assert [to_hex(line.get_color()).upper() for line in axes.lines] == [*COLOURS]
    assert {text.get_text(): text.get_color() for text in axes.texts} == dict(zip(NAMES, COLOURS, strict=True))
    for figure in pictures.values():
        pyplot.close(figure)


@pytest.mark.parametrize("wanted", [[0.5] * 7, [0.0, 0.01, 0.02], [0.98, 1.0, 0.99], [0.1, 0.9, 0.5], []])
def test_names_are_spread_in_their_order_and_within_the_picture(wanted: list[float]) -> None:
    places = spread(wanted, 0.1)
    assert all(0 <= place <= 1.0001 for place in places)
    in_order = [place for _, place in sorted(zip(wanted, places, strict=True))]
    assert all(higher - lower >= 0.0999 for lower, higher in pairwise(in_order))


def test_a_load_of_few_answers_is_drawn_as_far_as_they_go_and_what_is_not_drawn_is_said(tmp_path: Path) -> None:
    record = record_of(60, ["direct"])
    assert [path.name for path in (write_page(record, tmp_path).parent / "pictures").glob("*.png")] == [
        "latency-open.png"
    ]
    rate = "open, direct: no picture of the rate over time, which needs 100 answers in a round; there were 60"
    assert list(undrawn(record)) == [rate]
    assert rate in (tmp_path / "report.html").read_text()


def test_a_load_of_too_few_answers_is_missed_with_a_word() -> None:
    latency, rate = undrawn(record_of(8, ["direct"]))
    assert latency == "open, direct: no picture of the latency, which needs 20 answers; there were 16"
    assert rate.endswith("which needs 100 answers in a round; there were 8")
    assert list(undrawn(record_of(1000, ["direct"]))) == []
