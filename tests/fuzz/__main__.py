"""The command: see the package. Exits with 1 if a target has raised."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import click

from tests.fuzz.targets import HERE, TARGETS, corpus, found

LIMITS: Final = ("-timeout=30", "-rss_limit_mb=2048", "-max_len=4096")
"""An input that takes longer, in seconds, or more memory, is a defect as well."""

TURN_SECONDS: Final = 600
"""What is in no ledger yet when the power goes."""


class Done(NamedTuple):
    """What a target has had."""

    runs: int
    seconds: float
    holds: bool


def fuzz(name: str, options: list[str], keep: Path | None) -> Done:
    """Run one target, and say what became of it."""
    found(name).mkdir(parents=True, exist_ok=True)
    dictionary = HERE / "dictionaries" / f"{name}.txt"
    with tempfile.TemporaryDirectory() as fresh:
        folders = [str(keep / name if keep else fresh), str(corpus(name)), str(found(name))]
        Path(folders[0]).mkdir(parents=True, exist_ok=True)
        more = [f"-artifact_prefix={found(name)}/", "-print_final_stats=1", *LIMITS]
        more += [f"-dict={dictionary}"] if dictionary.exists() else []
        since = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", name, *options, *more, *folders], capture_output=True, text=True
        )
    said = done.stderr + done.stdout
    if not any(found(name).glob("*")):
        found(name).rmdir()
    runs = re.search(r"number_of_executed_units: (\d+)", said)
    edges = re.findall(r"cov: (\d+)", said) or ["?"]
    count, seconds = int(runs[1]) if runs else 0, time.monotonic() - since
    verdict = "RAISES" if done.returncode else "holds"
    click.echo(f"{name}: {count} runs in {seconds:.0f} s, {edges[-1]} edges: {verdict}")
    if done.returncode:
        click.echo("\n".join(said.splitlines()[-60:]))
    return Done(count, seconds, not done.returncode)


def fuzz_on(names: tuple[str, ...], runs: int, ledger: Path, options: list[str], keep: Path | None) -> bool:
    """Take turns until each of the targets has had so many runs, with those that are in the ledger; one that raises has
    no further turn. Whether all was well.
    """
    had = Counter[str]()
    for line in ledger.read_text().splitlines() if ledger.exists() else ():
        name, count, *_ = [*line.split(), "", ""]
        if name not in TARGETS or not count.isdecimal():
            raise click.UsageError(f"{ledger}: expected lines of TARGET RUNS SECONDS, got {line!r}")
        had[name] += int(count)
    waiting, well = [name for name in names if had[name] < runs], True
    while waiting:
        for name in tuple(waiting):
            limits = [f"-runs={runs - had[name]}", f"-max_total_time={TURN_SECONDS}"]
            done = fuzz(name, [*limits, *options], keep)
            with ledger.open("a") as file:
                file.write(f"{name} {done.runs} {done.seconds:.0f}\n")
            had[name] += done.runs
            well = well and done.holds
            if not done.holds or had[name] >= runs:
                waiting.remove(name)
    return well


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice([*TARGETS]))
@click.option("--runs", type=int, help="Of each target, at most.")
@click.option("--minutes", type=float, help="For all of them together, at most.  [1, without --runs]")
@click.option("--seed", type=int, default=0, help="0: another one each time.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder for inputs that have led further.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="A file with a line for each turn, TARGET RUNS SECONDS. Targets take turns until each has had --runs in all;"
    " the same command goes on after an interruption.",
)
def main(
    targets: tuple[str, ...],
    runs: int | None,
    minutes: float | None,
    seed: int,
    keep: Path | None,
    ledger: Path | None,
) -> None:
    """Fuzz these targets, or all."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what runs a target ends as well
    names = targets or tuple(TARGETS)
    options = [f"-seed={seed}"]
    if ledger is not None:
        if runs is None or minutes is not None:
            raise click.UsageError("--ledger: expected --runs, and no --minutes")
        sys.exit(not fuzz_on(names, runs, ledger, options, keep))
    # libFuzzer counts whole seconds, and the seeds as runs.
    limits = [f"-runs={runs}"] if runs else []
    if minutes or not runs:
        limits.append(f"-max_total_time={max(1, round((minutes or 1) * 60 / len(names)))}")
    sys.exit(not all([fuzz(name, [*limits, *options], keep).holds for name in names]))


if __name__ == "__main__":
    main()
