"""`trioduct-perf`: arguments in, tables and a result folder out. Nothing is measured here."""

import contextlib
import datetime
import ipaddress
import re
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path

import click
import msgspec
import trio
from rich.console import Console

from perf.attacks.rows import attack_rows
from perf.bench import LOADS, Options, contender_named, contenders_at, load_row, mix_row
from perf.contender import Contender, contenders_of
from perf.errors import LabError, MissingProgram
from perf.goals import peer_rows, promised_rows
from perf.loads.open import Arrivals
from perf.probes.calls import strace
from perf.probes.flames import Flames, watched
from perf.probes.machine import facts
from perf.reach.rows import reach_rows
from perf.reach.sides import reach_sides
from perf.record import Kind, Plan, Record, Subject, against_first, load_baseline, load_record, side_by_side
from perf.reports.markdown import markdown_table, write_into
from perf.reports.page import write_page
from perf.reports.plots import undrawn
from perf.reports.table import cost_words, hottest_table, path_tables, record_table
from perf.reports.words import number
from perf.rounds import Tell, measure_rows
from perf.rows import Measurable, Standing, reached
from perf.scale.rows import scale_rows
from perf.scale.sides import scale_sides
from perf.statistics.ratio import FEWEST_ROUNDS
from perf.topologies.tunnels import PEERS
from perf.topologies.tunnels.commit import last_release
from perf.turns import TURN_LOADS, TurnLoad, measure_in_turns, turn_load
from perf.wayout.rows import wayout_rows, wayout_sides

# Into a pipe or a file a table keeps its full width.
OUT = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
ERR = Console(stderr=True, highlight=False)
INTERRUPTED = 130
RESULTS = Path("perf-results")
LOGIN = re.compile(r"://[^/@\s]*@")  # in a URL: a result folder is shown to others


def main() -> None:
    """The command. A sentence and exit code 2 for what cannot be done, 130 after Ctrl-C."""
    try:
        code = command(standalone_mode=False)
    except LabError as error:
        ERR.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="trioduct")
def command() -> None:
    """Measure tunnels and forward proxies: what each costs, and whether a change made it slower."""


class Percent(click.ParamType[float]):
    """`10%` or `10` as 10.0."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(str(value).removesuffix("%"))
        except ValueError:
            self.fail(f"{value} is not like 10%", param, ctx)


FIRST_LOOK = Plan(2, 1.0, 0.3)


def _plan_options(
    rounds: int, seconds: float, warmup: float, *, first_look: Plan = FIRST_LOOK
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The options that every measuring command has, with its own defaults; the command is given `plan` and `output`."""
    some = f"{first_look.rounds} round{'s' * (first_look.rounds > 1)}"
    verdict = "" if first_look.rounds >= FEWEST_ROUNDS else ", no verdict"
    looks = f"{some} of {first_look.seconds:g} s, for a first impression{verdict}."

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def command_of(*, rounds: int, seconds: float, warmup: float, quick: bool, **others: object) -> int:
            return function(plan=first_look if quick else Plan(rounds, seconds, warmup), **others)

        decorated: Callable[..., int] = command_of
        for option in (
            click.option("--output", type=click.Path(path_type=Path), help="Result folder. [perf-results/DATE]"),
            click.option("--quick", is_flag=True, help=looks),
            click.option(
                "--warmup",
                type=click.FloatRange(0, 60),
                default=warmup,
                show_default=True,
                help="Seconds before each round that are not measured.",
            ),
            click.option(
                "--seconds",
                type=click.FloatRange(0.2, 3600),
                default=seconds,
                show_default=True,
                help="Length of a round.",
            ),
            click.option("--rounds", type=click.IntRange(1, 100), default=rounds, show_default=True),
        ):
            decorated = option(decorated)
        return decorated

    return decorate


@command.command()
@click.option(
    "-t",
    "--topology",
    default="direct,proxy,tunnel,tunnel+proxy",
    show_default=True,
    metavar="NAME,…",
    help="direct, proxy, tunnel or forward, with +proxy, +PROGRAM[:SCHEME] (several: a chain) and +wss.",
)
@click.option(
    "-l",
    "--load",
    "loads",
    default="crowd,fresh,open,down",
    show_default=True,
    metavar="NAME,…",
    help=", ".join(LOADS),
)
@click.option("--mix", type=click.Path(path_type=Path), help="A YAML file with loads that run at the same time.")
@click.option(
    "--proxy", default="pproxy", show_default=True, help="Which proxy `proxy` stands for: squid, pproxy:socks5, …"
)
@click.option("--program", default="trioduct", show_default=True, help="trioduct, piko, frp, …, git:REVISION or path.")
@click.option(
    "--rate", type=click.FloatRange(1, 1e6), default=1000, show_default=True, help="Requests per second of `open`."
)
@click.option("--arrivals", type=click.Choice(["constant", "poisson"]), default="constant", show_default=True)
@click.option("--connections", type=click.IntRange(1, 10_000), default=32, show_default=True)
@click.option(
    "--body-bytes", type=click.IntRange(0, 1 << 20), default=0, show_default=True, help="Size of each request body."
)
@click.option(
    "--message-bytes",
    type=click.IntRange(1, 60_000),
    default=125,
    show_default=True,
    help="Size of each WebSocket message.",
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes of the load generator."
)
@click.option(
    "--bound-ms", type=click.FloatRange(0.1), default=20.0, show_default=True, help="The p99 that `ramp` accepts."
)
@click.option("--slow", metavar="5ms@1%", help="Delay this share of the responses.")
@click.option("--stall", metavar="500ms", help="Stop the service once per load, for this long.")
@click.option("--target", metavar="URL", help="Measure this URL instead of topologies.")
@click.option("--via", multiple=True, metavar="PROXY", help="Forward proxy on the way to --target; repeat for a chain.")
@click.option("--strace", "count_calls", is_flag=True, help="Count system calls, in an additional round per load.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before loading another machine.")
@_plan_options(2, 1.2, 0.2, first_look=Plan(1, 0.5, 0.1))
def run(
    topology: str,
    loads: str,
    mix: Path | None,
    proxy: str,
    program: str,
    rate: float,
    arrivals: Arrivals,
    connections: int,
    body_bytes: int,
    message_bytes: int,
    processes: int,
    bound_ms: float,
    slow: str | None,
    stall: str | None,
    target: str | None,
    via: tuple[str, ...],
    count_calls: bool,
    yes: bool,
    plan: Plan,
    output: Path | None,
) -> int:
    """Measure what proxies and tunnels cost: the same loads with and without them.

    \b
    trioduct-perf run
    trioduct-perf run --proxy squid -t direct,proxy,tunnel+proxy -l open --rate 2000 --seconds 10
    trioduct-perf run -t tunnel,tunnel+wss,tunnel+squid+microsocks -l closed,up
    trioduct-perf run --target http://127.0.0.1:8080/ --via http://127.0.0.1:3128 -l open,closed
    """
    if count_calls:
        strace()  # its absence is better known before the measuring than after
    planted = [*(("--slow", slow) if slow else ()), *(("--stall", stall) if stall else ())]
    options = Options(rate, connections, arrivals, body_bytes, message_bytes, processes, bool(planted), bound_ms)
    if target is not None:
        contenders = contenders_at(target, via)
        _ask_before_load_abroad(contenders, yes)
    else:
        names = [name.strip() for name in topology.split(",")]
        contenders = [
            contender_named(name, proxy=proxy, program=program, service_options=tuple(planted)) for name in names
        ]
    rows: list[Measurable] = [mix_row(mix)] if mix else []
    if mix is None:
        rows = [load_row(name.strip(), options, abroad=target is not None) for name in loads.split(",")]
    record = _new_record(contenders, msgspec.structs.replace(plan, strace=count_calls), Kind.RUN)
    _measure(record, rows, contenders, output, standing=True)
    OUT.print(record_table(record))
    OUT.print(path_tables(record))
    OUT.print(cost_words(record))
    return _outcome(record)


@command.command()
@click.argument("subjects", nargs=-1, metavar="[A [B]]")
@click.option("--only", "only", metavar="ROW,…", help="Only these rows (see --list).")
@click.option(
    "--fail-if-slower",
    type=Percent(),
    metavar="10%",
    help="Exit with 1 if A is worse than B by more than this, with certainty.",
)
@click.option("--list", "list_rows", is_flag=True, help="List the rows and their goals.")
@_plan_options(5, 4.0, 1.0)
def compare(
    subjects: tuple[str, ...],
    only: str | None,
    fail_if_slower: float | None,
    list_rows: bool,
    plan: Plan,
    output: Path | None,
) -> int:
    """Measure the goals of A and B in alternating rounds, or compare two result folders.

    A and B are trioduct, piko (found on PATH or by the variables TRIODUCT and PIKO), another of the programs of
    `peers`, git:REVISION (installed into an environment of its own) or the path of a program with Piko's command line.
    Without B, A is measured alone; without both, trioduct is compared with piko. Two result folders, also of `micro`,
    are compared without measuring; because they were measured at different times, the intervals are wider.

    \b
    trioduct-perf compare --only keepalive-32,bulk-down --rounds 3
    trioduct-perf compare trioduct
    trioduct-perf compare trioduct git:HEAD~1 --only echo,keepalive-32 --fail-if-slower 10%
    """
    rows = promised_rows()
    if list_rows:
        return _list(rows)
    if len(subjects) > 2:
        raise click.UsageError(f"A and B, got {len(subjects)} names: `peers` takes more")
    if len(subjects) == 2 and all(Path(name).is_dir() for name in subjects):
        record = side_by_side(*(load_record(Path(name)) for name in subjects))
        OUT.print(record_table(record))
        return _judge(record, fail_if_slower)
    names = subjects or ("trioduct", "piko")
    if len(names) == 2 and Path(names[1]).name != "piko":
        rows = promised_rows(against_piko=False)
    chosen = _selected(rows, only)
    contenders = contenders_of(names)
    record = _new_record(contenders, plan, Kind.COMPARE)
    _measure(record, chosen, contenders, output)
    OUT.print(record_table(record))
    OUT.print(path_tables(record))
    return _judge(record, fail_if_slower) if record.complete else INTERRUPTED


@command.command()
@click.argument("programs", nargs=-1, metavar="[PROGRAM]…")
@click.option("--only", "only", metavar="ROW,…", help="Only these rows (see --list), or any of `compare`.")
@click.option("--list", "list_rows", is_flag=True, help="List the rows.")
@_plan_options(4, 1.0, 0.5)
def peers(
    programs: tuple[str, ...],
    only: str | None,
    list_rows: bool,
    plan: Plan,
    output: Path | None,
) -> int:
    """Measure several tunnels, interleaved round by round, each against the first.

    Programs are those of `compare`. Without any, it is all of trioduct, piko, frp (routed by name), frp:tcp (a port
    for each service), chisel, rathole and haproxy (two hops, no tunnel) that are on PATH or named by TRIODUCT, PIKO,
    FRPS and FRPC, CHISEL, RATHOLE, HAPROXY.

    \b
    trioduct-perf peers --output perf-results/peers
    trioduct-perf peers trioduct frp rathole --only keepalive-32,bulk-down
    trioduct-perf table perf-results/peers --into docs/peers.md
    """
    rows = peer_rows()
    if list_rows:
        return _list(rows)
    if only is not None:
        offered = {row.name: row for row in (*promised_rows(against_piko=False), *rows)}
        rows = _selected(list(offered.values()), only)
    contenders = contenders_of(programs) or list(_installed_peers())
    record = _new_record(contenders, plan, Kind.PEERS)
    _measure(record, rows, contenders, output)
    OUT.print(record_table(record))
    OUT.print(path_tables(record))
    return 0 if record.complete else INTERRUPTED


@command.command()
@click.option(
    "--only", metavar="ROW,…", help="Only rows that start like this: handshake, handshake-ntlm, squid, tls, …"
)
@click.option("--list", "list_rows", is_flag=True, help="List the rows and their figures.")
@_plan_options(5, 1.0, 0.3, first_look=Plan(2, 0.3, 0.2))
def wayout(only: str | None, list_rows: bool, plan: Plan, output: Path | None) -> int:
    """Measure the way out through proxies against curl's: handshakes, bytes through squid, TLS in TLS.

    Handshakes are measured for each scheme, with a proxy that is not known yet (`first`) and one that is (`again`). For
    bytes there is one squid. For TLS in TLS, the bytes per CPU second of the client are compared with those through a
    plain proxy.

    \b
    trioduct-perf wayout --only handshake --rounds 7
    trioduct-perf wayout --only squid,tls --seconds 2
    trioduct-perf plot perf-results/…                  # bars: microseconds by scheme
    """
    chosen = wayout_rows(only)
    if list_rows:
        return _list(chosen)
    contenders = wayout_sides()
    record = _new_record(contenders, plan, Kind.WAYOUT)
    _measure(record, chosen, contenders, output, standing=True)
    OUT.print(record_table(record))
    return _outcome(record)


@command.command()
@click.option("--only", metavar="ROW,…", help="Only rows that start so: stream, poll-nginx, websocket-cuts, …")
@click.option("--list", "list_rows", is_flag=True, help="List the rows and their figures.")
@click.option("--program", default="trioduct", show_default=True, help="trioduct, git:REVISION or path.")
@_plan_options(5, 1.0, 0.3, first_look=Plan(2, 1.0, 0.2))
def reach(only: str | None, list_rows: bool, program: str, plan: Plan, output: Path | None) -> int:
    """Measure what carries a session beside WebSocket on the same way, and what a cut of its connection costs.

    A crowd, one connection, a download and an upload, straight to the node and behind nginx; how long a stream stands
    still when its session's connections are reset, and how many of 200 requests/s fail over 100 such cuts.

    \b
    trioduct-perf reach --only poll-nginx
    trioduct-perf reach --only stream,poll --rounds 7 --output perf-results/reach
    trioduct-perf table perf-results/reach --into docs/reach.md
    """
    chosen = reach_rows(program, only)
    if list_rows:
        return _list(chosen)
    contenders = reach_sides(program)
    record = _new_record(contenders, plan, Kind.REACH)
    _measure(record, chosen, contenders, output, standing=True)
    OUT.print(record_table(record))
    OUT.print(path_tables(record))
    return _outcome(record)


@command.command()
@click.option("--only", metavar="ROW,…", help="Only rows that start so: peer, workers, option, peer-down, …")
@click.option("--list", "list_rows", is_flag=True, help="List the rows and their figures.")
@click.option("--program", default="trioduct", show_default=True, help="trioduct, git:REVISION or path.")
@click.option(
    "--worker",
    type=Percent(),
    default=25.0,
    show_default=True,
    metavar="25%",
    help="Share of a core for each worker of the rows `workers`.",
)
@_plan_options(7, 2.0, 1.0, first_look=Plan(2, 1.0, 0.2))
def scale(only: str | None, list_rows: bool, program: str, worker: float, plan: Plan, output: Path | None) -> int:
    """Measure what several processes cost and give: peers, workers.

    Rows `peer` ask a cluster of two nodes (with redis-server), of which one has the agent: the other one (scaled), and
    that one (plain). Rows `workers` give each worker a share of a core by a cgroup, which takes root, so that workers
    are what is scarce also on a small machine: two (scaled), and one (plain). Rows `option` compare `--workers 1` with
    a node that is not told of workers.

    \b
    trioduct-perf scale --only peer --output perf-results/peer
    trioduct-perf scale --only workers --worker 30%
    trioduct-perf plot perf-results/peer
    """
    chosen = scale_rows(program, only, worker / 100)
    if list_rows:
        return _list(chosen)
    contenders = scale_sides(program)
    record = _new_record(contenders, plan, Kind.SCALE)
    _measure(record, chosen, contenders, output)
    OUT.print(record_table(record))
    OUT.print(path_tables(record))
    return _outcome(record)


@command.command()
@click.argument("programs", nargs=-1, metavar="[PROGRAM]…")
@click.option("--only", metavar="ROW,…", help="Only rows that start like this: pipeline, yamux-pings-deaf-4, …")
@click.option("--list", "list_rows", is_flag=True, help="List the rows and their figures.")
@click.option("--memory-mib", type=click.IntRange(64, 1 << 20), help="Limit the node's memory with a cgroup (as root).")
@click.option("--descriptors", type=click.IntRange(64, 1 << 20), help="Limit the node's open files.")
@_plan_options(3, 3.0, 0.3, first_look=Plan(1, 1.5, 0.2))
def attack(
    programs: tuple[str, ...],
    only: str | None,
    list_rows: bool,
    memory_mib: int | None,
    descriptors: int | None,
    plan: Plan,
    output: Path | None,
) -> int:
    """Measure how attackers slow down others: a victim sends a request every 10 ms, while one or four attack.

    The victim has its own endpoint, agent and service; it shares only the node with them. Each attacker is a process.
    On a small machine attackers also take CPU time from the node, so compare with another program's victim.

    \b
    trioduct-perf attack trioduct piko
    trioduct-perf attack --only yamux-pings-deaf --memory-mib 256
    trioduct-perf attack --only slowhttptest --memory-mib 256 --descriptors 256
    """
    chosen = attack_rows(only, memory_mib, descriptors)
    if list_rows:
        return _list(chosen)
    contenders = contenders_of(programs or ("trioduct",))
    record = _new_record(contenders, plan, Kind.ATTACK)
    _measure(record, chosen, contenders, output)
    OUT.print(record_table(record))
    return _outcome(record)


@command.command()
@click.option("--only", metavar="NAME,…", help="Only benchmarks whose name starts like this: http1, relay-in, …")
@click.option("--rounds", type=click.IntRange(1, 1000), default=7, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.01, 60), default=0.1, show_default=True, help="Length of a round.")
@click.option("--output", type=click.Path(path_type=Path), help="Result folder. [default: none]")
def micro(only: str | None, rounds: int, seconds: float, output: Path | None) -> int:
    """Measure only the codecs: CPU time per operation, and bytes per CPU second.

    \b
    trioduct-perf micro --only websocket --output before
    trioduct-perf compare before after
    """
    from perf.micro import all_benchmarks, measure_benchmarks

    starts = tuple(name.strip() for name in only.split(",")) if only else ("",)
    benchmarks = [benchmark for benchmark in all_benchmarks() if benchmark.name.startswith(starts)]
    if not benchmarks:
        raise LabError(f"no benchmark starts with {only}")
    if output:
        _made(output)
    record = Record([Subject("this")], Plan(rounds, seconds, 0.0), facts(), _command(), kind=Kind.MICRO)
    measure_benchmarks(record, benchmarks)
    OUT.print(record_table(record))
    if output:
        record.save(output)
    return 0


@command.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FOLDER [FOLDER]")
def plot(folders: tuple[Path, ...]) -> int:
    """Draw the charts of a result folder, or of two together: PNG, SVG and an HTML report in the (first) folder.

    \b
    trioduct-perf plot perf-results/2026-06-01-120000
    trioduct-perf plot before after
    """
    if len(folders) > 2:
        raise click.UsageError(f"one folder or two, got {len(folders)}")
    record = load_record(folders[0])
    if len(folders) == 2:
        record = side_by_side(record, load_record(folders[1]))
    for sentence in undrawn(record):
        ERR.print(sentence, style="yellow", markup=False, soft_wrap=True)
    OUT.print(str(write_page(record, folders[0])), soft_wrap=True)
    return 0


@command.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), metavar="PAGE", help="Page to put the table into.")
def table(folder: Path, into: Path | None) -> int:
    """Print a result folder as a Markdown table, or put the table into a page, with its figures and charts.

    The page marks the place by `<!-- begin FIGURES -->` and `<!-- end FIGURES -->`, which name a folder beside it, and
    links to the charts that it wants.

    \b
    trioduct-perf table perf-results/2026-06-01-120000
    trioduct-perf table perf-results/peers --into docs/peers.md
    """
    record = load_record(folder)
    if into is None:
        sys.stdout.write(markdown_table(record))
        return 0
    for written in write_into(into, record):
        OUT.print(str(written), soft_wrap=True)
    return 0


@command.command()
@click.option("--program", default="trioduct", show_default=True, help="Program to check.")
@click.option("--against", metavar="PROGRAM", help="Program to compare with. [default: git: and the last tag]")
@click.option("--baseline", type=click.Path(path_type=Path), help="Folder that `gate --write` has written.")
@click.option("--write", type=click.Path(path_type=Path), help="Measure a baseline, and write it to this folder.")
@click.option(
    *("-l", "--load", "loads"), default="crowd,down,up", show_default=True, metavar="NAME,…", help=", ".join(TURN_LOADS)
)
@click.option(
    "--fail-if-slower",
    type=Percent(),
    default=10.0,
    show_default=True,
    metavar="10%",
    help="Slow-down to detect.",
)
@_plan_options(20, 1.0, 0.3, first_look=Plan(5, 0.5, 0.2))
def gate(
    program: str,
    against: str | None,
    baseline: Path | None,
    write: Path | None,
    loads: str,
    fail_if_slower: float,
    plan: Plan,
    output: Path | None,
) -> int:
    """Exit with 1 if the tunnel has become slower: for continuous integration.

    It is compared with another program, by default the last release; both get load in alternating turns of 50 ms. If a
    figure is slower with certainty, and its median by more than half of --fail-if-slower, it is measured again with new
    processes; the gate fails if that confirms it.

    With --baseline, the ratios of the tunnel to the service alone are compared with stored ones. These depend less on
    the machine than absolute figures, but are less precise than a comparison with another program.

    \b
    trioduct-perf gate                              # against the last tag
    trioduct-perf gate --against git:main -l crowd
    trioduct-perf gate --write perf-baseline        # once, and committed
    trioduct-perf gate --baseline perf-baseline     # in every run
    """
    if sum(given is not None for given in (against, baseline, write)) > 1:
        raise click.UsageError("one of --against, --baseline and --write")
    chosen = [turn_load(name.strip()) for name in loads.split(",")]
    stored = load_baseline(baseline, [load.name for load in chosen]) if baseline else None
    if baseline or write:
        contenders = [contender_named(name, proxy="pproxy", program=program) for name in ("direct", "tunnel")]
    else:
        names = (program, against or f"git:{last_release()}")
        contenders = contenders_of(names)
    folder = write or output or _dated_folder()

    def measured(only: Sequence[TurnLoad], into: Path) -> Record:
        record = _new_record(contenders, plan, Kind.BASELINE if write or baseline else Kind.GATE)
        _keep(record, lambda tell: measure_in_turns(record, only, contenders, tell=tell), into)
        return record

    def slower(record: Record) -> dict[tuple[str, str], str]:
        shown = side_by_side(against_first(record), against_first(stored)) if stored else record
        OUT.print(record_table(shown))
        return shown.worse_by(fail_if_slower / 2, by_the_middle=True)

    record = measured(chosen, folder)
    if write or not record.complete or _outcome(record):
        OUT.print(record_table(record))
        return _outcome(record)
    worse = slower(record)
    if not worse:
        return 0
    ERR.print("slower, and so measured again:", *worse.values(), sep="\n")
    again = measured([load for load in chosen if any(row == load.name for row, _ in worse)], folder / "again")
    confirmed = slower(again)
    for key in worse.keys() & confirmed.keys():
        ERR.print(f"slower twice: {confirmed[key]}", style="red")
    return _outcome(again) or int(not worse.keys().isdisjoint(confirmed))


@command.command()
@click.option("-t", "--topology", default="tunnel", show_default=True, metavar="NAME", help="As in `run`.")
@click.option("-l", "--load", "load_name", default="closed", show_default=True, metavar="NAME", help=", ".join(LOADS))
@click.option(
    "--proxy", default="pproxy", show_default=True, help="Which proxy `proxy` stands for: squid, pproxy:socks5, …"
)
@click.option("--program", default="trioduct", show_default=True, help="trioduct, piko, frp, …, git:REVISION or path.")
@click.option("--connections", type=click.IntRange(1, 10_000), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5.0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Folder. [default: perf-results/DATE]")
def profile(
    topology: str, load_name: str, proxy: str, program: str, connections: int, seconds: float, output: Path | None
) -> int:
    """Put a topology under load with py-spy on each Python process in the path: the hottest functions, flame graphs.

    \b
    trioduct-perf profile -l down
    """
    contender = contender_named(topology, proxy=proxy, program=program)
    row = load_row(load_name, Options(connections=connections))
    folder = _made(output or _dated_folder())
    flames: dict[str, Flames] = {}

    async def work() -> None:
        async with (
            row.opened(contender, Plan(1, seconds, 0.5), reached) as opened,
            watched(opened.pids(), folder) as found,
        ):
            sample = await opened.measure(lambda _: None)
            flames.update(found)
        for figure in row.figures:
            if figure.name in sample.figures:
                OUT.print(f"{figure.name}: {number(sample.figures[figure.name])} (under the profiler)")

    _run(work)
    OUT.print(hottest_table(flames))
    for found in flames.values():
        OUT.print(str(found.graph), soft_wrap=True)
    return 0


def _judge(record: Record, percent: float | None) -> int:
    """1 if a figure of A is surely worse than B's by more than so many percent."""
    worse = record.worse_by(percent) if percent is not None else {}
    for sentence in worse.values():
        ERR.print(sentence, style="red")
    return 1 if worse else 0


def _selected(rows: Sequence[Measurable], only: str | None) -> list[Measurable]:
    if only is None:
        return list(rows)
    by_name = {row.name: row for row in rows}
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in by_name:
            raise LabError(f"no row is called {name}: there are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def _list(rows: Sequence[Measurable]) -> int:
    for row in rows:
        OUT.print(f"{row.name:20} {row.title}: {', '.join(figure.name for figure in row.figures)}")
    return 0


def _installed_peers() -> Iterator[Contender]:
    """Every program that there is; what is missing is said and left out."""
    for name in PEERS:
        (contender,) = contenders_of((name,))
        try:
            contender.version()
        except MissingProgram as error:
            ERR.print(f"without {name}: {error}", style="yellow", markup=False, soft_wrap=True)
        else:
            yield contender


def _ask_before_load_abroad(contenders: list[Contender], yes: bool) -> None:
    """A load is only ever aimed at another machine by somebody who said so."""
    for contender in contenders:
        host = contender.target.host if contender.target else "localhost"
        try:
            here = ipaddress.ip_address(host).is_loopback
        except ValueError:
            here = host == "localhost"
        if not here and not yes:
            click.confirm(f"Put {host} under load? Only do so if it is yours", abort=True, err=True)
            return


def _new_record(contenders: list[Contender], plan: Plan, kind: Kind) -> Record:
    subjects = [Subject(contender.name, contender.version()) for contender in contenders]
    return Record(subjects, plan, facts(), _command(), kind=kind)


def _command() -> str:
    """What was typed, without a password and without the path of the program."""
    return LOGIN.sub(r"://***@", shlex.join(["trioduct-perf", *sys.argv[1:]]))


def _outcome(record: Record) -> int:
    """The exit code: 1 if a side failed."""
    if not record.complete:
        return INTERRUPTED
    return 1 if any(side.failure for row in record.rows for side in row.sides) else 0


def _measure(
    record: Record,
    rows: Sequence[Measurable],
    contenders: list[Contender],
    output: Path | None,
    *,
    standing: bool = False,
) -> None:
    """Measure into the record and save it, also what there is of it after Ctrl-C.

    `standing` keeps topologies from row to row, which is quicker; without, no row sees what another has left.
    """

    async def measure(tell: Tell) -> None:
        if not standing:
            await measure_rows(record, rows, contenders, tell=tell)
            return
        async with Standing() as topologies:
            await measure_rows(record, rows, contenders, tell=tell, reach=topologies.reach)

    _keep(record, measure, output or _dated_folder())


def _keep(record: Record, measure: Callable[[Tell], Awaitable[None]], folder: Path) -> None:
    """Run what measures into the record, and save it. Raises LabError if nothing came of it."""
    made = not folder.exists()
    _made(folder)

    async def told() -> None:
        with ERR.status("") as status:
            await measure(status.update if ERR.is_terminal else _print_round)

    try:
        _run(told)
    finally:
        sides = [side for row in record.rows for side in row.sides]
        if any(side.samples for side in sides):
            record.save(folder)
            ERR.print(f"every round and histogram: {folder}")
        else:
            with contextlib.suppress(OSError):  # what holds something is not ours
                folder.rmdir()
                if made and folder.parent == RESULTS:
                    folder.parent.rmdir()
    if not any(side.samples for side in sides):
        reasons = dict.fromkeys(side.failure or side.unsupported for side in sides)
        raise LabError("\n".join(filter(None, reasons)) or "nothing was measured")


def _made(folder: Path) -> Path:
    """A folder for results, made before there is something to lose. Raises LabError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"no results can be written to {folder}: {error.strerror}") from error
    return folder


def _dated_folder() -> Path:
    return RESULTS / datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")


def _print_round(doing: str) -> None:
    """Where no line can change, a line per round is enough."""
    if doing.count(": ") == 1:
        ERR.print(doing)


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
