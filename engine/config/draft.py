"""A configuration on its way: values from environment, flags and file, each with where it came from.

What comes later wins: default < environment < flag < file. That the file beats the flags is Piko's order (it decodes
the file after it has parsed the flags), and a command line moved over from there must not change its meaning.

Whatever is wrong becomes one `ConfigError`: a line with source, key, value and what would be right. A secret is never
part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Never, TypeVar

from engine.config.check import Defect, quoted
from engine.config.knob import Kind, Knob, Leaf, ListOf, MapOf, Section, knobs, members
from engine.config.mask import MASK
from engine.errors import ConfigError

if TYPE_CHECKING:
    import yaml  # imported where it is used, because it costs 20 ms


NOTHING: Mapping[str, Never] = MappingProxyType({})
C = TypeVar("C", bound=Section)
_UNSET = "\ue000"  # in the place of a variable that is not set; of private use, and YAML takes it
_NULL = "tag:yaml.org,2002:null"
_ESCAPES = "in double quotes YAML takes a backslash for the beginning of an escape"


class Draft(Generic[C]):
    """A configuration on its way, and where each of its values came from.

    Call the `read_…` methods from the weakest source to the strongest, then `finish`. All raise ConfigError.
    """

    def __init__(self, root: type[C]) -> None:
        self.config = root()
        # How a complaint about a key begins: "--proxy.timeout", or "server.yaml:3: proxy.timeout".
        self._origins: dict[str, str] = {}

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Take each knob's variable. An empty one says nothing, but for a secret, which somebody meant to give."""
        for knob in knobs(type(self.config)):
            text = environ.get(knob.variable, "")
            if text or (knob.kind.secret and knob.variable in environ):
                self._take(self.config, "", knob, [text], knob.variable)

    def read_flags(self, flags: Mapping[str, Sequence[str]], typed: Mapping[str, str] = NOTHING) -> None:
        """Take flags, as flag -> the texts that it was given: the last one, or for a list all of them. `typed` has
        those that were typed by another name, with that.
        """
        for knob in knobs(type(self.config)):
            if texts := flags.get(knob.flag):
                self._take(self.config, "", knob, texts, typed.get(knob.flag, knob.flag))

    def read_file(self, path: str, *, expand_env: bool = False, environ: Mapping[str, str] = NOTHING) -> None:
        """Take what a YAML file says. What is null in it stays as it is, like what is missing."""
        import yaml

        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; expected a YAML file") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: not UTF-8; expected a YAML file") from None
        if expand_env:
            _refuse_missing_secrets(path, text, environ, type(self.config))
            text = expand(text, environ)
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
            try:
                node = loader.get_single_node()
                if node is not None and node.tag != _NULL:
                    self._read_section(path, loader, node, self.config, "")
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            # Not str(error), which quotes the lines around it, secrets and all.
            mark = error.problem_mark or error.context_mark
            place = f"{path}:{mark.line + 1}" if mark else path
            problem, expected = error.problem or error.context, "YAML"
            # Not by [mark.line]: YAML ends lines by more than line feeds.
            if mark and "".join(text.split("\n")[mark.line : mark.line + 1])[mark.column :].startswith("\t"):
                problem, expected = "a tab where YAML indents", "spaces"
            elif re.search("escape character|hexa?decimal", error.problem or ""):
                problem, expected = f"{_ESCAPES}, and this is none", "single quotes"
            raise ConfigError(f"{place}: {problem}; expected {expected}") from None
        except (yaml.YAMLError, UnicodeEncodeError):
            raise ConfigError(f"{path}: control characters; expected YAML") from None

    def take_item(
        self,
        items: str,
        item: Section,
        arguments: Mapping[str, tuple[str, str]],
        flags: Mapping[str, Sequence[str]] = NOTHING,
        environ: Mapping[str, str] = NOTHING,
    ) -> None:
        """Put one section in place of a list of them, as `agent http ENDPOINT ADDR` does with `listeners`.

        `arguments` maps keys to what the command line calls them and the text. Whatever the file says of the
        list is discarded, as in Piko.
        """
        self._origins = {k: v for k, v in self._origins.items() if not k.startswith(f"{items}[")}
        setattr(self.config, items, [item])
        for knob in knobs(type(item)):
            if text := environ.get(knob.variable):
                self._take(item, f"{items}[0].", knob, [text], knob.variable)
            if texts := flags.get(knob.flag):
                self._take(item, f"{items}[0].", knob, texts, knob.flag)
            if knob.key in arguments:
                name, text = arguments[knob.key]
                self._take(item, f"{items}[0].", knob, [text], name)

    def finish(self) -> C:
        """The configuration, once everything in it is checked, the files that it names included."""
        self._verify(self.config, "")
        return self.config

    def warnings(self) -> list[str]:
        """What is valid and may not be what was meant, a line for each reason."""
        return list(self.config.warnings(self._origins.keys()))

    def says(self, key: str) -> bool:
        """Whether environment, flags or file have said something of this key."""
        return key in self._origins

    def origin(self, key: str) -> str:
        """Where the value of a key came from, as a complaint about it begins; empty if it is the default."""
        return self._origins.get(key, "")

    def complaint(self, key: str, value: str, problem: str) -> str:
        """The line about one value: where it came from, its key, the value, and what is wrong with it."""
        begin, known = self._origins.get(key), key
        while begin is None and "." in known:  # missing: say from which section, and where that stands
            known = known.rpartition(".")[0]
            if known in self._origins:
                begin = self._origins[known] + key.removeprefix(known)
        return f"{begin or key}: {quoted(value)}: {problem}" if value else f"{begin or key}: {problem}"

    def _take(self, section: Section, prefix: str, knob: Knob, texts: Sequence[str], origin: str) -> None:
        for name in knob.path[:-1]:
            section = getattr(section, name)
        items = [item for text in texts for item in _split_list(text, origin)] if knob.kind.many else texts[-1:]
        if knob.kind.secret and "" in texts:
            # As of `$(cat key)` where there is no such file: the door would stand open.
            raise ConfigError(f"{origin}: empty; expected the secret, or nothing at all")
        self._set(section, knob.path[-1], knob.kind, items, prefix + knob.key, origin)

    def _set(
        self, section: Section, name: str, kind: Kind[object], texts: Sequence[str], key: str, origin: str
    ) -> None:
        values = []
        for text in texts:
            if (kind.secret and text == MASK) or (kind.userinfo and f":{MASK}@" in text):
                # Copied from what was printed; it would be sent as a password.
                raise ConfigError(
                    f"{origin}: {MASK} is what is printed instead of a secret; expected the secret itself"
                )
            if _is_unexpanded(text if kind.secret else text.rpartition("@")[0] if kind.userinfo else ""):
                # It would be a secret that everybody can read in the documentation.
                raise ConfigError(
                    f"{origin}: a variable's name stands in a secret, and nothing has replaced it; "
                    "expected the secret, or --config.expand-env"
                )
            try:
                values.append(kind.parse(text))
            except ValueError:
                value = MASK if kind.secret or (kind.userinfo and "@" in text) else text
                raise ConfigError(f"{origin}: {quoted(value)}: expected {kind.expected}") from None
        if kind.zero_is_default and values[0] == 0:
            return  # as if nobody had set it
        setattr(section, name, values if kind.many else values[0])
        self._origins[key] = origin

    def _read_section(self, path: str, loader: yaml.SafeLoader, node: yaml.Node, section: Section, key: str) -> None:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            place = f"{path}:{node.start_mark.line + 1}: {key}".removesuffix(": ")
            raise ConfigError(f"{place}: expected a mapping of keys")
        known = members(type(section))
        for name, line, value in _pairs(path, loader, node, key):
            here = _join(key, name)
            origin = f"{path}:{line}: {here}"
            member = known.get(name)
            if member is None:
                raise ConfigError(f"{origin}: unknown key; {_did_you_mean(name, list(known))}")
            if value.tag == _NULL:
                continue
            self._origins[here] = origin
            if isinstance(member, Leaf):
                try:
                    self._set(section, name, member.kind, self._texts(value, member.kind, origin), here, origin)
                except ConfigError as error:
                    if not any(map(_has_escape, value.value if isinstance(value, yaml.SequenceNode) else [value])):
                        raise
                    raise ConfigError(f"{error}; {_ESCAPES}: use single quotes") from None
            elif isinstance(member, MapOf):
                if not isinstance(value, yaml.MappingNode):
                    raise ConfigError(f"{origin}: expected a mapping of names, with a mapping of keys for each")
                entries = {}
                for entry, line, entry_node in _pairs(path, loader, value, here):
                    place = _join(here, entry)
                    self._origins[place] = f"{path}:{line}: {place}"
                    entries[entry] = member.section()
                    self._read_section(path, loader, entry_node, entries[entry], place)
                setattr(section, name, entries)
            elif not isinstance(member, ListOf):
                self._read_section(path, loader, value, getattr(section, name), here)
            elif isinstance(value, yaml.SequenceNode):
                items = []
                for index, item_node in enumerate(value.value):
                    item = member.section()
                    place = f"{here}[{index}]"
                    self._origins[place] = f"{path}:{item_node.start_mark.line + 1}: {place}"
                    self._read_section(path, loader, item_node, item, place)
                    items.append(item)
                setattr(section, name, items)
            else:
                raise ConfigError(f"{origin}: expected a list, each of its items a mapping of keys")

    def _texts(self, node: yaml.Node, kind: Kind[object], origin: str) -> list[str]:
        """The text of a scalar, or the texts of a list, as they stand there.

        Not what YAML makes of them: in Piko, too, it is the kind of the knob that decides whether 05 is text.
        """
        import yaml

        if kind.pairs and isinstance(node, yaml.MappingNode):
            if all(isinstance(part, yaml.ScalarNode) for pair in node.value for part in pair):
                return [f"{key.value}={value.value}" for key, value in node.value]
        elif kind.many:
            if isinstance(node, yaml.SequenceNode) and all(isinstance(n, yaml.ScalarNode) for n in node.value):
                return [str(item.value) for item in node.value]
            if kind.alone and isinstance(node, yaml.ScalarNode):
                return [str(node.value)] if node.value else []
        elif isinstance(node, yaml.ScalarNode):
            return [str(node.value)]
        what = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        value = quoted(node.value) if isinstance(node, yaml.ScalarNode) else what
        raise ConfigError(f"{origin}: {value}: expected {kind.expected}")

    def _verify(self, section: Section, prefix: str) -> None:
        for name, member in members(type(section)).items():
            if isinstance(member, ListOf):
                for index, item in enumerate(getattr(section, name)):
                    self._verify(item, f"{prefix}{name}[{index}].")
            elif isinstance(member, MapOf):
                for entry, item in getattr(section, name).items():
                    self._verify(item, f"{_join(prefix + name, entry)}.")
            elif not isinstance(member, Leaf):
                self._verify(getattr(section, name), f"{prefix}{name}.")
        try:
            section.verify()
        except Defect as defect:
            raise ConfigError(self.complaint(prefix + defect.key, defect.value, defect.problem)) from None


_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([*#$@!?0-9-])|([A-Za-z_][A-Za-z0-9_]*))")


_is_name = re.compile(r"\$[A-Z_][A-Z0-9_]{3,}").fullmatch


def _is_unexpanded(secret: str) -> bool:
    return "${" in secret or _is_name(secret) is not None


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}`, `$VAR` and `${VAR:default}` as Piko does, by the rules of Go's os.Expand.

    An unset variable is empty; the default is for both. `$$` is the variable named `$`, so it vanishes.
    """

    def value(match: re.Match[str]) -> str:
        name, _, default = (match[1] or match[2] or match[3] or "").partition(":")
        return environ.get(name) or default

    return _REFERENCE.sub(value, text)


def _refuse_missing_secrets(path: str, text: str, environ: Mapping[str, str], root: type[Section]) -> None:
    """Raise ConfigError if a secret in a file would be empty because a variable is not set.

    As in Piko, such a variable is empty, and without a secret a port asks for none: a door that somebody meant to lock
    would stand open. Whoever wants that says it by an empty default, `${VAR:}`.
    """
    import yaml

    references = [match[1] or match[2] or match[3] or "" for match in _REFERENCE.finditer(text)]
    for name in dict.fromkeys(references):
        if ":" in name or environ.get(name):
            continue
        try:
            marked = expand(text, {**environ, name: _UNSET})
            node = yaml.compose(marked, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError:
            continue  # it stands where no value can; what is wrong is told when the file is read in earnest
        for key, secret in _secrets(root, node, ""):
            if _UNSET in secret.value:
                place = f"{path}:{secret.start_mark.line + 1}: {key}"
                raise ConfigError(f"{place}: the variable {quoted(name)} is not set; expected the secret in it")


def _secrets(section: type[Section], node: yaml.Node | None, key: str) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """What stands where a file has its secrets, or URLs with a password in them, with their keys."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return
    known = members(section)
    for name, value in node.value:
        member = section if name.value == "<<" else known.get(str(name.value))
        here = key if name.value == "<<" else _join(key, str(name.value))
        if isinstance(member, Leaf):
            for item in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(item, yaml.ScalarNode) and (
                    member.kind.secret or (member.kind.userinfo and "@" in item.value.partition(_UNSET)[2])
                ):
                    yield here, item
        elif isinstance(member, ListOf):
            for item in value.value if isinstance(value, yaml.SequenceNode) else ():
                yield from _secrets(member.section, item, here)
        elif isinstance(member, MapOf):
            for entry, item in value.value if isinstance(value, yaml.MappingNode) else ():
                yield from _secrets(member.section, item, _join(here, str(entry.value)))
        elif member is not None:
            yield from _secrets(member, value, here)


def _pairs(
    path: str, loader: yaml.SafeLoader, node: yaml.MappingNode, key: str
) -> Iterator[tuple[str, int, yaml.Node]]:
    """The names in a mapping, with their lines and what they stand for. Raises ConfigError."""
    import yaml

    seen: dict[str, int] = {}
    for name_node, _ in node.value:
        name, line = str(name_node.value), name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: {key or 'a mapping'}: expected a name for each key")
        if name in seen:
            raise ConfigError(f"{path}:{line}: {_join(key, name)}: already set on line {seen[name]}")
        seen[name] = line
    loader.flatten_mapping(node)  # `<<: *anchor`
    for name_node, value in node.value:
        yield str(name_node.value), name_node.start_mark.line + 1, value


def _join(key: str, name: str) -> str:
    name = name if re.fullmatch(r"[\w-]{1,64}", name) else quoted(name)
    return f"{key}.{name}" if key else name


def _split_list(text: str, origin: str) -> list[str]:
    import csv  # pflag's rule: commas, and quotes around an item that has one

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        raise ConfigError(f"{origin}: {quoted(text)}: expected a list, separated by commas") from None


def _has_escape(node: yaml.Node) -> bool:
    """Whether an escape has become something in there that nobody can have meant, as in "CORP\\alice"."""
    import yaml

    return isinstance(node, yaml.ScalarNode) and node.style == '"' and not str(node.value).isprintable()


def _did_you_mean(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name.replace("-", "_").lower(), known, n=1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
