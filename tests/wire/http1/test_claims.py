"""What somebody in front says about a client is known for that, by any of its names."""

from __future__ import annotations

import pytest

from engine.wire.http1.claims import NAMES, is_claim
from tests.wire.http1.heads import request

CLAIMS = (
    b"Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Port X-Forwarded-Prefix"
    b" X-Forwarded-Server X-Forwarded-User X-Real-IP True-Client-IP X-Client-IP CF-Connecting-IP X-Original-URL"
    b" X-Rewrite-URL X-Remote-User SSL-Client-Verify Client-Cert"
).split()


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_a_node_s_to_look_at_however_it_is_spelled(name: bytes) -> None:
    assert is_claim(name.lower())
    for spelled in (name, name.lower(), name.upper()):
        assert [mark[0] for mark in request(spelled + b": 1").for_node] == [name.lower()]


@pytest.mark.parametrize("name", b"host cookie x-request-id via traceparent x-forward user-agent x-real".split())
def test_other_fields_are_none(name: bytes) -> None:
    assert not is_claim(name)


def test_the_names_are_in_lower_case_and_have_no_twins() -> None:
    assert all(name == name.lower() and b"_" not in name for name in NAMES)
