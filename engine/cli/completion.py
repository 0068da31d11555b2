"""`trioduct completion`: what makes a shell complete commands and flags."""

from __future__ import annotations

import click

from engine.cli.flags import FlagCommand


@click.command(cls=FlagCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="The shell.")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for a shell.

    \b
      eval "$(trioduct completion bash)"               in ~/.bashrc
      eval "$(trioduct completion zsh)"                in ~/.zshrc
      trioduct completion fish | source                in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(ctx.find_root().command, {}, "trioduct", "_TRIODUCT_COMPLETE").source())
