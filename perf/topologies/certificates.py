"""A certificate for 127.0.0.1 and the authority that signed it, fresh for each topology: its node shows it, and its
https proxy.
"""

from pathlib import Path

import msgspec
import trustme


class Certificates(msgspec.Struct, frozen=True):
    """Paths of PEM files; `chain` is the certificate with its issuers, `authority` what clients trust."""

    chain: Path
    key: Path
    authority: Path


def write_certificates(directory: Path) -> Certificates:
    """Those of a directory, which are written the first time."""
    paths = Certificates(directory / "chain.pem", directory / "key.pem", directory / "authority.pem")
    if paths.authority.exists():
        return paths
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    paths.chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(paths.key))
    authority.cert_pem.write_to_path(str(paths.authority))
    return paths
