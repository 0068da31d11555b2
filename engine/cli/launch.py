"""From a command line to a running role."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import click

from engine import log
from engine.cli.ending import RoleDraft, complain, verdict
from engine.cli.flags import FLAGS, TYPED, Command, takes
from engine.config import (
    AgentConfig,
    ConnectConfig,
    Draft,
    ForwardConfig,
    Invocation,
    Section,
    ServerConfig,
    StatusConfig,
    TopConfig,
    to_yaml,
)
from engine.errors import ConfigError

WORKER = "TRIODUCT_WORKER"  # set by a supervisor (engine.supervisor.process), which starts this command again
Role = Callable[[], Awaitable[int | None]]  # what it returns is the exit code
C = TypeVar("C", ServerConfig, AgentConfig, ForwardConfig)
S = TypeVar("S", bound=Section)


def read(ctx: click.Context, root: type[S]) -> Draft[S]:
    """A draft of what environment and command line say."""
    draft = Draft(root)
    draft.read_environment(os.environ)
    draft.read_flags(ctx.meta.get(FLAGS, {}), ctx.meta.get(TYPED, {}))
    return draft


def read_role(ctx: click.Context, root: type[S]) -> Draft[S]:
    """A draft of what environment, command line and file say."""
    draft = read(ctx, root)
    file = read(ctx, Invocation).finish().config
    if file.path:
        draft.read_file(file.path, expand_env=file.expand_env, environ=os.environ)
    return draft


def launch(ctx: click.Context, draft: Draft[C]) -> int:
    """Run the role that was drafted, or only show it if that is what was asked for. Returns the exit code."""
    config = draft.finish()
    if checks(ctx):
        return show(draft)
    log.configure(config.log.level, config.log.subsystems)
    for warning in draft.warnings() if WORKER not in os.environ else ():  # its supervisor has said them
        log.get_logger("main").warning(warning)
    return run(role_of(config), draft)


def expect_some(key: str, draft: Draft[C]) -> None:
    """Raise ConfigError if the list at `key` is empty: there would be nothing to do."""
    if not getattr(draft.config, key):
        raise ConfigError(draft.complaint(key, "", "empty; expected some in --config.path FILE"))


def show(draft: Draft[S]) -> int:
    """Print the configuration as it would be in effect."""
    config = draft.finish()
    for warning in draft.warnings():
        complain(warning, 0)
    way = config.connect if isinstance(config, AgentConfig | ForwardConfig) else config
    if isinstance(way, ConnectConfig | StatusConfig | TopConfig) and (route := way.environment_route()):
        click.echo(f"# the way to the node: {route} ({route.source})")
    click.echo(to_yaml(config), nl=False)
    return 0


def role_of(config: ServerConfig | AgentConfig | ForwardConfig) -> Role:
    """What runs with such a configuration, told to leave by this process's signals."""
    from engine.loop.leaving import heed_signals

    if isinstance(config, ServerConfig):
        if (descriptor := os.environ.pop(WORKER, "")).isdecimal():
            from engine.node.worker import run_worker

            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it means a reload, to the supervisor
            return partial(heed_signals, partial(run_worker, config, int(descriptor), alone=True))
        if config.worker_count() > 1:
            from engine.supervisor.supervisor import run_supervisor

            return partial(run_supervisor, config)
        from engine.node.node import run_node

        return partial(heed_signals, partial(run_node, config, alone=True))
    if isinstance(config, AgentConfig):
        from engine.agent.agent import run_agent

        return partial(heed_signals, partial(run_agent, config, alone=True))
    from engine.forward.forward import run_forward

    return partial(heed_signals, partial(run_forward, config, alone=True))


def run(role: Role, draft: RoleDraft | None = None) -> int:
    """Run a role to its end. Returns the exit code, after one line about what went wrong if anything did."""
    import trio

    try:
        return trio.run(role) or 0
    except BaseException as error:
        return verdict(error, draft)


def takes_check(command: Command) -> Command:
    """Give a command that has no file its --config.check."""
    return takes(Invocation, without=("config.path", "config.expand_env"))(command)


def checks(ctx: click.Context) -> bool:
    """Whether --config.check was said."""
    return read(ctx, Invocation).finish().config.check


def add_config_check(
    group: click.Group,
    root: type[C],
    *more: type[Section],
    complete: Callable[[Draft[C]], None] = lambda draft: None,
    answer: Callable[[click.Context, Draft[C]], int] = lambda _, draft: show(draft),
) -> None:
    """Give a group its `config check`; `complete` raises ConfigError for what its `start` would refuse as well.

    `answer` prints what was found, and gives the exit code; `more` has flags for that.
    """

    @group.group()
    def config() -> None:
        """Check a configuration."""

    @takes(root, Invocation, *more)
    @config.command(
        help=f"""Check a configuration and the files that it names, and print it as it would be in effect.

        Secrets are masked. Exits with 2 and one line about the first mistake, if there is any.

        \b
          trioduct {group.name} config check --config.path {group.name}.yaml
        """
    )
    @click.pass_context
    def check(ctx: click.Context) -> int:
        draft = read_role(ctx, root)
        complete(draft)
        return answer(ctx, draft)
