"""The reference of all keys, as pages in Markdown, made of their declarations.

    python -m engine.config.reference docs/reference

writes them anew. What is in docs/reference is compared with the declarations by tests/config/test_reference.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from engine.config.agent import AgentConfig
from engine.config.command import (
    BenchConfig,
    CertsConfig,
    ChecklistConfig,
    ExaminationConfig,
    InitConfig,
    Invocation,
    StatusConfig,
    TokenConfig,
    WritingConfig,
)
from engine.config.forward import ForwardConfig
from engine.config.knob import Knob, Leaf, ListOf, MapOf, Section, knobs, members
from engine.config.server import ServerConfig

FILES: dict[str, tuple[str, type[Section]]] = {
    "server.md": ("a node (`trioduct server`)", ServerConfig),
    "agent.md": ("an agent (`trioduct agent`)", AgentConfig),
    "forward.md": ("a forward (`trioduct forward`)", ForwardConfig),
}
COMMANDS: dict[str, tuple[type[Section], ...]] = {
    "Every role": (Invocation,),
    "init": (InitConfig, WritingConfig),
    "token": (TokenConfig,),
    "certs": (CertsConfig,),
    "doctor": (ExaminationConfig,),
    "server status": (StatusConfig,),
    "server config check": (ChecklistConfig,),
    "bench http": (BenchConfig,),
}
ABOUT_FILE = """\
# Keys of {role}

<!-- Written by `python -m engine.config.reference docs/reference` from the declarations in engine/config. -->

`proxy.bind_addr` is `bind_addr` below `proxy` in the YAML file (`--config.path`), the flag `--proxy.bind-addr`, and
the variable `TRIODUCT_PROXY_BIND_ADDR`. The file wins over flags, and flags over the environment. Keys with `[]` or
`NAME` in them stand in the file alone, but for those of one listener, which are flags of the command that offers
it. Values in the file that begin with a number or a colon are best quoted. `config check` prints what a
configuration comes to.
"""
ABOUT_COMMANDS = """\
# Flags of the other commands

<!-- Written by `python -m engine.config.reference docs/reference` from the declarations in engine/config. -->

`--key-file` is the variable `TRIODUCT_KEY_FILE`, too, and so are the others, unless it says otherwise.
"""


class Group(NamedTuple):
    """The values that stand in one section. `key` is its own; empty for the root."""

    key: str
    title: str
    rows: list[str]


def pages() -> dict[str, str]:
    """All pages, by the names of their files."""
    found = {name: _file_page(role, root) for name, (role, root) in FILES.items()}
    return found | {"commands.md": _commands_page()}


def _file_page(role: str, root: type[Section]) -> str:
    parts = [ABOUT_FILE.format(role=role)]
    for group in sorted(_groups(root(), "", ""), key=lambda group: bool(group.key)):  # the root's own first
        depth = "##" if "." not in group.key else "###"
        head = f"`{group.key}`" if group.key else "At the top"
        about = f"\n{group.title}.\n" if group.title and group.key else ""
        parts.append(f"{depth} {head}\n{about}")
        parts.append(_table("Key", group.rows))
    return "\n".join(parts)


def _commands_page() -> str:
    parts = [ABOUT_COMMANDS]
    for command, roots in COMMANDS.items():
        parts.append(f"## {command if command == 'Every role' else f'`trioduct {command}`'}\n")
        rows = []
        for root in roots:
            rows += [_row(knob.flag, knob, knob.default(root)) for knob in knobs(root)]
        parts.append(_table("Flag", rows))
    return "\n".join(parts)


def _table(first: str, rows: list[str]) -> str:
    return "\n".join([f"| {first} | Value | Default | What it does |", "|---|---|---|---|", *rows, ""])


def _groups(section: Section, key: str, title: str) -> Iterator[Group]:
    """A section's own values, then the sections below it."""
    root, rows, below = type(section), [], []
    for name, member in members(root).items():
        place = f"{key}.{name}" if key else name
        value = getattr(section, name)
        if isinstance(member, Leaf):
            knob = Knob((name,), member.kind, member.help, root, "", False)
            rows.append(_row(place, knob, knob.written(section)))
        elif isinstance(member, ListOf):
            below.append((member.section(), f"{place}[]"))
        elif isinstance(member, MapOf):
            below.append((member.section(), f"{place}.NAME"))
        else:
            below.append((value, place))
    if rows:
        yield Group(key, root.title or title, rows)
    for inner, place in below:
        yield from _groups(inner, place, root.title or title)


def _row(key: str, knob: Knob, default: str) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    shown = f"`{cell(default)}`" if default else ""
    what = knob.help if knob.kind.variable else f"{knob.help} No variable."
    return f"| `{key}` | {cell(knob.kind.metavar or 'true|false')} | {shown} | {cell(what)} |"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
