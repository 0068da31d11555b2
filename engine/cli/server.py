"""`trioduct server`: a node."""

from __future__ import annotations

import click
import msgspec

from engine.cli.flags import FlagGroup, takes
from engine.cli.launch import add_config_check, launch, read, read_role, show
from engine.cli.status import reload, status
from engine.config import ChecklistConfig, Draft, Invocation, ServerConfig


@takes(ServerConfig, Invocation)
@click.group(cls=FlagGroup, invoke_without_command=True)
@click.pass_context
def server(ctx: click.Context) -> int | None:
    """Run a node.

    Clients connect to its proxy port, agents to its upstream port. A client names the endpoint in the header
    x-piko-endpoint, or by the first label of the host name. After SIGTERM, requests in flight finish first.

    \b
      trioduct server
      trioduct server --config.path server.yaml --proxy.bind-addr 127.0.0.1:8000
    """
    return launch(ctx, read_role(ctx, ServerConfig)) if ctx.invoked_subcommand is None else None


def show_or_go_through(ctx: click.Context, draft: Draft[ServerConfig]) -> int:
    """Print the configuration, or what a node on the public Internet lacks with it."""
    wanted = read(ctx, ChecklistConfig).finish()
    if not wanted.public:
        return show(draft)
    from engine.config.public import State, as_text, checklist

    draft.finish()
    points = checklist(draft, read(ctx, Invocation).finish().config.path)
    click.echo(msgspec.json.format(msgspec.json.encode(points)) if wanted.json else as_text(points))
    return int(any(point.state is State.MISSING for point in points))


add_config_check(server, ServerConfig, ChecklistConfig, answer=show_or_go_through)
server.add_command(status)
server.add_command(reload)
