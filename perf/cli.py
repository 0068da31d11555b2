"""`trioduct-perf`: arguments in, tables and a result folder out. Nothing is measured here."""

import datetime
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console

from perf.errors import LabError
from perf.goals import promised_rows
from perf.probes.machine import facts
from perf.record import Plan, Record, Subject
from perf.reports.table import comparison_table, cpu_table
from perf.rounds import measure_rows
from perf.rows import Measurable
from perf.topologies.tunnels import Tunnel, tunnel_named

# Into a pipe or a file a table keeps its full width.
OUT = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
ERR = Console(stderr=True, highlight=False)


def main() -> None:
    """The command. A sentence and exit code 2 for what cannot be done, 130 after Ctrl-C."""
    try:
        command(standalone_mode=False)
    except LabError as error:
        ERR.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def command() -> None:
    """Measure tunnels and forward proxies: what each costs, and whether a change made it slower."""


@command.command()
@click.argument("subjects", nargs=-1, metavar="[A [B]]")
@click.option("--only", "only", metavar="ROW,…", help="Only these rows (see --list).")
@click.option("--list", "list_rows", is_flag=True, help="List the rows and their goals.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=4.0, show_default=True, help="Each.")
@click.option("--warmup", type=click.FloatRange(0, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("--quick", is_flag=True, help="Two rounds of a second: a first look, no verdict.")
@click.option("--output", type=click.Path(path_type=Path), help="Result folder. [default: perf-results/DATE]")
def compare(
    subjects: tuple[str, ...],
    only: str | None,
    list_rows: bool,
    rounds: int,
    seconds: float,
    warmup: float,
    quick: bool,
    output: Path | None,
) -> None:
    """Measure the promised figures of A and B, interleaved round by round.

    A and B are trioduct, piko (found on PATH or by the variables TRIODUCT and PIKO) or the path of a
    program with their command line. Without B, A is measured alone; without both, it is trioduct against
    piko.

    \b
    trioduct-perf compare --only keepalive-32,bulk-down --rounds 3
    trioduct-perf compare trioduct
    trioduct-perf compare ../before/.venv/bin/trioduct trioduct --only echo
    """
    rows = promised_rows()
    if list_rows:
        for row in rows:
            OUT.print(f"{row.name:15} {row.title}: {', '.join(figure.name for figure in row.figures)}")
        return
    if len(subjects) > 2:
        raise click.UsageError(f"A and B, got {len(subjects)} names")
    tunnels = [tunnel_named(name) for name in subjects or ("trioduct", "piko")]
    plan = Plan(2, 1.0, 0.3) if quick else Plan(rounds, seconds, warmup)
    record = Record([Subject(tunnel.name, tunnel.version()) for tunnel in tunnels], plan, facts(), shlex.join(sys.argv))
    folder = output or Path("perf-results") / datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    _run(partial(_measure, record, _selected(rows, only), tunnels))
    record.save(folder)
    OUT.print(comparison_table(record))
    OUT.print(cpu_table(record))
    OUT.print(f"every round and histogram: {folder}")
    if not record.complete:
        sys.exit(130)


def _selected(rows: Sequence[Measurable], only: str | None) -> list[Measurable]:
    if only is None:
        return list(rows)
    by_name = {row.name: row for row in rows}
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in by_name:
            raise LabError(f"no row is called {name}: there are {', '.join(by_name)}")
    return [by_name[name] for name in names]


async def _measure(record: Record, rows: list[Measurable], tunnels: list[Tunnel]) -> None:
    with ERR.status("") as status:
        await measure_rows(record, rows, tunnels, tell=status.update if ERR.is_terminal else ERR.print)


def _run(work: Callable[[], Awaitable[None]]) -> None:
    """Run until done or until the first SIGINT or SIGTERM, which ends everything that was started."""

    async def watched() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
            await work()
            nursery.cancel_scope.cancel()

    trio.run(watched)


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            ERR.print("stopping; what is measured so far is kept")
            scope.cancel()
