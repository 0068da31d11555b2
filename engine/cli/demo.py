"""`trioduct demo`: all of it on this machine."""

from __future__ import annotations

from functools import partial

import click

from engine.cli.flags import FlagCommand
from engine.cli.launch import checks, run, takes_check
from engine.config import to_yaml


@takes_check
@click.command(cls=FlagCommand)
@click.option("--once", is_flag=True, help="Exit after one request: 0 if it succeeded, 1 if not.")
@click.option("--cluster", is_flag=True, help="Three nodes and a Redis instead, one of which is killed.")
@click.pass_context
def demo(ctx: click.Context, once: bool, cluster: bool) -> int:
    """See it work on this machine.

    Starts a node, an agent, a service and a forward proxy on free ports, sends a request through all of them, and
    shows the response and where its time went.

    \b
      trioduct demo
      trioduct demo --cluster
    """
    from engine.demo import agent_config, run_demo, server_config

    if checks(ctx):
        # Nothing of the environment has a say in it. The ports are those that are free when it starts.
        click.echo(f"# the node\n{to_yaml(server_config())}---\n# the agent; its proxy is the demo's own")
        click.echo(to_yaml(agent_config(0, 0, 0)), nl=False)
        return 0

    if cluster:
        from engine.demo_cluster import run_cluster_demo

        return run(partial(run_cluster_demo, once))
    return run(partial(run_demo, once))
