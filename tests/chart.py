"""Renders deploy/helm where there is no helm: the part of its template language that the chart uses.

Stricter than helm: a value that values.yaml does not have is an error. `tests/test_chart.py` compares the two where
helm is installed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_ACTION = re.compile(r"(\s*)\{\{-\s*(.*?)\s*(-?)\}\}|\{\{\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_WORD = re.compile(r'"(?:\\.|[^"\\])*"|[()|]|[^\s()|]+')

Node = tuple[Any, ...]  # ("text", str), ("say", words), ("if" | "with", words, nodes, nodes)


class Missing(Exception):
    """What `required` asks for."""


class Chart:
    def __init__(self, folder: Path) -> None:
        self.about: Mapping[str, Any] = yaml.safe_load((folder / "Chart.yaml").read_text())
        self.values: Mapping[str, Any] = yaml.safe_load((folder / "values.yaml").read_text())
        self._named: dict[str, list[Node]] = {}
        paths = sorted((folder / "templates").iterdir())
        self._templates = [self._parse(path.read_text()) for path in paths]

    def render(self, release: str, values: Mapping[str, Any], namespace: str = "default") -> list[dict[str, Any]]:
        """The manifests. Raises Missing."""
        root = {
            "Values": _merged(self.values, values),
            "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"},
            "Chart": {name[0].upper() + name[1:]: value for name, value in self.about.items()},
        }
        said = [self._say(template, root, root) for template in self._templates]
        return [one for text in said for one in yaml.safe_load_all(text) if one]

    # -- reading

    def _parse(self, text: str) -> list[Node]:
        nodes, rest = self._block(_tokens(text))
        assert rest == "", rest
        return nodes

    def _block(self, tokens: Iterator[tuple[bool, str]]) -> tuple[list[Node], str]:
        """Up to the `end` or `else` of the block; returns which."""
        nodes: list[Node] = []
        for is_action, text in tokens:
            if not is_action:
                nodes.append(("text", text))
                continue
            word, _, rest = text.partition(" ")
            if word in ("end", "else"):
                return nodes, text
            if word in ("if", "with"):
                inner, ended = self._block(tokens)
                otherwise = self._block(tokens)[0] if ended == "else" else []
                nodes.append((word, _WORD.findall(rest), inner, otherwise))
            elif word == "define":
                self._named[json.loads(rest)] = self._block(tokens)[0]
            else:
                nodes.append(("say", _WORD.findall(text)))
        return nodes, ""

    # -- saying

    def _say(self, nodes: list[Node], dot: Any, root: Mapping[str, Any]) -> str:
        said = []
        for kind, what, *inner in nodes:
            if kind == "text":
                said.append(what)
                continue
            value = self._value(what, dot, root)
            if kind == "say":
                said.append(_text(value))
            else:
                said.append(
                    self._say(inner[0] if value else inner[1], value if kind == "with" and value else dot, root)
                )
        return "".join(said)

    def _value(self, words: list[str], dot: Any, root: Mapping[str, Any]) -> Any:
        """Of a pipeline."""
        piped: list[Any] = []
        for call in _split(words):
            name, *terms = call
            arguments = [self._term(term, dot, root) for term in terms] + piped
            if name == "include":
                value: Any = self._say(self._named[arguments[0]], arguments[1], root)
            elif isinstance(name, str) and name in FUNCTIONS:
                value = FUNCTIONS[name](*arguments)
            else:
                assert not arguments, f"{name} is no function that the tests know"
                value = self._term(name, dot, root)
            piped = [value]
        return piped[0]

    def _term(self, term: str | list[str], dot: Any, root: Mapping[str, Any]) -> Any:
        if isinstance(term, list):
            return self._value(term, dot, root)
        if term.startswith('"'):
            return json.loads(term)
        if term.isdecimal():
            return int(term)
        start, *names = term.split(".")
        assert start in ("", "$"), f"{term} is no term that the tests know"
        value = root if start else dot
        for name in filter(None, names):
            value = value[name]
        return value


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """Texts, and actions (True), with white space trimmed as the dashes say."""
    at, trim = 0, False
    for match in _ACTION.finditer(text):
        left, trimmed, dash, plain, plain_dash = match.groups()
        before = text[at : match.start()]
        yield False, before.lstrip() if trim else before
        yield True, trimmed if left is not None else plain
        at, trim = match.end(), bool(dash or plain_dash)
    yield False, text[at:].lstrip() if trim else text[at:]


def _split(words: list[str]) -> list[list[Any]]:
    """A pipeline's calls; what stands in parentheses is a list in them."""
    calls: list[list[Any]] = [[]]
    depth = 0
    inner: list[str] = []
    for word in words:
        if word == "(":
            depth += 1
            if depth == 1:
                inner = []
                continue
        elif word == ")":
            depth -= 1
            if depth == 0:
                calls[-1].append(inner)
                continue
        if depth:
            inner.append(word)
        elif word == "|":
            calls.append([])
        else:
            calls[-1].append(word)
    return calls


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=False).removesuffix("\n").removesuffix("\n...")


def _required(problem: str, value: Any) -> Any:
    if not value:
        raise Missing(problem)
    return value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *numbers: sum(numbers),
    "default": lambda usual, value: value or usual,
    "nindent": lambda number, text: "".join(f"\n{' ' * number}{line}" for line in text.split("\n")),
    "not": lambda value: not value,
    "quote": lambda value: json.dumps(_text(value)),
    "required": _required,
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toYaml": _yaml,
}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(below))
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
