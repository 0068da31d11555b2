"""Records, tables, pages and pictures."""

from pathlib import Path

import pytest
from rich.console import Console

from perf.errors import LabError
from perf.loads.outcome import Outcome
from perf.probes.legs import Usage
from perf.probes.machine import facts
from perf.record import Better, Figure, Goal, Plan, Record, Row, Sample, Side, Subject, load_record, side_by_side
from perf.reports.page import write_page
from perf.reports.table import comparison_table, cpu_table, topologies_table
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
    text = shown(comparison_table(record))
    assert "2.97×" in text
    assert "better" in text
    assert "≥ 2× ✓" in text
    assert "≤ 5 ✓" in text
    assert "echo, trioduct: node ended with code 2" in text


def test_an_interrupted_record_says_so(record: Record) -> None:
    record.complete = False
    assert "INTERRUPTED" in shown(comparison_table(record))


def test_topologies_are_measured_by_the_first_of_them(record: Record) -> None:
    assert "0.34×" in shown(topologies_table(record))
    assert "node" in shown(cpu_table(record))


def test_a_figure_that_is_surely_worse_is_named(record: Record) -> None:
    assert record.worse_by(10) == []
    for row in record.rows:
        row.sides.reverse()
    worse = record.worse_by(10)
    assert len(worse) == 2
    assert worse[0].startswith("closed: requests/s is 0.3")


def test_two_folders_are_compared_as_measured_at_different_times(record: Record) -> None:
    both = side_by_side(record, record)
    assert [subject.name for subject in both.subjects] == ["A: trioduct", "B: trioduct"]
    assert "measured one after the other" in shown(comparison_table(both))
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
