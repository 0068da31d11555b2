"""Private authorities: what they issue ends with them, and nothing but their own certificate and key makes one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from engine.auth.authority import AUTHORITY_DAYS, Authority
from engine.errors import ConfigError


def issued(authority: Authority, names: Sequence[str] = (), days: int = 1) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.issue("somebody", names, days=days)[0])


def test_an_authority_that_was_written_and_read_issues_as_it_did() -> None:
    made = Authority.make("test")
    again = Authority(made.certificate, made.key)
    for authority in (made, again):
        issued(authority).verify_directly_issued_by(x509.load_pem_x509_certificate(made.certificate))


def test_who_has_no_names_is_no_server() -> None:
    authority = Authority.make("test")
    for names, server in ((["node.test"], True), ([], False)):
        uses = issued(authority, names).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert (ExtendedKeyUsageOID.SERVER_AUTH in uses) == server
        assert ExtendedKeyUsageOID.CLIENT_AUTH in uses


def test_nothing_outlives_its_authority() -> None:
    authority = Authority.make("test")
    ends = x509.load_pem_x509_certificate(authority.certificate).not_valid_after_utc
    assert issued(authority, days=AUTHORITY_DAYS + 100).not_valid_after_utc == ends
    assert issued(authority, days=1).not_valid_after_utc < datetime.now(UTC) + timedelta(days=1)


def test_what_was_issued_issues_nothing() -> None:
    with pytest.raises(ConfigError, match="not an authority's certificate"):
        Authority(*Authority.make("test").issue("somebody", days=1))


def test_a_certificate_and_a_key_have_to_be_of_each_other() -> None:
    one, other = Authority.make("one"), Authority.make("other")
    with pytest.raises(ConfigError, match="the key is not that of the certificate"):
        Authority(one.certificate, other.key)
    for certificate, key in ((b"", one.key), (one.certificate, b"rubbish"), (one.key, one.certificate)):
        with pytest.raises(ConfigError, match="in PEM") as raised:
            Authority(certificate, key)
        assert "PRIVATE" not in str(raised.value)
