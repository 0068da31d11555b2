"""Piko's paths and names: what is made of an endpoint is read as the same endpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire import http1, piko

READERS = {
    piko.upstream_path: piko.endpoint_of_upstream_path,
    piko.tcp_path: piko.endpoint_of_tcp_path,
}


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_the_path_of_an_endpoint_names_that_endpoint_to_every_reader(endpoint: str) -> None:
    for path_of, endpoint_of in READERS.items():
        target = path_of(endpoint).encode("ascii")
        assert endpoint_of(target) == endpoint
        assert endpoint_of(target + b"?a=b/c") == endpoint
        head = http1.encode_request(b"GET", target, [(b"Host", b"a.b")])
        assert http1.parse_request(head).target == target


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        (b"/piko/v1/upstream/web", "web"),
        (b"/piko/v1/upstream/web?x=/y", "web"),
        (b"/piko/v1/upstream/a%2Fb", "a/b"),
        (b"/piko/v1/upstream/h%C3%A4user", "häuser"),
        (b"/piko/v1/upstream/%ff", "\ufffd"),
        (b"/piko/v1/upstream/", None),
        (b"/piko/v1/upstream/?x", None),
        (b"/piko/v1/upstream/a/b", None),
        (b"/piko/v1/upstream/a/", None),
        (b"/piko/v1/upstream", None),
        (b"/Piko/v1/upstream/a", None),
        (b"/x/piko/v1/upstream/a", None),
        (b"/_piko/v1/tcp/a", None),
        (b"*", None),
    ],
)
def test_a_path_names_an_endpoint_by_its_one_last_segment(target: bytes, endpoint: str | None) -> None:
    assert piko.endpoint_of_upstream_path(target) == endpoint
    assert piko.endpoint_of_tcp_path(target.replace(b"/piko/v1/upstream", b"/_piko/v1/tcp", 1)) == (
        "a" if target == b"/_piko/v1/tcp/a" else endpoint
    )


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        (b"web.test", "web"),
        (b"web.test:8000", "web"),
        (b"web.a.long.name.test", "web"),
        (b"example.com", "example"),
        (b"web.", "web"),
        (b"10.test", "10"),
        (b"10.0.0.999", "10"),
        (b"127.0.0.1", ""),
        (b"127.0.0.1:8000", ""),
        (b"[::1]", ""),
        (b"[2001:db8::1.2.3.4]:8000", ""),
        (b"localhost", ""),
        (b"localhost:8000", ""),
        (b".test", ""),
        (b"", ""),
    ],
)
def test_a_host_names_an_endpoint_by_its_first_label_unless_it_is_an_address(host: bytes, endpoint: str) -> None:
    assert piko.endpoint_of_host(host) == endpoint


def test_only_credentials_that_there_are_are_shown() -> None:
    assert piko.credentials("", "") == []
    assert piko.credentials("t", "") == [(b"Authorization", b"Bearer t")]
    assert piko.credentials("t", "acme") == [(b"Authorization", b"Bearer t"), (b"x-piko-tenant-id", b"acme")]


def test_names_of_fields_are_in_lower_case_as_they_are_compared() -> None:
    for name in (piko.ENDPOINT, piko.AUTHORIZATION, piko.TENANT_ID, piko.FORWARD):
        assert name.islower()
        assert name.startswith(piko.PREFIX)
    assert piko.HALF_CLOSE.islower()


@pytest.mark.parametrize(
    ("path", "status", "said", "what"),
    [
        (piko.upstream_path("a"), 400, '{"error":"missing endpoint id"}', "that is a node's proxy port"),
        (piko.upstream_path("a"), 502, '{"error":"no available upstreams"}', "that is a node's proxy port"),
        (piko.upstream_path("a"), 404, "not found", "that is no upstream port"),
        (piko.tcp_path("a"), 404, "not found", "that is no proxy port"),
        (piko.upstream_path("a"), 401, '{"error":"invalid token"}', None),
        (piko.tcp_path("a"), 502, '{"error":"no available upstreams"}', None),
        ("/status", 404, "not found", None),
    ],
)
def test_an_answer_tells_which_port_has_been_asked(path: str, status: int, said: str, what: str | None) -> None:
    wrong = piko.wrong_port(path, status, said)
    assert (wrong is None) == (what is None)
    assert wrong is None or what is None or wrong[0].startswith(what)
