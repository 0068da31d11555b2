"""How a knob is declared, and what can be read from the declaration.

A *section* is a mapping of the YAML file, a *knob* a value in one. A knob's place among the sections is its key in
the file (`proxy.bind_addr`), its flag (`--proxy.bind-addr`) and its environment variable
(`TRIODUCT_PROXY_BIND_ADDR`). Its annotation says its *kind* (how text becomes a value and back, what a person
should have written, whether it is a secret) and its help; the assignment is its default:

    class LogConfig(Section):
        level: Annotated[Level, "Minimum level to log."] = "info"
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import Annotated, ClassVar, Generic, NamedTuple, TypeVar, cast, get_args, get_origin

import msgspec

from engine.config.mask import MASK, mask_userinfo

T = TypeVar("T")


class Section(msgspec.Struct, kw_only=True):
    """A mapping of the file. `title` heads its knobs in a command's help; without one they join those above."""

    title: ClassVar[str] = ""
    aside: ClassVar[bool] = False  # whether help lists it behind what is wanted more often

    def verify(self) -> None:
        """Raise `Defect` for what is wrong with values together, or with the files that they name."""

    def warnings(self, said: Collection[str]) -> Iterator[str]:
        """What is valid and may not be what was meant, a line for each reason. `said`: the keys that were set."""
        yield from ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self)})"  # secrets are masked wherever a section is printed


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """How a value is written and read: `parse` makes it of text or raises ValueError, `expected` says what
    would have been right, `show` gives what `config check` prints.
    """

    metavar: str
    expected: str
    parse: Callable[[str], T]
    show: Callable[[T], object] = lambda value: value
    choices: tuple[str, ...] = ()
    many: bool = False  # a list of such values: a sequence in the file; commas, or repetition, in a flag
    alone: bool = False  # where many may stand, one needs no list around it in the file
    pairs: bool = False  # each of many is a pair: KEY=VALUE in a flag, a mapping in the file
    secret: bool = False
    userinfo: bool = False  # may hold user:password@
    variable: bool = True  # whether the environment has a variable for it
    zero_is_default: bool = False  # Go does not tell a zero from what nobody set


class Leaf(NamedTuple):
    """A member of a section that is a value."""

    kind: Kind[object]
    help: str


class ListOf(NamedTuple):
    """A member of a section that is a list of sections. Only a file can name those."""

    section: type[Section]


class MapOf(NamedTuple):
    """A member of a section that maps names, which somebody has chosen, to sections. Only a file can have it."""

    section: type[Section]


Member = Leaf | ListOf | MapOf | type[Section]


@cache
def members(section: type[Section]) -> dict[str, Member]:
    """What may stand in a section, by key, in the order of the declaration."""
    found: dict[str, Member] = {}
    for declared in msgspec.structs.fields(section):
        if get_origin(declared.type) is Annotated:
            found[declared.name] = Leaf(*declared.type.__metadata__)
        elif get_origin(declared.type) is list:
            found[declared.name] = ListOf(*get_args(declared.type))
        elif get_origin(declared.type) is dict:
            found[declared.name] = MapOf(get_args(declared.type)[1])
        else:
            found[declared.name] = declared.type
    return found


class Knob(NamedTuple):
    """One value that can be set from outside, and the section that declares it."""

    path: tuple[str, ...]
    kind: Kind[object]
    help: str
    section: type[Section]
    title: str
    aside: bool

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name of its environment variable; empty if it has none."""
        return "TRIODUCT_" + self.key.replace(".", "_").upper() if self.kind.variable else ""

    def value(self, root: Section) -> object:
        """What it is set to in a configuration."""
        value: object = root
        for name in self.path:
            value = getattr(value, name)
        return value

    def default(self, root: type[Section]) -> str:
        """The default in a configuration, as a person would write it; empty if there is none."""
        return self.written(root())

    def written(self, root: Section) -> str:
        """What it is set to in a configuration, as a person would write it; a secret is masked."""
        value = _shown_value(self.kind, self.value(root))
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return ",".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value or "")


def knobs(section: type[Section], path: tuple[str, ...] = (), title: str = "", aside: bool = False) -> Iterator[Knob]:
    """The knobs of a section and of those below it, without lists and mappings of sections."""
    title, aside = section.title or title, section.aside or aside
    for name, member in members(section).items():
        if isinstance(member, Leaf):
            yield Knob((*path, name), member.kind, member.help, section, title, aside)
        elif not isinstance(member, ListOf | MapOf):
            yield from knobs(member, (*path, name), title, aside)


def shown(section: Section) -> dict[str, object]:
    """A section as plain data for people: durations in Go's spelling, secrets masked."""
    plain: dict[str, object] = {}
    for name, member in members(type(section)).items():
        value = getattr(section, name)
        if isinstance(member, Leaf):
            plain[name] = _shown_value(member.kind, value)
        elif isinstance(member, ListOf):
            plain[name] = [shown(item) for item in value]
        elif isinstance(member, MapOf):
            plain[name] = {key: shown(item) for key, item in value.items()}
        else:
            plain[name] = shown(value)
    return plain


def _shown_value(kind: Kind[object], value: object) -> object:
    if kind.many and isinstance(value, list):
        items = [_shown_value(msgspec.structs.replace(kind, many=False), item) for item in value]
        return dict(cast("list[tuple[str, str]]", items)) if kind.pairs else items
    if kind.secret:
        return MASK if value else ""
    if kind.userinfo and isinstance(value, str):
        return mask_userinfo(value)
    return kind.show(value)


def to_yaml(section: Section) -> str:
    """A section as a YAML file, secrets masked."""
    import yaml

    return yaml.safe_dump(shown(section), sort_keys=False, allow_unicode=True, width=1000)
