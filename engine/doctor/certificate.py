"""What a certificate says of the way: whose it is, who issued it, and whether that looks like TLS inspection.

Nobody can prove an inspection from a certificate alone; what is here is what a network's own people would look at:
the names of the products that do it, and authorities that somebody has added to this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from engine.log import printable

_PRODUCTS: Final = re.compile(
    r"zscaler|netskope|palo ?alto|forti(?:gate|net|proxy)|blue ?coat|symantec web|cisco umbrella|opendns|check ?point"
    r"|forcepoint|websense|sophos|watchguard|barracuda|skyhigh|mcafee web|iboss|menlo|cato networks|kaspersky|eset ssl"
    r"|avast|bitdefender|mitm|squid|inspection|intercept|web gateway|fiddler|charles proxy|burp|privoxy",
    re.IGNORECASE,
)
# Where authorities are put that are not the distribution's: Debian and Alpine, Red Hat, SUSE, Arch.
ADDED: Final = (
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/pki/trust/anchors",
    "/etc/ca-certificates/trust-source/anchors",
)


class Certificate(NamedTuple):
    """The leaf that the other end showed."""

    issuer: str
    subject: str  # what it is for: its names, or what else it says of itself
    sha256: str
    issuer_name: bytes  # its DER, to be compared
    valid: str  # from when until when

    @property
    def inspector(self) -> str:
        """Why it looks like a TLS inspection's, or nothing."""
        if match := _PRODUCTS.search(self.issuer):
            return f"the issuer's name has {match[0]!r} in it"
        return f"its issuer was added to this machine: {path}" if (path := self.added) else ""

    @property
    def added(self) -> Path | None:
        """The file on this machine that holds its issuer, among the authorities that somebody added."""
        return next((path for path, name in added_authorities() if name == self.issuer_name), None)

    @classmethod
    def read(cls, der: bytes | None) -> Certificate | None:
        """None for what cannot be read: it is looked at before anybody has verified it."""
        try:
            leaf = x509.load_der_x509_certificate(der or b"")
            issuer, subject = _called(leaf.issuer), _names(leaf) or _called(leaf.subject)
        except ValueError:
            return None
        from hashlib import sha256

        valid = f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        return cls(issuer, subject, sha256(der or b"").hexdigest(), leaf.issuer.public_bytes(), valid)


def added_authorities(folders: Sequence[str] = ()) -> Iterator[tuple[Path, bytes]]:
    """The authorities that somebody added to this machine, as (file, name)."""
    for folder in folders or ADDED:
        for path in sorted(Path(folder).rglob("*")) if Path(folder).is_dir() else ():
            try:
                for authority in x509.load_pem_x509_certificates(path.read_bytes()):
                    yield path, authority.subject.public_bytes()
            except (OSError, ValueError):
                continue


def _names(leaf: x509.Certificate) -> str:
    """The first few of the names that it is for (RFC 9525 looks at no others)."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    return printable(", ".join([*names[:3], *(["…"] if len(names) > 3 else [])]))


def _called(name: x509.Name) -> str:
    found = [
        str(part.value)
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
        for part in name.get_attributes_for_oid(oid)
    ]
    return printable(", ".join(found) or name.rfc4514_string())
