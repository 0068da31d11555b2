"""What somebody needs to speak TLS follows its files, and keeps what it had while they do not fit."""

from __future__ import annotations

import ssl
from pathlib import Path

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
