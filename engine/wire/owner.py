"""Which of several nodes a carrier belongs to, as its requests and the name of its session tell.

Behind one address there may be several nodes, or several workers of one, and a network brings each connection to any of
them. A session is in one of them only. So its name begins with a tag of that node, and the paths of a carrier that is
made of requests have the tag as well: whoever gets such a connection hands it to the owner. Both halves of a new stream
have the same tag, drawn by the client, before any node has one of them: it is the node's for which the hash of both is
the greatest (rendezvous hashing), which all nodes find alike as long as they know the same nodes.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import Final

TAG: Final = rb"[0-9a-f]{8}"
ANY: Final = rb"r?" + TAG
_TAGGED: Final = re.compile(rb"(?:[a-z]+ )?(%b)\.[0-9a-f]{32}(?: .*)?" % TAG, re.DOTALL)


def tag_of(node: str) -> bytes:
    """The tag of the node with this id."""
    return hashlib.sha256(node.encode()).hexdigest()[:8].encode()


def draw() -> bytes:
    """A tag for which an owner is still to be found."""
    return b"r" + secrets.token_hex(4).encode()


def find(tag: bytes, nodes: Iterable[str]) -> str:
    """The owner of what has a drawn tag."""
    return max(nodes, key=lambda node: hashlib.sha256(tag + node.encode()).digest())


def owner_of_session(text: bytes) -> bytes:
    """The tag in a session's name, or in an answer or a wish that has one; empty if there is none."""
    match = _TAGGED.fullmatch(text)
    return match[1] if match else b""
