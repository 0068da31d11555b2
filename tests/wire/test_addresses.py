"""Addresses of IPv4 that are written as ones of IPv6."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from engine.wire.addresses import as_meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("::10.0.0.1", "::a00:1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::1", "::1"),
    ],
)
def test_an_address_of_ipv4_is_one_however_it_is_written(written: str, meant: str) -> None:
    assert as_meant(ip_address(written)) == ip_address(meant)
