"""Which endpoint a domain is: by the node's configuration, or because an agent that may has claimed it.

    shop.example.com        that host
    *.shop.example.com      any host with one label more, unless it is there itself

Domains are in lower case, and of A-labels. An endpoint is known by its key (see routing.tenants).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager


class Taken(Exception):
    """A domain is another endpoint's."""


class Domains:
    """`fixed` are those of the configuration. `changes` counts, to see that something moved."""

    def __init__(self, fixed: Mapping[str, str] | None = None) -> None:
        self.changes = 0
        self._fixed = dict(fixed or {})
        self._keys = dict(self._fixed)
        self._claims: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, host: bytes) -> str | None:
        """The key of the endpoint that a Host means, which may have a port; None if it is none of the domains."""
        name = host.partition(b":")[0].decode("latin-1").lower().removesuffix(".")
        key = self._keys.get(name)
        return key if key is not None else self._keys.get(wildcard_of(name))

    def check(self, names: Collection[str], key: str) -> None:
        """Raises Taken for one that is another's."""
        for name in names:
            if self._keys.get(name, key) != key:
                raise Taken(f"the domain {name} is another endpoint's")

    @contextmanager
    def claim(self, names: Collection[str], key: str) -> Iterator[None]:
        """Within the context they are this endpoint's, too. Raises Taken."""
        self.check(names, key)
        self.changes += bool(names)
        for name in names:
            self._keys[name] = key
            self._claims[name] += 1
        try:
            yield
        finally:
            self.changes += bool(names)
            for name in names:
                self._claims[name] -= 1
                if not self._claims[name]:
                    del self._claims[name]
                    if name not in self._fixed:
                        del self._keys[name]


def wildcard_of(name: str) -> str:
    """`*.example.com` for `shop.example.com`."""
    return f"*.{name.partition('.')[2]}"


def permits(permitted: Collection[str], name: str) -> bool:
    """Whether who may claim these may claim `name`: it is one of them, or one label below `*.` of them."""
    return name in permitted or (name[:2] != "*." and wildcard_of(name) in permitted)
