"""The command `trioduct`: argv, environment and file become a configuration, which starts one role.

No knob is declared here. `takes` gives a command a flag for each knob of a section of `engine.config`, with help,
default and environment variable from its declaration. The flags are pflag's, as in Piko: `--x=v` or `--x v`, a
bare `--x` for a switch, lists by commas or by repetition, before and after the arguments, and a group takes the
flags of its commands (`trioduct agent --connect.url … http shop 3000`). Wherever they stand they are noted in one
place, `click.Context.meta`, which a context shares with its parents.

Exit codes: 0 done · 1 it failed, and one line says why · 2 what was asked for cannot work (command line,
configuration, a port in use), and one line says where and what would · 130 Ctrl-C. A traceback is a defect of ours.

Whatever takes long to import is imported where it is used, for `trioduct --help` is to answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import click
import msgspec

from engine import __version__, log
from engine.config import (
    AgentConfig,
    Draft,
    ExaminationConfig,
    ForwardConfig,
    Invocation,
    Knob,
    Leaf,
    ListenerConfig,
    PortConfig,
    Section,
    ServerConfig,
    StatusConfig,
    knobs,
    members,
    split_url,
    to_yaml,
)
from engine.errors import ConfigError, Refused, Unreachable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Role = Callable[[], Awaitable[None]]
C = TypeVar("C", ServerConfig, AgentConfig, ForwardConfig)
S = TypeVar("S", bound=Section)
T = TypeVar("T")
Command = TypeVar("Command", bound=click.Command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. What went wrong stands on stderr, on one line."""
    try:
        code = trioduct.main(argv, prog_name="trioduct", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trioduct"
        return complain(f"{error.format_message().rstrip('.')} ({command} --help)", 2)
    except ConfigError as error:
        return complain(str(error), 2)
    except (Refused, Unreachable) as error:
        return complain(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def complain(text: str, code: int) -> int:
    click.echo(f"trioduct: {text}", err=True)
    return code


# Knobs as flags ---------------------------------------------------------------------------------------------

FLAGS = "trioduct.flags"  # in Context.meta: flag -> the texts that it was given, in their order


class Flag(click.Option):
    """A knob on the command line. Its text is only noted here; a `Draft` judges it like text from anywhere."""

    def __init__(self, knob: Knob, default: str, *aliases: str) -> None:
        super().__init__(
            [knob.flag, *aliases, knob.key.replace(".", "__")],
            help=knob.help,  # for completion; `write_help` is what --help shows
            type=click.Path() if knob.kind.metavar == "FILE" else click.STRING,  # for completion
            multiple=True,
            expose_value=False,
            callback=note,
            shell_complete=self.complete_choice if knob.kind.choices else None,
        )
        self.knob = knob
        self.shown_default = default

    @property
    def is_switch(self) -> bool:
        return not self.knob.kind.metavar

    def complete_choice(self, ctx: click.Context, param: click.Parameter, begun: str) -> list[str | CompletionItem]:
        return [choice for choice in self.knob.kind.choices if choice.startswith(begun)]

    def write_help(self, formatter: click.HelpFormatter, port: str = "") -> None:
        """Flag, default and variable on one line, what it does on the next. `port` replaces its first word."""
        flag, variable = self.knob.flag, self.knob.variable
        if port:
            first = self.knob.path[0]
            flag, variable = flag.replace(first, port, 1), variable.replace(first.upper(), port, 1)
        names = ", ".join(flag if name == self.knob.flag else name for name in reversed(self.opts))
        line = f"{' ' * formatter.current_indent}{names} {self.knob.kind.metavar}".rstrip()
        told = ", ".join(filter(None, (self.shown_default, variable)))
        rest = f"[{told}]" if told else ""
        fits = len(line) + len(rest) + 2 <= formatter.width
        formatter.write(f"{line}  {rest}".rstrip() + "\n" if fits else f"{line}\n")
        formatter.indent()
        formatter.indent()
        formatter.write_text(self.knob.help)
        if not fits:
            formatter.write_text(rest)
        formatter.dedent()
        formatter.dedent()


def note(ctx: click.Context, flag: click.Parameter, texts: tuple[str, ...]) -> None:
    if texts and isinstance(flag, Flag):
        ctx.meta.setdefault(FLAGS, {}).setdefault(flag.knob.flag, []).extend(texts)


def takes(*roots: type[Section], without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Give a command a flag for every knob of `roots` whose key does not begin with one of `without`."""

    def decorate(command: Command) -> Command:
        for root in roots:
            for knob in knobs(root):
                if not knob.key.startswith(without):
                    aliases = ("-o",) if knob.key == "output" else ()
                    command.params.append(Flag(knob, knob.default(root), *aliases))
        return command

    return decorate


class FlagCommand(click.Command):
    """A command whose flags are pflag's, and are listed under the titles of their sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A switch may have a value, but only behind "=": the next argument never is it.
        switches = {name for flag in self.params if isinstance(flag, Flag) and flag.is_switch for name in flag.opts}
        end = args.index("--") if "--" in args else len(args)
        args = [f"{arg}=true" if arg in switches else arg for arg in args[:end]] + args[end:]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        flags = [param for param in self.get_params(ctx) if isinstance(param, Flag)]
        flags.sort(key=lambda flag: flag.knob.aside)  # which keeps their order otherwise
        # What several ports have is listed once, as PORT: knobs that one section declares below each of them.
        ports: dict[object, list[str]] = {}
        for flag in flags:
            ports.setdefault(shared_by_ports(flag.knob), []).append(flag.knob.path[0])
        groups: dict[str, list[tuple[Flag, str]]] = {}
        for flag in flags:
            names = ports[shared_by_ports(flag.knob)]
            if len(names) == 1:
                groups.setdefault(flag.knob.title, []).append((flag, ""))
            elif names[0] == flag.knob.path[0]:
                title = f"{flag.knob.title}; PORT is {', '.join(names[:-1])} or {names[-1]}"
                groups.setdefault(title, []).append((flag, "PORT"))
        if groups:
            formatter.write_paragraph()
            formatter.write_text("In brackets: the default, and the variable of the environment.")
        for title, listed in groups.items():
            with formatter.section(title):
                for flag, port in listed:
                    flag.write_help(formatter, port)
        others = [param for param in self.get_params(ctx) if isinstance(param, click.Option) and param not in flags]
        with formatter.section("Other flags" if flags else "Flags"):
            formatter.write_dl([record for param in others if (record := param.get_help_record(ctx)) is not None])


def shared_by_ports(knob: Knob) -> object:
    """What is the same for the same knob of several ports, and for no two others."""
    return (knob.section, knob.path[1:]) if len(knob.path) > 1 else knob.path


class FlagGroup(FlagCommand, click.Group):
    command_class = FlagCommand
    group_class = type  # which means: groups below a FlagGroup are FlagGroups

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as they stand here, not by the alphabet

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)  # before the many flags
        super().format_options(ctx, formatter)


# From a command line to a running role ----------------------------------------------------------------------


def read(ctx: click.Context, root: type[S]) -> Draft[S]:
    """A draft of what environment and command line say."""
    draft = Draft(root)
    draft.read_environment(os.environ)
    draft.read_flags(ctx.meta.get(FLAGS, {}))
    return draft


def read_role(ctx: click.Context, root: type[C]) -> Draft[C]:
    """A draft of what environment, command line and file say."""
    draft = read(ctx, root)
    file = read(ctx, Invocation).finish().config
    if file.path:
        draft.read_file(file.path, expand_env=file.expand_env, environ=os.environ)
    return draft


def launch(ctx: click.Context, draft: Draft[C]) -> int:
    """Run the role that was drafted, or only show it if that is what was asked for. Returns the exit code."""
    config = draft.finish()
    if read(ctx, Invocation).finish().config.check:
        return show(draft)
    log.configure(config.log.level, config.log.subsystems)
    for warning in draft.warnings():
        log.get_logger("main").warning(warning)
    return run(role_of(config), draft)


def show(draft: Draft[C]) -> int:
    """Print the configuration as it would be in effect."""
    config = draft.finish()
    for warning in draft.warnings():
        complain(warning, 0)
    click.echo(to_yaml(config), nl=False)
    return 0


def role_of(config: ServerConfig | AgentConfig | ForwardConfig) -> Role:
    """What runs with such a configuration."""
    if isinstance(config, ServerConfig):
        from engine.node.node import run_node

        return partial(run_node, config, alone=True)
    if isinstance(config, AgentConfig):
        from engine.agent.agent import run_agent

        return partial(run_agent, config, alone=True)
    from engine.forward.forward import run_forward

    return partial(run_forward, config, alone=True)


def run(role: Role, draft: Draft[C]) -> int:
    """Run a role to its end. Returns the exit code, after one line about what went wrong if anything did."""
    import trio

    try:
        trio.run(role)
    except BaseException as error:
        return verdict(error, draft)
    return 0


def verdict(error: BaseException, draft: Draft[C] | None = None) -> int:
    """Say in one line why it ended, and return the exit code. Raises what is a defect of ours."""
    errors = list(leaves(error))
    if any(isinstance(one, KeyboardInterrupt) for one in errors):
        return 130
    if not all(isinstance(one, ConfigError | Refused | Unreachable | OSError) for one in errors):
        raise error
    for one in errors:
        if isinstance(one, ConfigError):
            return complain(str(one), 2)
        if isinstance(one, OSError) and draft and (line := about_address(one, draft)):
            return complain(line, 2)
    return complain("; ".join(dict.fromkeys(map(str, errors))), 1)


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def about_address(error: OSError, draft: Draft[C]) -> str:
    """The line about the address that could not be listened on, if that is what the error is about.

    The error does not know whose address it is, so each is tried again: the one that fails alike is it.
    """
    from engine.transport.listen import open_listeners

    for key, address in draft.config.listens().items():
        try:
            for listener in open_listeners(address):
                listener.close()
        except OSError as again:
            if str(again) == str(error):
                reason = os.strerror(again.errno) if again.errno and again.errno > 0 else again.strerror
                return draft.complaint(key, address, f"{reason}; expected a free port on an address of this machine")
    return ""


# The commands: roles ----------------------------------------------------------------------------------------


@click.group(cls=FlagGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-v", "--version", message="%(prog)s %(version)s")
def trioduct() -> None:
    """A reverse tunnel: services that nobody can reach open connections to a public node, and the node carries
    HTTP, WebSocket and TCP to them through those connections.

    \b
      trioduct server                                                  on a public machine
      trioduct agent http shop 3000 --connect.url http://host:8001     beside the service on port 3000
      curl -H 'x-piko-endpoint: shop' http://host:8000/                from anywhere

    Each flag (--connect.token) is a variable of the environment as well (TRIODUCT_CONNECT_TOKEN), and most are
    keys of a YAML file (connect.token). The file wins over flags, and flags win over the environment. Everybody
    on a machine can read its command lines, so keep secrets in the file or in the environment.
    """


@takes(ServerConfig, Invocation)
@trioduct.group(invoke_without_command=True)
@click.pass_context
def server(ctx: click.Context) -> int | None:
    """Run a node.

    Clients come in on its proxy port, agents on its upstream port. A client names the endpoint that it wants in
    the field x-piko-endpoint, or by the first label of the host. After SIGTERM, what is in flight may finish.

    \b
      trioduct server
      trioduct server --config.path server.yaml --proxy.bind-addr 127.0.0.1:8000
    """
    return launch(ctx, read_role(ctx, ServerConfig)) if ctx.invoked_subcommand is None else None


@takes(AgentConfig, Invocation)
@trioduct.group()
def agent() -> None:
    """Offer services through a node.

    For each endpoint an agent opens one connection to the node, hands what comes through it to the service, and
    connects again whenever it is lost. It needs no open port.

    \b
      trioduct agent http shop 3000 --connect.url http://host:8001
      trioduct agent start --config.path agent.yaml
    """


@takes(AgentConfig, Invocation)
@takes(ListenerConfig, without=("endpoint_id", "addr", "protocol", "tls"))
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", help="The service: a port of localhost, host:port, or a URL.")
@click.pass_context
def http(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one HTTP service.

    \b
      trioduct agent http shop 3000 --connect.url http://host:8001
      trioduct agent http shop https://10.0.0.5:3000
    """
    return launch_listener(ctx, "http", endpoint, addr)


@takes(AgentConfig, Invocation)
@takes(ListenerConfig, without=("endpoint_id", "addr", "protocol", "tls", "http_client", "access_log.re"))
@agent.command()
@click.argument("endpoint", help="Name that clients ask for.")
@click.argument("addr", help="The service: a port of localhost, or host:port.")
@click.pass_context
def tcp(ctx: click.Context, endpoint: str, addr: str) -> int:
    """Offer one TCP service. Clients reach it through `trioduct forward`.

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
    """Offer all services of the file.

    \b
      trioduct agent start --config.path agent.yaml
    """
    draft = read_role(ctx, AgentConfig)
    if not draft.config.listeners:
        raise ConfigError(draft.complaint("listeners", "", "there are none; expected some in --config.path FILE"))
    return launch(ctx, draft)


@takes(ForwardConfig, Invocation)
@trioduct.group()
def forward() -> None:
    """Open local ports that lead to TCP endpoints.

    Each connection to one of them is carried through the node to the service that an agent offers with
    `agent tcp`.

    \b
      trioduct forward tcp 15432 database --connect.url http://host:8000
      trioduct forward start --config.path forward.yaml
    """


@takes(ForwardConfig, Invocation)
@forward.command("tcp")
@click.argument("addr", help="Where to listen: a port of localhost, or host:port.")
@click.argument("endpoint", help="Name of a TCP endpoint.")
@click.pass_context
def forward_tcp(ctx: click.Context, addr: str, endpoint: str) -> int:
    """Open one port.

    \b
      trioduct forward tcp 15432 database --connect.url http://host:8000
      trioduct forward tcp 0.0.0.0:15432 database
    """
    draft = read_role(ctx, ForwardConfig)
    draft.take_item("ports", PortConfig(), {"addr": ("ADDR", addr), "endpoint_id": ("ENDPOINT", endpoint)})
    return launch(ctx, draft)


@takes(ForwardConfig, Invocation)
@forward.command("start")
@click.pass_context
def start_forward(ctx: click.Context) -> int:
    """Open all ports of the file.

    \b
      trioduct forward start --config.path forward.yaml
    """
    draft = read_role(ctx, ForwardConfig)
    if not draft.config.ports:
        raise ConfigError(draft.complaint("ports", "", "there are none; expected some in --config.path FILE"))
    return launch(ctx, draft)


def add_config_check(group: click.Group, root: type[C]) -> None:
    @group.group()
    def config() -> None:
        """Look at a configuration and start nothing."""

    @takes(root, Invocation)
    @config.command(
        help=f"""Check a configuration, the files that it names included, and print it as it would be in effect.

        Secrets are masked. Exits with 2 and one line about the first mistake, if there is any.

        \b
          trioduct {group.name} config check --config.path {group.name}.yaml
        """
    )
    @click.pass_context
    def check(ctx: click.Context) -> int:
        return show(read_role(ctx, root))


add_config_check(server, ServerConfig)
add_config_check(agent, AgentConfig)
add_config_check(forward, ForwardConfig)


# The commands: what a node is asked -------------------------------------------------------------------------

STATUS_SECONDS = 15  # Piko's


class NodeSummary(msgspec.Struct):
    """What a node knows of one node, as `/status/cluster/nodes` lists them."""

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    endpoints: int
    upstreams: int


class NodeState(msgspec.Struct):
    """All that a node knows of one node: `/status/cluster/nodes/<id>`. Endpoints map to their sessions."""

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    endpoints: dict[str, int] | None = None  # Go's nil map


@takes(StatusConfig)
@server.group()
def status() -> None:
    """Ask a running node what it sees.

    \b
      trioduct server status upstream endpoints --server.url http://host:8002
      trioduct server status cluster nodes -o json
    """


@takes(StatusConfig)
@status.group()
def upstream() -> None:
    """The agents of a node."""


@takes(StatusConfig)
@upstream.command()
@click.pass_context
def endpoints(ctx: click.Context) -> None:
    """The endpoints of a node, with the number of sessions of each.

    \b
      trioduct server status upstream endpoints
    """
    answer = ask(ctx, "/status/upstream/endpoints", dict[str, int])
    reply(ctx, answer, ["endpoint", "sessions"], sorted(answer.items()))


@takes(StatusConfig)
@status.group()
def cluster() -> None:
    """The nodes of a cluster."""


@takes(StatusConfig)
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
    columns = ["node", "status", "proxy", "admin", "endpoints", "upstreams"]
    reply(ctx, {"nodes": found}, columns, [msgspec.structs.astuple(node) for node in found])


@takes(StatusConfig)
@cluster.command()
@click.argument("id", help="Name of the node; `local` is the one that is asked.")
@click.pass_context
def node(ctx: click.Context, id: str) -> None:
    """One node, with its endpoints.

    \b
      trioduct server status cluster node local
    """
    answer = ask(ctx, f"/status/cluster/nodes/{quote(id, safe='')}", NodeState)
    rows = [(name, value) for name, value in msgspec.structs.asdict(answer).items() if name != "endpoints"]
    rows += [(f"endpoint {name}", count) for name, count in sorted((answer.endpoints or {}).items())]
    reply(ctx, answer, ["", ""], rows)


@takes(StatusConfig)
@status.group()
def gossip() -> None:
    """Not used here: nodes do not gossip."""


@takes(StatusConfig)
@gossip.command("nodes")
def gossip_nodes() -> None:
    """Not used here: nodes do not gossip."""
    raise Refused("gossip is not used here; `trioduct server status cluster nodes` lists the nodes")


@takes(StatusConfig)
@gossip.command("node")
@click.argument("id")
def gossip_node(id: str) -> None:
    """Not used here: nodes do not gossip."""
    raise Refused("gossip is not used here; `trioduct server status cluster node ID` shows a node")


def ask(ctx: click.Context, path: str, shape: type[T]) -> T:
    """GET a status route of the node's admin port. Raises ConfigError, Refused or Unreachable."""
    import http.client

    config = read(ctx, StatusConfig).finish()
    target = split_url(config.server.url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{target.scheme}://{host}:{target.port}"
    path = f"{target.path}{path}{'?forward=' + quote(config.forward, safe='') if config.forward else ''}"
    connection = http.client.HTTPConnection(target.host, target.port, timeout=STATUS_SECONDS)
    try:
        connection.connect()
        if target.scheme in ("https", "wss"):
            name = config.tls.server_name or target.host
            connection.sock = config.tls.client_context().wrap_socket(connection.sock, server_hostname=name)
        fields = {"Authorization": f"Bearer {config.token}"} if config.token else {}
        connection.request("GET", path, headers=fields)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        problem = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"{place}: {log.printable(problem)}; --server.url must be a node's admin port") from error
    finally:
        connection.close()
    if response.status == 401:
        raise Refused(f"{place}: it wants a token, or another one; TRIODUCT_TOKEN or --token gives it")
    if response.status == 404:
        raise Refused(f"{place}: it knows no such node, or is no admin port: 404 to {path}")
    if response.status != 200:
        raise Refused(f"{place}: status {response.status} to {path}")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{place}: no answer of an admin port to {path}: {error}") from error


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
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, show_header=any(columns))
        for row in rows:
            # Agents choose the names of endpoints, and Text keeps rich from reading markup in them.
            table.add_row(*(Text(log.printable(str(value))) for value in row))
        Console().print(table)


# The commands: beside the tunnel ----------------------------------------------------------------------------


@takes(AgentConfig, Invocation, without=("server", "log", "grace_period"))
@takes(ExaminationConfig)
@trioduct.command()
@click.argument("endpoint", required=False, help="Name to register for a moment, as an agent would.")
@click.pass_context
def doctor(ctx: click.Context, endpoint: str | None) -> int:
    """Find out how an agent gets from here to a node, or what stops it.

    Walks the way as an agent with the same flags, file and environment would, and tells each step. It ends in a
    verdict, and if it is blocked in a paragraph for those who run the network. A request for ENDPOINT that comes in
    the moment of its registration may fail.

    \b
      trioduct doctor --connect.url https://host:8001
      trioduct doctor shop --config.path agent.yaml --measure

    Exit codes: 0 it works · 1 blocked · 2 bad configuration · 3 it works with another setting · 4 the node says no.
    """
    draft = read_role(ctx, AgentConfig)
    config = draft.finish()
    wanted = read(ctx, ExaminationConfig).finish()
    if read(ctx, Invocation).finish().config.check:
        return show(draft)
    if endpoint is not None:
        kind = members(ListenerConfig)["endpoint_id"]
        assert isinstance(kind, Leaf)
        try:
            kind.kind.parse(endpoint)
        except ValueError:
            raise ConfigError(f"ENDPOINT: {endpoint!r}: expected {kind.kind.expected}") from None
    elif wanted.patient or wanted.measure:
        flag = "--patient" if wanted.patient else "--measure"
        raise ConfigError(f"{flag}: there is no session to look at; expected ENDPOINT as well")
    import trio

    from engine.doctor.doctor import run_doctor
    from engine.doctor.report import Machine, Report, Terminal

    report = Machine() if wanted.json else Terminal() if sys.stdout.isatty() else Report()
    examine = partial(
        run_doctor, config.connect, endpoint or "", report, patient=wanted.patient, measure=wanted.measure
    )
    try:
        return trio.run(examine).exit_code
    except BaseException as error:
        return verdict(error)


@trioduct.command()
@click.option("--once", is_flag=True, help="End after one request: 0 if it was answered, 1 if not.")
def demo(once: bool) -> int:
    """See it work on this machine.

    Starts a node, an agent, a service and a forward proxy on free ports, asks the service through all of them,
    and shows the answer and where its time went.

    \b
      trioduct demo
    """
    import trio

    from engine.demo import run_demo

    try:
        return trio.run(run_demo, once)
    except BaseException as error:
        return verdict(error)


@trioduct.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="The shell that is to complete.")
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and flags.

    \b
      eval "$(trioduct completion bash)"               in ~/.bashrc
      eval "$(trioduct completion zsh)"                in ~/.zshrc
      trioduct completion fish | source                in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(trioduct, {}, "trioduct", "_TRIODUCT_COMPLETE").source())


@trioduct.command("help", hidden=True)
@click.argument("command", nargs=-1, help="A command, such as `agent http`.")
@click.pass_context
def help_(ctx: click.Context, command: tuple[str, ...]) -> int:
    """Show the help of a command, like its --help.

    \b
      trioduct help agent http
    """
    return int(trioduct.main([*command, "--help"], prog_name="trioduct", standalone_mode=False) or 0)
