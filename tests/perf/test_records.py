"""Records, tables, pages and pictures."""

from pathlib import Path

import pytest
from matplotlib import pyplot
from rich.console import Console

from perf.errors import LabError
from perf.loads.outcome import Outcome
from perf.probes.calls import Calls
from perf.probes.legs import Usage
from perf.probes.machine import facts
from perf.record import (
    BY_US,
    BY_WRK,
    Better,
    Figure,
    Goal,
    Kind,
    Plan,
    Record,
    Row,
    Sample,
    Side,
    Subject,
    load_record,
    side_by_side,
)
from perf.reports.costs import agreements, costs
from perf.reports.grids import calls_grid
from perf.reports.markdown import markdown_table
from perf.reports.page import write_page
from perf.reports.plots import plots
from perf.reports.table import path_tables, record_table
from perf.rows import figures_of
from perf.statistics.histogram import encoded, histogram_of

RATE = Figure("requests/s", Better.HIGHER, Goal(2))
P99 = Figure("p99 ms", Better.LOWER, Goal(5, absolute=True))


def sample(rate: float, p99: float) -> Sample:
    latency = encoded(histogram_of({300: 900, int(p99 * 1000): 100}))
    outcome = Outcome(1.0, answers=1000, latency=latency, timeline=[100] * 10, generator_cpu_seconds=0.1)
    return Sample({RATE.name: rate, P99.name: p99}, [outcome], {"node": Usage(0.5), "agent": Usage(0.25)})


@pytest.fixture
def record() -> Record:
    fast = Side([sample(300 + i, 1.0) for i in range(4)], {"node": "trioduct server"})
    slow = Side([sample(100 + i, 9.0) for i in range(4)])
    row = Row("closed", "closed loop", [RATE, P99], [fast, slow])
    failed = Row("echo", "WebSocket echo", [RATE], [Side(failure="node ended with code 2"), Side()])
    subjects = [Subject("trioduct", "1.0"), Subject("piko")]
    return Record(subjects, Plan(4, 1.0, 0.1), facts(), "trioduct-perf compare", [row, failed], complete=True)


def shown(renderable: object) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_record_survives_its_folder(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "results")
    assert load_record(tmp_path / "results") == record


def test_a_folder_of_another_version_is_refused_with_a_sentence(record: Record, tmp_path: Path) -> None:
    record.format = 99
    record.save(tmp_path)
    with pytest.raises(LabError, match="has format 99, this version reads 1"):
        load_record(tmp_path)


@pytest.mark.parametrize("content", [None, b"{", b"{}", b'{"format": 1}'])
def test_what_is_no_record_is_refused_with_a_sentence(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(LabError, match=r"no result folder|not a record"):
        load_record(tmp_path)


def test_the_table_says_ratios_verdicts_goals_and_failures(record: Record) -> None:
    text = shown(record_table(record))
    assert "2.97×" in text
    assert "better" in text
    assert "≥ 2× ✓" in text
    assert "≤ 5 ✓" in text
    assert "echo, trioduct: node ended with code 2" in text


def test_an_interrupted_record_says_so(record: Record) -> None:
    record.complete = False
    assert "INTERRUPTED" in shown(record_table(record))


@pytest.mark.parametrize(("kind", "said"), [(Kind.COMPARE, "2.97×"), (Kind.RUN, "0.34×"), (Kind.PEERS, "0.34×")])
def test_a_ratio_is_the_same_in_table_markdown_page_and_picture(
    record: Record, kind: Kind, said: str, tmp_path: Path
) -> None:
    record.kind = kind
    written = write_page(record, tmp_path).read_text()
    page, picture = written.split('<figure id="ratios">')
    for text in (shown(record_table(record)), markdown_table(record), page, picture):
        assert [word for word in ("2.97×", "0.34×") if word in text] == [said]


def test_an_interval_is_drawn_to_its_ends(record: Record) -> None:
    for index, sample in enumerate(record.rows[0].sides[0].samples):
        sample.figures[RATE.name] = 10.0 ** (index * 2)
    ratio = record.rows[0].ratio(RATE.name)
    assert ratio is not None
    for name, figure in plots(record):
        if name == "ratios":
            low, high = figure.axes[0].get_xlim()
            assert low < ratio.low < ratio.high < high
        pyplot.close(figure)


def test_what_processes_did_is_told_by_their_legs(record: Record) -> None:
    assert "node" in shown(path_tables(record))


def test_rounds_in_which_the_generator_was_late_are_marked_and_explained(record: Record) -> None:
    late = encoded(histogram_of({100: 900, 5000: 100}))
    record.rows[0].sides[1].samples[2].outcomes[0].lag = late
    text = shown(record_table(record))
    assert text.count("%?") == 2  # both figures of that side
    assert "closed, piko: invalid, the generator itself was late: p99 5.00 ms" in text


def test_a_generator_without_time_left_is_named_as_the_limit(record: Record) -> None:
    record.rows[0].sides[0].samples[0].outcomes[0].generator_cpu_seconds = 0.97
    assert "closed, trioduct: the generator was the limit: it used 97 % of its core" in shown(record_table(record))


def test_a_percentile_that_the_answers_cannot_carry_is_left_out_and_it_is_said_how_many_it_needs() -> None:
    outcome = Outcome(1.0, answers=60, latency=encoded(histogram_of({300: 60})))
    wanted = tuple(Figure(name, Better.LOWER) for name in ("p50 ms", "p99 ms", "p99.9 ms", "p99 / p50", "max ms"))
    found = figures_of(outcome, {}, wanted)
    assert set(found) == {"p50 ms", "max ms"}
    row = Row("open", "open loop", list(wanted), [Side([Sample(found, [outcome])])])
    text = shown(record_table(Record([Subject("direct")], Plan(), facts(), "", [row])))
    assert "open, direct: too few answers for p99: it needs 100 in a round, there were 60" in text
    assert "open, direct: too few answers for p99.9: it needs 1000 in a round, there were 60" in text


def test_rounds_are_paired_also_where_one_has_not_got_the_figure() -> None:
    a = Side([Sample({"p99 ms": 2.0}), Sample({}), Sample({"p99 ms": 8.0}), Sample({"p99 ms": 4.0})])
    b = Side([Sample({"p99 ms": 1.0}), Sample({"p99 ms": 9.0}), Sample({"p99 ms": 4.0}), Sample({"p99 ms": 2.0})])
    ratio = Row("open", "open loop", [P99], [a, b]).ratio("p99 ms")
    assert ratio is not None
    assert (ratio.low, ratio.middle, ratio.high, ratio.rounds) == pytest.approx((2.0, 2.0, 2.0, 3))


def test_what_is_added_to_the_way_is_said_in_words() -> None:
    def side(p50: float, rate: float, cpu: float | None) -> list[Side]:
        figures = {"requests/s": rate} | ({} if cpu is None else {"CPU s/million": cpu})
        return [Side([Sample({"p50 ms": p50})]), Side([Sample(figures)])]

    ways = {"direct": side(0.1, 100, None), "tunnel": side(0.4, 25, 50.0), "tunnel+proxy": side(1.9, 20, 65.0)}
    rows = [
        Row(name, name, [], [sides[index] for sides in ways.values()]) for index, name in enumerate(("open", "closed"))
    ]
    record = Record([Subject(name) for name in ways], Plan(), facts(), "", rows)
    between = "the processes between take"
    assert list(costs(record)) == [
        f"tunnel beside direct: a request takes +300 µs, {between} 50 µs of CPU per request; "
        "25 % of the requests/s remain.",
        f"tunnel+proxy beside direct: a request takes +1.8 ms, {between} 65 µs of CPU per request; "
        "20 % of the requests/s remain.",
        f"tunnel+proxy beside tunnel: a request takes +1.5 ms, {between} 15 µs of CPU per request; "
        "80 % of the requests/s remain.",
    ]


def test_what_a_crowd_is_told_of_it_is_not_taken_for_equal_requests() -> None:
    sides = [Side([Sample({"requests/s": 100.0})]), Side([Sample({"requests/s": 20.0, "CPU s/million": 90.0})])]
    record = Record([Subject("direct"), Subject("tunnel")], Plan(), facts(), "", [Row("crowd", "crowd", [], sides)])
    assert list(costs(record)) == [
        "tunnel beside direct: the processes between take 90 µs of CPU per request of a crowd; "
        "20 % of the requests/s of a crowd remain."
    ]


@pytest.mark.parametrize(
    ("ours", "cpu", "verdict"),
    [
        ((98.0, 98.0, 98.0), 0.2, "they agree within 10 %."),
        ((80.0, 80.0, 80.0), 0.2, "they do NOT agree within 10 %."),
        ((80.0, 80.0, 80.0), 1.0, "ours used up its core"),
        ((80.0, 80.0), 0.2, "the rounds are too few"),
    ],
)
def test_two_generators_agree_or_do_not(ours: tuple[float, ...], cpu: float, verdict: str) -> None:
    outcomes = [Outcome(1.0, generator_cpu_seconds=cpu), Outcome(1.0)]
    side = Side([Sample({BY_WRK: 100.0, BY_US: rate}, outcomes) for rate in ours])
    record = Record([Subject("direct")], Plan(), facts(), "", [Row("wrk", "wrk", [], [side])])
    (said,) = agreements(record)
    assert said.startswith(f"direct: our generator found {ours[0] / 100:.2f}× the requests/s of wrk")
    assert verdict in said


def test_calls_are_told_per_request_or_where_there_are_few_per_megabyte(record: Record) -> None:
    record.rows[0].sides[0].calls = Calls(1000, 128_000, {"node": {"recvfrom": 3000, "sendto": 1000}})
    record.rows[0].sides[1].calls = Calls(1, 10_000_000, {"node": {"recvfrom": 50}})
    lines = calls_grid(record).lines
    assert lines[0][1:] == ["trioduct", "node", "4 / request", "recvfrom 3, sendto 1"]
    assert lines[1][1:] == ["piko", "node", "5 / MB", "recvfrom 5"]


def test_a_figure_that_is_surely_worse_is_named(record: Record) -> None:
    assert not record.worse_by(10)
    for row in record.rows:
        row.sides.reverse()
    worse = record.worse_by(10)
    assert len(worse) == 2
    assert worse["closed", "requests/s"].startswith("closed: requests/s is 0.34 [0.3")


def test_two_folders_are_compared_as_measured_at_different_times(record: Record) -> None:
    both = side_by_side(record, record)
    assert [subject.name for subject in both.subjects] == ["A: trioduct", "B: trioduct"]
    assert "measured one after the other" in shown(record_table(both))
    record.rows.clear()
    with pytest.raises(LabError, match="no row in common"):
        side_by_side(both, record)


def test_the_page_stands_alone_with_its_pictures_and_commands(record: Record, tmp_path: Path) -> None:
    page = write_page(record, tmp_path).read_text()
    assert page.count("<svg") == 4
    assert "src=" not in page
    assert "trioduct-perf compare" in page
    assert "node: trioduct server" in page
    assert {path.name for path in (tmp_path / "pictures").glob("*.png")} == {
        "ratios.png",
        "cpu.png",
        "latency-closed.png",
        "rate-closed.png",
    }
