"""`trioduct agent`: services offered through a node."""

from __future__ import annotations

import os
import re
import socket
import sys
from functools import partial

import click

from engine.cli.ending import complain
from engine.cli.flags import FLAGS, FlagGroup, takes
from engine.cli.launch import add_config_check, checks, expect_some, launch, read_role
from engine.config import AgentConfig, Invocation, ListenerConfig

NO_FLAGS = ("endpoint_id", "addr", "protocol", "tls")  # three are arguments, and TLS is set in the file only
A_NODE_IN_A_MINUTE = """\
A node of your own, in a minute:
  trioduct server                                  # in another terminal: clients on port 8000, agents on 8001
  trioduct agent {protocol} {endpoint} {addr}
  {ask}
On a public machine, for others: `trioduct init --role node` there, then `trioduct init --role agent` here."""
ASK = {
    "http": "curl -H 'x-piko-endpoint: {endpoint}' http://localhost:8000/",
    "tcp": "trioduct forward tcp 10000 {endpoint}         # then connect to port 10000 of this machine",
    "udp": "trioduct forward udp 10000 {endpoint}         # then send to port 10000 of this machine",
}
ONLY_HTTP = (
    "health.path",
    "rewrite",
    "domains",
    "error_pages",
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
@takes(ListenerConfig, without=(*NO_FLAGS, "udp"))
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
@takes(ListenerConfig, without=(*NO_FLAGS, "asgi", "reload", "udp"))
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", help="The service: a port of localhost, host:port, or a URL.")
@click.pass_context
def h2(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one service that speaks HTTP/2, such as gRPC.

    \b
      trioduct agent h2 greeter 50051 --connect.url http://host:8001
      trioduct agent h2 greeter https://10.0.0.5:50051
    """
    return launch_listener(ctx, "h2", endpoint, addr)


@takes(AgentConfig, Invocation)
@takes(ListenerConfig, without=(*NO_FLAGS, *ONLY_HTTP, "udp"))
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", default="", help="The service: a port of localhost, or host:port.")
@click.pass_context
def tcp(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one TCP service. Clients reach it through `trioduct forward`, or a port of the node (its proxy.tcp).

    \b
      trioduct agent tcp database 5432 --connect.url http://host:8001
    """
    return launch_listener(ctx, "tcp", endpoint, addr)


@takes(AgentConfig, Invocation)
@takes(ListenerConfig, without=(*NO_FLAGS, *ONLY_HTTP, "health", "proxy_protocol"))
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", default="", help="The service: a port of localhost, or host:port.")
@click.pass_context
def udp(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one UDP service, such as DNS or a game. Clients reach it through `trioduct forward udp`.

    \b
      trioduct agent udp dns 53 --connect.url http://host:8001
    """
    return launch_listener(ctx, "udp", endpoint, addr)


def launch_listener(ctx: click.Context, protocol: str, endpoint: str, addr: str) -> int:
    draft = read_role(ctx, AgentConfig)
    flags = ctx.meta.get(FLAGS, {})
    if not draft.says("connect.url"):
        if not addr and "--asgi" not in flags and is_service(endpoint):
            wanted = f"`agent {protocol} {endpoint}` names no endpoint and no node"
            complain(f"{wanted}; expected agent {protocol} NAME {endpoint} --connect.url URL", 2)
            click.echo(a_node_in_a_minute(protocol, "shop", endpoint), err=True)
            return 2
        if sys.stderr.isatty() and not checks(ctx) and not listens("localhost", 8001):
            complain("no node is named (--connect.url), and none runs on this machine yet", 0)
            click.echo(a_node_in_a_minute(protocol, endpoint, addr), err=True)
    arguments = {"endpoint_id": ("ENDPOINT", endpoint), "addr": ("ADDR", addr), "protocol": ("", protocol)}
    draft.take_item("listeners", ListenerConfig(), arguments, flags, os.environ)
    return launch(ctx, draft)


def is_service(text: str) -> bool:
    """Whether it can only be meant as the address of a service: a port, host:port or a URL."""
    return re.fullmatch(r"\d+|[^/]*:\d+|https?://.*", text) is not None


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def a_node_in_a_minute(protocol: str, endpoint: str, addr: str) -> str:
    ask = ASK[protocol].format(endpoint=endpoint)
    return A_NODE_IN_A_MINUTE.format(protocol=protocol, endpoint=endpoint, addr=addr, ask=ask)


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
