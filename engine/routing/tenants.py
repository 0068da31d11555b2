"""Whose an endpoint is, of the tenants of a node: a name in two tenants is two endpoints.

All that finds an endpoint (the registry, its peers, who owns it, what is counted) does so by its key, which has the
tenant in it. Nobody can write the key of another tenant's endpoint by giving an endpoint a name: names that are
registered, and ids of tenants, have no control characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

SEPARATOR: Final = "\0"
MAX_BYTES: Final = 255
"""Of a tenant's id: its keys stay within what a peer takes (wire.peers.MAX_NAME)."""

_PLACES: Final = ("endpoint", "tenant")


def key(endpoint: str, tenant: str = "") -> str:
    """What `endpoint` of `tenant` (empty: of none) is found by. Of an endpoint without a tenant that is its name."""
    if tenant or SEPARATOR in endpoint:
        return f"{tenant}{SEPARATOR}{endpoint}"
    return endpoint


def split(key: str) -> tuple[str, str]:
    """The endpoint and the tenant of a key."""
    if SEPARATOR not in key:
        return key, ""
    tenant, _, endpoint = key.partition(SEPARATOR)
    return endpoint, tenant


def the_one(named: Sequence[bytes]) -> str:
    """The tenant that a request names, in however many places; empty for none. Raises ValueError for two of them."""
    different = {name.decode("utf-8", "replace") for name in named if name}
    if len(different) > 1:
        raise ValueError("the request names two tenants")
    return different.pop() if different else ""


class HostPattern:
    """Host names that name an endpoint and a tenant, as `{endpoint}.{tenant}.example.com`: each place is one label.

    An empty text fits no host. Raises ValueError for another text that has not both places once.
    """

    def __init__(self, text: str = "") -> None:
        self._text = text
        if not text:
            self._match = re.compile(r"(?!)").fullmatch
            return
        labels = text.split(".")
        wanted = [f"{{{place}}}" for place in _PLACES]
        if any(labels.count(place) != 1 for place in wanted) or not all(
            label in wanted or re.fullmatch(r"[\w-]+", label) for label in labels
        ):
            raise ValueError("expected {endpoint} and {tenant} once, each as a label of its own")
        self._match = re.compile(
            r"\.".join(f"(?P<{label[1:-1]}>[^.]+)" if label in wanted else re.escape(label) for label in labels),
            re.IGNORECASE,
        ).fullmatch

    def wildcard(self, tenant: str) -> str:
        """The hosts of a tenant, as `*.acme.example.com`; empty if the endpoint is not their first label."""
        first, _, rest = self._text.partition(".")
        return f"*.{rest.replace('{tenant}', tenant)}" if first == "{endpoint}" else ""

    def parse(self, host: bytes) -> tuple[str, str] | None:
        """The endpoint and the tenant that a Host names (a port may follow); None if it does not fit."""
        found = self._match(host.partition(b":")[0].decode("utf-8", "replace").removesuffix("."))
        return (found["endpoint"], found["tenant"]) if found is not None else None
