"""A certificate for 127.0.0.1 and the authority that signed it, fresh for each topology."""

from pathlib import Path

import msgspec
import trustme


class Certificates(msgspec.Struct, frozen=True):
    """Paths of PEM files; `chain` is the certificate with its issuers, `authority` what clients trust."""

    chain: Path
    key: Path
    authority: Path


def write_certificates(directory: Path) -> Certificates:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    paths = Certificates(directory / "chain.pem", directory / "key.pem", directory / "authority.pem")
    paths.chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(paths.key))
    authority.cert_pem.write_to_path(str(paths.authority))
    return paths
