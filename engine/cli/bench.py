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
    """Measure the throughput of a node, as `piko bench` does.

    \b
      trioduct bench http --requests 100000 --clients 50
    """


@takes(BenchConfig, Invocation)
@bench.command()
@click.pass_context
def http(ctx: click.Context) -> int:
    """Send HTTP requests through a node to an echo service, and print the throughput and the latency.

    Start the node first. Clients, agent and service run in this one process, which may be slower than the node; the
    output says when that is likely. For measurements use trioduct-perf, which has a fast load generator, compares side
    by side and gives intervals. The flags are Piko's; token, connect.token and tls are additions.

    \b
      trioduct bench http --requests 100000 --clients 50
      trioduct bench http --connect.proxy-url http://host:8000 --connect.upstream-url http://host:8001

    Exit codes: 0 every status was 200 · 1 some failed · 2 bad configuration.
    """
    draft = read_role(ctx, BenchConfig)
    config = draft.finish()
    if checks(ctx):
        return show(draft)
    log.configure(config.log.level, config.log.subsystems)
    from engine.bench import run_bench

    return run(partial(run_bench, config))
