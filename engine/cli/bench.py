"""`trioduct bench`: a figure for a node, as Piko has it."""

from __future__ import annotations

from functools import partial

import click

from engine import log
from engine.cli.flags import FlagGroup, takes
from engine.cli.launch import checks, read_role, run, show
from engine.config import BenchConfig, Invocation


@takes(BenchConfig, Invocation)
@click.group(cls=FlagGroup)
def bench() -> None:
    """See what a node carries, as `piko bench` does.

    \b
      trioduct bench http --requests 100000 --clients 50
    """


@takes(BenchConfig, Invocation)
@bench.command()
@click.pass_context
def http(ctx: click.Context) -> int:
    """Send HTTP requests through a node to a service that says what it hears, and tell how many it was in a second.

    Clients, agent and service are this one process, the node is yours: start it first. The node may be faster than
    one process can show; it is said if that may be so. trioduct-perf measures with a load generator that is fast
    enough, side by side and with intervals. Its flags are Piko's, but token, connect.token and tls.

    \b
      trioduct bench http --requests 100000 --clients 50
      trioduct bench http --connect.proxy-url http://host:8000 --connect.upstream-url http://host:8001

    Exit codes: 0 all were answered by 200 · 1 some were not · 2 bad configuration.
    """
    draft = read_role(ctx, BenchConfig)
    config = draft.finish()
    if checks(ctx):
        return show(draft)
    log.configure(config.log.level, config.log.subsystems)
    from engine.bench import run_bench

    return run(partial(run_bench, config))
