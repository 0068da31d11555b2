"""Networks: what is in them, however it is written."""

from __future__ import annotations

import pytest

from engine.auth.networks import Networks


@pytest.mark.parametrize(
    ("networks", "address", "found"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:a01:203", True),
        (["10.0.0.1"], "10.0.0.1", True),
        (["::ffff:10.0.0.0/104"], "10.1.2.3", True),
        (["::ffff:10.0.0.0/104"], "11.1.2.3", False),
        (["::ffff:10.0.0.1"], "::ffff:10.0.0.1", True),
        (["2001:db8::/32"], "2001:db8:1::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:db8::/32"], "10.0.0.1", False),
        (["::/0"], "10.0.0.1", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["0.0.0.0/0"], "::ffff:1.2.3.4", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["192.0.2.1", "10.0.0.0/8"], "10.0.0.1", True),
        ([], "10.0.0.1", False),
        (["10.0.0.0/8"], "somebody", None),
        (["10.0.0.0/8"], "", None),
        (["10.0.0.0/8"], "010.0.0.1", None),
    ],
)
def test_an_address_is_in_a_network_or_not(networks: list[str], address: str, found: bool | None) -> None:
    assert Networks(networks).find(address) is found


@pytest.mark.parametrize("network", ["", "10.0.0.1/8", "10.0.0.0/33", "example.com", "10.0.0"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"network|appear|host bits"):
        Networks([network])


def test_no_network_is_false() -> None:
    assert not Networks()
    assert Networks(["::/0"])
