"""What somebody needs to speak TLS follows its files, and keeps what it had while they do not fit."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from engine.auth.authority import Authority
from engine.errors import ConfigError
from engine.loop import certificates
from engine.loop.certificates import Certificates


class Maker:
    """Makes contexts as long as the file has something in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made: list[ssl.SSLContext] = []

    def __call__(self) -> ssl.SSLContext:
        if not self.path.exists() or not self.path.read_text():
            raise ConfigError("nothing in it")
        self.made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return self.made[-1]


def test_a_context_is_made_anew_when_a_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("one")
    make = Maker(path)
    tls = Certificates("x", [str(path), ""], make)
    for _ in range(3):
        assert certificates.now(tls) is make.made[0]
    path.write_text("three")
    assert certificates.now(tls) is make.made[1]
    path.unlink()
    assert certificates.now(tls) is make.made[1]
    path.write_text("")
    assert certificates.now(tls) is make.made[1]
    path.write_text("four!")
    assert certificates.now(tls) is make.made[2]
    assert len(make.made) == 3


def test_who_names_no_file_or_speaks_no_tls_never_looks(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("one")
    make = Maker(path)
    tls = Certificates("x", ["", ""], make)
    path.write_text("two")
    assert certificates.now(tls) is tls.context is make.made[0]
    none = Certificates("x", [str(path)], lambda: None)
    path.write_text("three")
    assert certificates.now(none) is None
    assert certificates.now(None) is None
    context = ssl.create_default_context()
    assert certificates.now(context) is context


def test_a_chain_ends_with_its_first_certificate_and_authorities_with_the_next_of_theirs(tmp_path: Path) -> None:
    authority, path = Authority.make("test"), tmp_path / "several.pem"
    ended, soon, late = (authority.issue("node", days=days)[0] for days in (0, 20, 300))

    def days_left(*certificates: bytes) -> list[int]:
        path.write_bytes(b"".join(certificates))
        tls = Certificates("admin.tls", [str(path)], lambda: None, chains=[str(path)], authorities=[str(path)])
        assert {expiry[:2] for expiry in tls.expiries()} == {("admin", str(path))}
        return [round((expiry.at - time.time()) / 86400) for expiry in tls.expiries()]

    assert days_left(late, ended, soon) == [0, 20]
    assert days_left(late) == [300, 300]
    assert days_left(ended) == [0, 0]
