"""Private authorities, and what they issue: a certificate and a key for each end of mutual TLS (RFC 5280).

Nodes, agents and clients have an authority each, so that a client's certificate opens no agent's port, and no agent's
passes for a node. Keys are ECDSA over P-256.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from engine.errors import ConfigError

if TYPE_CHECKING:  # it takes 100 ms to import
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_DAYS: Final = 3650
BACKDATED: Final = timedelta(hours=1)  # for machines whose clocks are late

Pair = tuple[bytes, bytes]
"""A certificate and its private key, both in PEM."""


class Authority:
    """What issues certificates. `certificate` and `key` are its own, in PEM."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Raises ConfigError if they are no authority's, or not of each other."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            loaded = load_pem_private_key(key, None)
            constraints = self._certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (ValueError, TypeError, x509.ExtensionNotFound):
            raise ConfigError(
                "not the certificate and the key of an authority, in PEM and without a passphrase"
            ) from None
        if not isinstance(loaded, EllipticCurvePrivateKey) or self._certificate.public_key() != loaded.public_key():
            raise ConfigError("the key is not that of the certificate")
        if not constraints.ca:
            raise ConfigError("not an authority's certificate")
        if self._certificate.not_valid_after_utc <= datetime.now(UTC):
            raise ConfigError(f"the authority has expired on {self._certificate.not_valid_after_utc:%Y-%m-%d}")
        self._key = loaded
        self.certificate, self.key = certificate, key

    @classmethod
    def make(cls, name: str) -> Authority:
        """A new one, which is valid for AUTHORITY_DAYS and issues no further authorities."""
        from cryptography import x509

        key = _new_key()
        called, until = _called(name), datetime.now(UTC) + timedelta(days=AUTHORITY_DAYS)
        builder = (
            _begun(called, called, key, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(issues=True), critical=True)
        )
        return cls(*_signed(builder, key, key))

    def issue(self, name: str, names: Sequence[str] = (), *, days: int) -> Pair:
        """A certificate for `days`, or until the authority itself ends.

        With `names` (hosts, also `*.example.com`, and IP addresses) it is a server's that dials others as well;
        without, it is a client's alone.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

        key = _new_key()
        until = min(datetime.now(UTC) + timedelta(days=days), self._certificate.not_valid_after_utc)
        subject = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        purposes = [*([Purpose.SERVER_AUTH] if names else []), Purpose.CLIENT_AUTH]
        builder = (
            _begun(_called(name), self._certificate.subject, key, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(issues=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        return _signed(builder, key, self._key)


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _called(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, until: datetime
) -> x509.CertificateBuilder:
    from cryptography import x509

    public = key.public_key()
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey, signing: EllipticCurvePrivateKey) -> Pair:
    """The certificate of `key`, signed with `signing`, and `key`."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(signing, SHA256()).public_bytes(Encoding.PEM), private


def _usage(*, issues: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not issues,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
