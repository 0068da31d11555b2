"""Knobs as flags: `takes` gives a command a flag for each knob of a section of `engine.config`.

Help, default and environment variable come from the knob's declaration; no knob is declared here. The flags are
pflag's, as in Piko: `--x=v` or `--x v`, a bare `--x` for a switch, lists by commas or by repetition, before and after
the arguments, and a group takes the flags of its commands (`trioduct agent --connect.url … http shop 3000`). Wherever
they stand they are noted in one place, `click.Context.meta`, which a context shares with its parents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from engine.config import Knob, Section, knobs

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


Command = TypeVar("Command", bound=click.Command)
ALIASES = {"output": ("-o",), "inspect.bind_addr": ("--inspect",)}
FLAGS = "trioduct.flags"  # in Context.meta: flag -> the texts that it was given, in their order
TYPED = "trioduct.typed"  # there, too: flag -> the one of its names that was typed last


def takes(*roots: type[Section], without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Give a command a flag for every knob of `roots` whose key does not begin with one of `without`."""

    def decorate(command: Command) -> Command:
        for root in roots:
            for knob in knobs(root):
                if not knob.key.startswith(without):
                    command.params.append(Flag(knob, knob.default(root), *ALIASES.get(knob.key, ())))
        return command

    return decorate


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
    """Add the texts of a flag to those in `Context.meta`. click calls it for each flag of each command on the line."""
    if texts and isinstance(flag, Flag):
        ctx.meta.setdefault(FLAGS, {}).setdefault(flag.knob.flag, []).extend(texts)


def note_aliases(ctx: click.Context, flags: Sequence[Flag], args: Sequence[str]) -> None:
    """Remember by which of its names a flag stands there, as complaints about it begin."""
    named = {name: flag.knob.flag for flag in flags if len(flag.opts) > 1 for name in flag.opts}
    for arg in args:
        name = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
        if name in named:
            ctx.meta.setdefault(TYPED, {})[named[name]] = name


class FlagCommand(click.Command):
    """A command whose flags are pflag's, and are listed under the titles of their sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A switch may have a value, but only behind "=": the next argument never is it.
        switches = {name for flag in self.params if isinstance(flag, Flag) and flag.is_switch for name in flag.opts}
        end = args.index("--") if "--" in args else len(args)
        note_aliases(ctx, [flag for flag in self.params if isinstance(flag, Flag)], args[:end])
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
            formatter.write_text("In brackets: the default and the environment variable.")
        for title, listed in groups.items():
            with formatter.section(title):
                for flag, port in listed:
                    flag.write_help(formatter, port)
        others = [param for param in self.get_params(ctx) if isinstance(param, click.Option) and param not in flags]
        with formatter.section("Other flags" if flags else "Flags"):
            formatter.write_dl([record for param in others if (record := param.get_help_record(ctx)) is not None])


def shared_by_ports(knob: Knob) -> object:
    """A value that is equal for the same knob of several ports, and for no two other knobs."""
    return (knob.section, knob.path[1:]) if len(knob.path) > 1 else knob.path


class FlagGroup(FlagCommand, click.Group):
    command_class = FlagCommand
    group_class = type  # which means: groups below a FlagGroup are FlagGroups

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as they stand here, not by the alphabet

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)  # before the many flags
        super().format_options(ctx, formatter)
