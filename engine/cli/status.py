"""`trioduct server status`: what a running node is asked, and how its answer is printed."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import click
import msgspec

from engine import log
from engine.cli.ending import complain
from engine.cli.flags import Command, FlagCommand, FlagGroup, takes
from engine.cli.launch import checks, read, show, takes_check
from engine.config import StatusConfig, split_url
from engine.errors import UNREADABLE, ConfigError, Refused, Unreachable

if TYPE_CHECKING:
    import http.client

T = TypeVar("T")
STATUS_SECONDS = 15  # Piko's
RELOAD_SECONDS = 600


def takes_question(command: Command) -> Command:
    """Give a command the flags of a question."""
    return takes_check(takes(StatusConfig)(command))


@takes_question
@click.group(cls=FlagGroup)
def status() -> None:
    """Query a running node.

    \b
      trioduct server status upstream endpoints --server.url http://host:8002
      trioduct server status cluster nodes -o json
    """


@takes_question
@status.group()
def upstream() -> None:
    """Endpoints and sessions of a node."""


@takes_question
@upstream.command()
@click.option("--tenant", help="Only this tenant's, on a node that has tenants.")
@click.pass_context
def endpoints(ctx: click.Context, tenant: str | None) -> None:
    """The endpoints of a node, with the number of sessions of each.

    \b
      trioduct server status upstream endpoints
    """
    query = {} if tenant is None else {"tenant": tenant}
    answer = ask(ctx, "/status/upstream/endpoints", dict[str, int], query)
    reply(ctx, answer, ["endpoint", "sessions"], sorted(answer.items()))


@takes_question
@upstream.command()
@click.pass_context
def sessions(ctx: click.Context) -> None:
    """The sessions of a node: whose they are, from where, what they ride on, and what their agents say of themselves.

    \b
      trioduct server status upstream sessions
    """
    answer = ask(ctx, "/status/upstream/sessions", list[SessionState])
    columns = ["endpoint", "principal", "client", "seconds", "carrier", "suspended"]
    rows = [msgspec.structs.astuple(one)[:6] for one in answer]
    # A terminal has little room: what says nothing of any of them is left out.
    for name, said, usual in (
        ("way out", [one.way for one in answer], ""),
        ("weight", [one.weight for one in answer], 1),
        ("domains", [",".join(one.domains) for one in answer], ""),
    ):
        if any(value != usual for value in said):
            columns.append(name)
            rows = [(*row, value) for row, value in zip(rows, said, strict=True)]
    reply(ctx, {"sessions": answer}, columns, rows)


@takes_question
@status.command()
@click.pass_context
def certificates(ctx: click.Context) -> None:
    """The certificates of a node, and when they expire: the one first that does so first.

    \b
      trioduct server status certificates
    """
    answer = sorted(ask(ctx, "/status/certificates", list[CertificateState]), key=lambda one: one.expires)
    reply(ctx, {"certificates": answer}, ["port", "file", "expires"], [msgspec.structs.astuple(one) for one in answer])


@takes_question
@status.group()
def cluster() -> None:
    """The nodes of a cluster."""


@takes_question
@cluster.command()
@click.option("--status", type=click.Choice(["active", "unreachable", "left"]), help="Only nodes in this state.")
@click.pass_context
def nodes(ctx: click.Context, status: str | None) -> None:
    """The nodes that a node knows, itself included.

    \b
      trioduct server status cluster nodes --status active
    """
    answer = ask(ctx, "/status/cluster/nodes", list[NodeSummary])
    found = sorted((node for node in answer if status in (None, node.status)), key=lambda node: node.id)
    columns = ["node", "status", "proxy", "admin", "endpoints", "upstreams", "workers"]
    rows = [(*msgspec.structs.astuple(node)[:-1], len(node.workers) if node.workers else 1) for node in found]
    reply(ctx, {"nodes": found}, columns, rows)


@takes_question
@cluster.command()
@click.argument("id", help="Name of the node; `local` is the one that is asked.")
@click.pass_context
def node(ctx: click.Context, id: str) -> None:
    """One node, with its endpoints.

    \b
      trioduct server status cluster node local
    """
    answer = ask(ctx, f"/status/cluster/nodes/{quote(id, safe='')}", NodeState)
    several = ("endpoints", "workers")
    rows = [(name, value) for name, value in msgspec.structs.asdict(answer).items() if name not in several]
    rows += [(f"worker {id}", count) for id, count in sorted((answer.workers or {}).items())]
    rows += [(f"endpoint {name}", count) for name, count in sorted((answer.endpoints or {}).items())]
    reply(ctx, answer, ["", ""], rows)


@takes_question
@status.group()
def gossip() -> None:
    """Not supported: there is no gossip in this version."""


@takes_question
@gossip.command("nodes")
def gossip_nodes() -> None:
    """Not supported: there is no gossip in this version."""
    raise Refused("there is no gossip in this version; `trioduct server status cluster nodes` lists the nodes")


@takes_question
@gossip.command("node")
@click.argument("id")
def gossip_node(id: str) -> None:
    """Not supported: there is no gossip in this version."""
    raise Refused("there is no gossip in this version; `trioduct server status cluster node ID` shows a node")


class NodeSummary(msgspec.Struct):
    """What a node knows of one node, as `/status/cluster/nodes` lists them."""

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    endpoints: int
    upstreams: int
    workers: dict[str, int] | msgspec.UnsetType = msgspec.UNSET  # by their ids, with their sessions


class NodeState(msgspec.Struct):
    """All that a node knows of one node: `/status/cluster/nodes/<id>`. Endpoints map to their sessions."""

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    endpoints: dict[str, int] | None = None  # Go's nil map
    workers: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class SessionState(msgspec.Struct):
    """One session, as `/status/upstream/sessions` lists it."""

    endpoint: str
    principal: str
    client: str
    seconds: int
    carrier: str
    suspended: bool
    version: str = ""
    way: str = ""  # out of the agent's network
    weight: int = 1
    domains: list[str] = []
    tenant: str = ""


class CertificateState(msgspec.Struct):
    """A certificate of a port, as `/status/certificates` lists them. `expires` is in UTC, as RFC 3339 writes it."""

    port: str
    file: str
    expires: str


@takes_check
@takes(StatusConfig, without=("forward",))
@click.command(cls=FlagCommand)
@click.pass_context
def reload(ctx: click.Context) -> None:
    """Have a node with workers replace them, one by one.

    New code, certificates and configuration take effect, and no request fails; a configuration with a mistake is
    refused. The admin port has to require a token or a certificate; otherwise send SIGHUP to the node's first process.

    \b
      trioduct server reload --server.url https://host:8002 --token TOKEN
    """
    answer = ask(ctx, "/reload", Reloaded, method="POST", seconds=RELOAD_SECONDS)
    reply(ctx, answer, ["status"], [[answer.status]])


class Reloaded(msgspec.Struct):
    """The answer to a reload."""

    status: str


class Complaint(msgspec.Struct):
    """The answer to what is refused."""

    error: str


def ask(
    ctx: click.Context,
    path: str,
    shape: type[T],
    query: Mapping[str, str] = MappingProxyType({}),
    *,
    method: str = "GET",
    seconds: float = STATUS_SECONDS,
) -> T:
    """Ask a route of the node's admin port. Raises ConfigError, Refused or Unreachable."""
    draft = read(ctx, StatusConfig)
    config = draft.finish()
    if checks(ctx):
        ctx.exit(show(draft))
    import http.client

    import trio

    target = split_url(config.server.url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{target.scheme}://{host}:{target.port}"
    said = {**query, "forward": config.forward} if config.forward else query
    path = f"{target.path}{path}{'?' if said else ''}{urlencode(said, quote_via=quote, safe='')}"
    try:
        response, body = trio.run(exchange, config, path, method, seconds)
    except (Unreachable, OSError, http.client.HTTPException, trio.TooSlowError) as error:
        # The flags are our own, not an agent's.
        problem = log.printable(str(error)).replace("--connect.", "--") or f"no answer within {seconds:g} s"
        problem = problem.removeprefix(f"{host}:{target.port}: ")
        raise Unreachable(f"{place}: {problem}; --server.url must be a node's admin port") from error
    if response.status == 409:
        raise Refused(f"{place}: {_complaint(body)}")
    if response.status != 200:
        raise refusal(place, response.status, path)
    if missing := response.getheader("x-trioduct-incomplete"):
        complain(log.printable(missing), 0)
    try:
        return msgspec.json.decode(body, type=shape)
    except UNREADABLE as error:
        raise Unreachable(f"{place}: not the response of an admin port to {path}: {error}") from error


def refusal(place: str, status: int, path: str) -> Refused:
    """What such an answer of the admin port means."""
    if status == 401:
        return Refused(f"{place}: 401: it requires a valid token; set TRIODUCT_TOKEN or --token")
    if status == 404:
        return Refused(f"{place}: 404 to {path}: no such node, or not an admin port")
    return Refused(f"{place}: status {status} to {path}")


def _complaint(body: bytes) -> str:
    try:
        return log.printable(msgspec.json.decode(body, type=Complaint).error, log.ERROR_BYTES)
    except UNREADABLE:
        return "refused, without a reason"


async def exchange(
    config: StatusConfig, path: str, method: str = "GET", seconds: float = STATUS_SECONDS
) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask for `path` of the admin port, by whatever way out the environment names: the answer, and its body.

    Raises ConfigError, Unreachable, OSError, trio.TooSlowError, and http.client's errors for what is no answer.
    """
    import http.client

    import trio

    from engine.loop.dial import Server, dial_server
    from engine.loop.reading import Reader
    from engine.loop.run import open_reactor

    url = config.server.url
    context = config.tls.client_context() if url.startswith(("https", "wss")) else None
    server = Server(url, context, config.tls.server_name or None)
    token = f"Authorization: Bearer {config.token}\r\n" if config.token else ""
    length = "Content-Length: 0\r\n" if method != "GET" else ""
    host = f"Host: {server.authority}\r\n"
    request = f"{method} {path} HTTP/1.1\r\n{host}{token}{length}Connection: close\r\n\r\n"
    said, failed = b"", None
    with trio.fail_after(seconds):
        async with open_reactor():
            try:
                connection = await dial_server(server)
                try:
                    connection.put(request.encode())
                    reader = Reader(connection)
                    while data := await reader.some():
                        said += data
                finally:
                    connection.abort()
            except (ConfigError, Unreachable, OSError) as error:  # not from here: it would be raised in a group
                failed = error
    if failed is not None and not said:  # whether what was said is whole is told by its length
        raise failed
    response = http.client.HTTPResponse(_Said(said))  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


class _Said:
    """What was said, as http.client reads a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def reply(ctx: click.Context, answer: object, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print an answer: rows for a person at a terminal, data for a program, or what was asked for."""
    form = read(ctx, StatusConfig).finish().output or ("table" if sys.stdout.isatty() else "yaml")
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(msgspec.to_builtins(answer), sort_keys=False), nl=False)
    else:
        from rich.console import Console
        from rich.table import Column, Table
        from rich.text import Text

        headed = [Column(name, overflow="fold") for name in columns]  # where there is no room, nothing is cut off
        table = Table(*headed, box=None, show_header=any(columns))
        for row in rows:
            # Agents choose the names of endpoints, and Text keeps rich from reading markup in them.
            table.add_row(*(Text(log.printable(str(value))) for value in row))
        Console().print(table)
