"""What the micro-benchmarks do to heads is what node and agent do."""

import pytest

from engine.wire.http1 import summary
from perf.micro.heads import ANSWER, REQUEST, agents_request, answer, benchmarks, nodes_request

HEADS = {benchmark.name.removeprefix("heads-"): benchmark for benchmark in benchmarks()}


def names(head: bytes) -> set[bytes]:
    return {line.partition(b":")[0] for line in head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]}


def test_a_request_goes_on_as_a_browsers_does() -> None:
    assert len(names(REQUEST)) >= 12
    told = nodes_request()(memoryview(REQUEST))
    assert told[0] == summary.MARK
    to_agent = told[summary.SIZE :]
    added = {b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto"}
    assert names(to_agent) == names(REQUEST) - {b"x-piko-endpoint"} | added
    assert agents_request()(memoryview(told)) == to_agent


def test_an_answer_goes_on_without_what_ends_at_the_hop() -> None:
    to_node = answer()(memoryview(ANSWER))
    assert names(to_node) == names(ANSWER) - {b"Connection"}
    assert answer()(memoryview(to_node)) == to_node


@pytest.mark.parametrize("name", HEADS)
def test_no_two_heads_of_a_crowd_are_alike_and_equal_ones_are_equal(name: str) -> None:
    run = HEADS[name].prepare()
    heads = {run() for _ in range(50)}
    assert len(heads) == (1 if name.endswith("-equal") else 50)
    assert not any(b"@" in head for head in heads if isinstance(head, bytes))
