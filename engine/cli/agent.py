"""`trioduct agent`: services offered through a node."""

from __future__ import annotations

import os
from functools import partial

import click

from engine.cli.flags import FLAGS, FlagGroup, takes
from engine.cli.launch import add_config_check, expect_some, launch, read_role
from engine.config import AgentConfig, Invocation, ListenerConfig

NO_FLAGS = ("endpoint_id", "addr", "protocol", "tls")  # three are arguments, and TLS is set in the file only
ONLY_HTTP = (
    "health.path",
    "rewrite",
    "domains",
    "asgi",
    "reload",
    "http_client",
    "access_log.request_headers",
    "access_log.response_headers",
)


@takes(AgentConfig, Invocation)
@click.group(cls=FlagGroup)
def agent() -> None:
    """Offer services through a node.

    For each endpoint, an agent opens one connection to the node, forwards the requests that arrive on it to the
    service, and reconnects when it is lost. It needs no inbound port.

    \b
      trioduct agent http shop 3000 --connect.url http://host:8001
      trioduct agent start --config.path agent.yaml
    """


@takes(AgentConfig, Invocation)
@takes(ListenerConfig, without=NO_FLAGS)
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", default="", help="The service: a port of localhost, host:port, or a URL.")
@click.pass_context
def http(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one HTTP service.

    \b
      trioduct agent http shop 3000 --connect.url http://host:8001
      trioduct agent http shop https://10.0.0.5:3000
      trioduct agent http shop --asgi package.module:app --reload
    """
    return launch_listener(ctx, "http", endpoint, addr)


@takes(AgentConfig, Invocation)
@takes(
    ListenerConfig,
    without=(*NO_FLAGS, *ONLY_HTTP),
)
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", help="The service: a port of localhost, or host:port.")
@click.pass_context
def tcp(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one TCP service. Clients reach it through `trioduct forward`, or a port of the node (its proxy.tcp).

    \b
      trioduct agent tcp database 5432 --connect.url http://host:8001
    """
    return launch_listener(ctx, "tcp", endpoint, addr)


def launch_listener(ctx: click.Context, protocol: str, endpoint: str, addr: str) -> int:
    draft = read_role(ctx, AgentConfig)
    arguments = {"endpoint_id": ("ENDPOINT", endpoint), "addr": ("ADDR", addr), "protocol": ("", protocol)}
    draft.take_item("listeners", ListenerConfig(), arguments, ctx.meta.get(FLAGS, {}), os.environ)
    return launch(ctx, draft)


@takes(AgentConfig, Invocation)
@agent.command("start")
@click.pass_context
def start_agent(ctx: click.Context) -> int:
    """Offer all services of the configuration file.

    \b
      trioduct agent start --config.path agent.yaml
    """
    draft = read_role(ctx, AgentConfig)
    expect_some("listeners", draft)
    return launch(ctx, draft)


add_config_check(agent, AgentConfig, complete=partial(expect_some, "listeners"))
