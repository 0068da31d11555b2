"""The command: see the package. Exits with 1 if a target has raised."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.fuzz.targets import HERE, TARGETS, corpus, found

LIMITS = ("-timeout=30", "-rss_limit_mb=2048", "-max_len=4096")
"""An input that takes longer, in seconds, or more memory, is a defect as well."""


def fuzz(name: str, options: list[str], keep: Path | None) -> bool:
    """Run one target, and say what became of it. Whether all was well."""
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
    told = f"{name}: {runs[1] if runs else '?'} runs in {time.monotonic() - since:.0f} s, {edges[-1]} edges"
    click.echo(f"{told}: {'holds' if not done.returncode else 'RAISES'}")
    if done.returncode:
        click.echo("\n".join(said.splitlines()[-60:]))
    return not done.returncode


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice([*TARGETS]))
@click.option("--runs", type=int, help="Of each target, at most.")
@click.option("--minutes", type=float, help="For all of them together, at most.  [1, without --runs]")
@click.option("--seed", type=int, default=0, help="0: another one each time.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder for inputs that have led further.")
def main(targets: tuple[str, ...], runs: int | None, minutes: float | None, seed: int, keep: Path | None) -> None:
    """Fuzz these targets, or all."""
    names = targets or tuple(TARGETS)
    # libFuzzer counts whole seconds, and the seeds as runs.
    limits = [f"-runs={runs}"] if runs else []
    if minutes or not runs:
        limits.append(f"-max_total_time={max(1, round((minutes or 1) * 60 / len(names)))}")
    sys.exit(not all([fuzz(name, [*limits, f"-seed={seed}"], keep) for name in names]))


if __name__ == "__main__":
    main()
