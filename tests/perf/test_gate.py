"""The gate: sides in turns, what is slower and what is not, baselines that are none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perf.contender import Contender
from perf.errors import LabError
from perf.experiments.gate import PLANTED
from perf.probes.legs import ran_seconds
from perf.probes.machine import facts
from perf.record import Better, Figure, Kind, Plan, Record, Row, Sample, Side, Subject, load_record
from perf.topologies.shape import Route
from perf.topologies.tunnels.commit import last_release
from perf.turns import TURN_LOADS, measure_in_turns, together, turn_load

DIRECT = Contender(name="direct", route=Route.DIRECT)
RATE, CPU = Figure("requests/s"), Figure("CPU s/million", Better.LOWER)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "perf", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)


def record_of(*sides: Side, kind: Kind = Kind.GATE) -> Record:
    rows = [Row("crowd", "a crowd", [RATE, CPU], list(sides))]
    subjects = [Subject(name) for name in ("new", "old")[: len(sides)]]
    return Record(subjects, Plan(len(sides[0].samples)), facts(), "trioduct-perf run", rows, complete=True, kind=kind)


def side(*costs: float) -> Side:
    return Side([Sample({RATE.name: 1e6 / cost, CPU.name: cost}) for cost in costs])


@pytest.mark.parametrize("load", TURN_LOADS)
async def test_every_load_is_measured_in_turns_and_leaves_the_same_figures_on_both_sides(load: str) -> None:
    record = Record([Subject("a"), Subject("b")], Plan(2, 0.1, 0.05), facts(), "")
    await measure_in_turns(record, [turn_load(load)], [DIRECT, DIRECT], tell=lambda _: None)
    assert record.complete
    (row,) = record.rows
    for one in row.sides:
        assert one.failure == ""
        assert [set(sample.figures) for sample in one.samples] == [{row.figures[0].name}] * 2  # nobody is between
        assert all(sample.figures[row.figures[0].name] > 0 for sample in one.samples)


async def test_a_side_that_cannot_be_started_is_told_and_ends_its_row(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho no such key; exit 3\n")
    program.chmod(0o755)
    answer = command("gate", "--against", str(program), "-l", "crowd", "--output", str(tmp_path / "out"))
    assert answer.returncode == 2
    assert "node ended with code 3: no such key" in answer.stderr


def test_a_disturbance_in_a_few_turns_is_not_in_the_round() -> None:
    first = [{CPU.name: 11.0 * others} for others in (1, 1, 2, 1, 1)]
    second = [{CPU.name: 10.0 * others} for others in (1, 1, 2, 3, 1)]
    a, b = together(first, second)
    assert b[CPU.name] == 10
    assert a[CPU.name] == pytest.approx(11)


def test_what_is_slower_by_more_than_half_of_what_is_to_be_found_is_red() -> None:
    def slower(percent: float, noise: float = 0.0) -> bool:
        new = side(*(10 * (1 + percent / 100) * (1 + noise * sign) for sign in (-1, 0, 1, 0, -1, 1)))
        return bool(record_of(new, side(*[10.0] * 6)).worse_by(5, by_the_middle=True))

    assert slower(10)
    assert slower(10, noise=0.02)
    assert not slower(3)
    assert not slower(10, noise=0.3)  # not sure that it is slower at all
    assert not slower(-10)


def test_a_processes_time_is_read_to_less_than_a_tick() -> None:
    before = ran_seconds(os.getpid())
    sum(range(10_000))
    assert ran_seconds(os.getpid()) - before > 0
    with pytest.raises(OSError, match="Invalid argument"):
        ran_seconds(2**22 + 1)


@pytest.mark.parametrize(
    ("kind", "complete", "words", "sentence"),
    [
        (Kind.RUN, True, [], "is no baseline, but what `trioduct-perf run` has measured"),
        (Kind.BASELINE, False, [], "is a baseline that was interrupted"),
        (Kind.BASELINE, True, ["-l", "crowd,up"], "has no up, only crowd"),
    ],
)
def test_what_is_no_baseline_is_refused_before_anything_is_measured(
    kind: Kind, complete: bool, words: list[str], sentence: str, tmp_path: Path
) -> None:
    record = record_of(side(10.0), side(20.0), kind=kind)
    record.complete = complete
    record.save(tmp_path)
    answer = command("gate", "--baseline", str(tmp_path), *(words or ["-l", "crowd"]))
    assert answer.returncode == 2
    assert f"{tmp_path} {sentence}" in answer.stderr
    assert "`trioduct-perf gate --write FOLDER` measures a baseline" in answer.stderr
    assert "round" not in answer.stderr


def test_a_baseline_that_was_written_is_compared_with(tmp_path: Path) -> None:
    quick = ["-l", "crowd", "--rounds", "3", "--seconds", "0.2"]
    answer = command("gate", "--write", str(tmp_path / "baseline"), *quick)
    assert answer.returncode == 0, answer.stderr
    assert load_record(tmp_path / "baseline").kind == Kind.BASELINE
    answer = command("gate", "--baseline", str(tmp_path / "baseline"), *quick, "--output", str(tmp_path / "now"))
    assert answer.returncode in (0, 1), answer.stderr
    assert "A: tunnel / direct against B: tunnel / direct" in answer.stdout
    assert not load_record(tmp_path / "now").pair  # of what it measured a table says tunnel / direct, too


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--baseline", "a", "--write", "b"], "one of --against, --baseline and --write"),
        (["-l", "echo"], "no load that takes turns is called echo: there are crowd, closed, down, up"),
    ],
)
def test_what_the_gate_cannot_do_is_a_sentence(words: list[str], sentence: str) -> None:
    answer = command("gate", *words)
    assert answer.returncode == 2
    assert sentence in answer.stderr


def test_without_a_tag_the_gate_says_how_to_name_what_it_measures_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match=r"no last release to measure beside, name a program by --against: git describe"):
        last_release()


def test_the_experiment_plants_what_it_says(tmp_path: Path) -> None:
    program = tmp_path / "slower"
    program.write_text(PLANTED.format(python=sys.executable, share=0.1))
    program.chmod(0o755)
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("trioduct ")
