"""Tags of owners: alike for all nodes, found in whatever names a session, and absent where there is one node."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import owner, posts, resumption
from engine.wire.resumption import New, Opened, Resume

ID = b"0123456789abcdef" * 2
TAG = owner.tag_of("node-1")


def test_a_sessions_name_tells_its_node() -> None:
    name = TAG + b"." + ID
    for text in (Opened(name, 30).encode(), Resume(name, 1, 5).encode(), name):
        assert owner.owner_of_session(text) == TAG
    assert resumption.parse_answer(Opened(name, 30).encode()) == Opened(name, 30)
    assert resumption.parse_wish(Resume(name, 1, 5).encode()) == Resume(name, 1, 5)


def test_a_node_that_is_alone_has_no_tags() -> None:
    for text in (Opened(ID, 30).encode(), Resume(ID, 1, 5).encode(), New(30).encode(), b"", b"nonsense"):
        assert owner.owner_of_session(text) == b""


@given(st.text(min_size=1, max_size=20).filter(lambda text: "/" not in text))
def test_a_path_has_the_tag_that_it_was_made_with(endpoint: str) -> None:
    for tag in (b"", TAG, owner.draw()):
        target = posts.path(posts.UPSTREAM_PATH, endpoint, tag).encode()
        assert posts.tag_of(target) == tag
        assert posts.endpoint_of(target, posts.UPSTREAM_PATH) == endpoint


@pytest.mark.parametrize("target", [b"/", b"/trioduct/v1/upstream/web/xyz.0", b"/trioduct/v1/upstream/web/00.0"])
def test_other_targets_have_none(target: bytes) -> None:
    assert posts.tag_of(target) == b""


def test_all_nodes_find_the_same_owner_and_each_gets_its_share() -> None:
    nodes = ["a", "b", "c"]
    found = Counter(owner.find(tag, nodes) for tag in (owner.draw() for _ in range(600)))
    assert all(120 < found[node] < 280 for node in nodes)
    tag = owner.draw()
    assert owner.find(tag, nodes) == owner.find(tag, reversed(nodes))
