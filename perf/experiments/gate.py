"""`python -m perf.experiments.gate`: whether the gate finds a planted slow-down, and leaves the same program alone.

The plant makes every process of the tunnel work longer by a share of the processor time that it has used. It is a
script that starts the command with a slower reactor, so it needs a Trioduct that is not compiled. Trials with and
without it take turns; each is `trioduct-perf gate`, as a user runs it.

    python -m perf.experiments.gate                            # 40 gates of the crowd: about an hour
    python -m perf.experiments.gate --trials 5 --plant 5% -l crowd,down,up
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import click

from perf.cli import Percent
from perf.errors import LabError
from perf.record import Record, load_record
from perf.reports.words import interval, times

# Who is slowed down pays in portions: to read the clock in every turn would itself be a slow-down.
PLANTED = """\
#!{python}
import sys
import time

from engine.cli import main
from engine.loop.reactor import Reactor

TURNS = 64
ready, clock = Reactor._ready, time.thread_time
turns, paid_at = 0, clock()


def slower(self, events):
    global turns, paid_at
    ready(self, events)
    turns += 1
    if turns == TURNS:
        turns = 0
        now = clock()
        until = now + (now - paid_at) * {share}
        while (paid_at := clock()) < until:
            pass


Reactor._ready = slower
sys.exit(main())
"""


class Trial(NamedTuple):
    planted: bool
    red: bool
    said: str  # the first measuring, figure by figure


@click.command()
@click.option("--trials", type=click.IntRange(1, 1000), default=20, show_default=True, help="Of each of the two.")
@click.option("--plant", type=Percent(), default=10.0, show_default=True, metavar="10%", help="The slow-down.")
@click.option("-l", "--load", default="crowd", show_default=True, metavar="NAME,…", help="As of the gate.")
@click.option("--rounds", type=click.IntRange(3, 100), help="As of the gate. [default: the gate's]")
@click.option("--seconds", type=click.FloatRange(0.2, 60), help="As of the gate. [default: the gate's]")
@click.option("--output", type=click.Path(path_type=Path), help="Keep the gates' result folders in this one.")
def main(trials: int, plant: float, load: str, rounds: int | None, seconds: float | None, output: Path | None) -> None:
    """Try the gate: the same program on both sides, and one that is slower."""
    words = ["--load", load]
    words += ["--rounds", str(rounds)] if rounds else []
    words += ["--seconds", str(seconds)] if seconds else []
    done: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="trioduct-perf-") as folder:
        program = Path(folder) / f"slower-{plant:g}"
        program.write_text(PLANTED.format(python=sys.executable, share=plant / 100))
        program.chmod(0o755)
        for number in range(2 * trials):
            planted = number % 2 == 1
            words_now = ["--program", str(program) if planted else "trioduct", *words]
            trial = _trial(words_now, (output or Path(folder)) / str(number), planted)
            done.append(trial)
            what = f"planted {plant:g} %" if planted else "the same"
            print(f"{number + 1:3} {what:14} {'red' if trial.red else 'green':6} {trial.said}", flush=True)
    for planted, what in ((False, "the same program"), (True, f"a planted {plant:g} %")):
        red = sum(trial.red for trial in done if trial.planted == planted)
        print(f"{what}: red in {red} of {trials}")


def _trial(words: list[str], folder: Path, planted: bool) -> Trial:
    argv = [sys.executable, "-m", "perf", "gate", "--against", "trioduct", *words, "--output", str(folder)]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    if answer.returncode not in (0, 1) or "failed" in answer.stdout:
        raise click.ClickException(answer.stderr.strip() or answer.stdout)
    said = _said(load_record(folder))
    try:
        said += " | again: " + _said(load_record(folder / "again"))
    except LabError:  # it was green at once
        pass
    return Trial(planted, answer.returncode == 1, said)


def _said(record: Record) -> str:
    ratios = [
        f"{row.name} {figure.name} {times(ratio.middle)}{interval(ratio)}"
        for row in record.rows
        for figure in row.figures
        if (ratio := row.ratio(figure.name)) is not None
    ]
    return ", ".join(ratios)


if __name__ == "__main__":
    main()
