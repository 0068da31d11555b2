"""TLS as bytes in, plaintext out ("BioTLS"), and its failures in words.

An SSLObject reads ciphertext from one MemoryBIO and writes it to another; nobody waits inside. So one layer
stacks on another (TLS to the destination through TLS to the proxy), and whoever owns the socket may drive
both with plain non-blocking reads. trio.SSLStream answers every record (16 KiB) with a call, a lock and a
checkpoint; draining the object in a loop costs half of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import sys
from typing import Any

from proxy_adapters.errors import PROXY_ADMIN, TARGET_ADMIN, YOU, HopTLSError
from proxy_adapters.handshake import printable

# What one read returns at most (RFC 8446, 5.1). Room for 256 KiB, which Python allocates each time and then shrinks,
# took two to three times the processor time of all of the receiving.
_RECORD_BYTES = 16384


def default_context() -> ssl.SSLContext:
    """Trust what the system trusts: where IT departments install their inspection CA, that is its own
    store.
    """
    if sys.platform in ("win32", "darwin"):
        with contextlib.suppress(ImportError):
            import truststore

            return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return ssl.create_default_context()


def default_proxy_context() -> ssl.SSLContext:
    """As `default_context`, and says that it speaks HTTP/1.1: a proxy that is offered nothing else stays
    with it.
    """
    context = default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class TLSLayer:
    """One layer: `object` between `incoming` (ciphertext from below) and `outgoing` (ciphertext for below).

    Whoever takes a tunnel over may drive the three parts itself. `strict`: the end of the bytes without a
    close_notify is a truncation, not an end. `ended`: close_notify has come.
    """

    __slots__ = ("ended", "incoming", "object", "outgoing", "strict")

    def __init__(
        self,
        object_: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        strict: bool = False,
    ) -> None:
        self.object = object_
        self.incoming = incoming
        self.outgoing = outgoing
        self.strict = strict
        self.ended = False

    @classmethod
    def over(cls, context: ssl.SSLContext, server_hostname: str, *, strict: bool = False) -> TLSLayer:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(
            context.wrap_bio(incoming, outgoing, server_hostname=server_hostname),
            incoming,
            outgoing,
            strict=strict,
        )

    def handshake(self, ciphertext: bytes) -> bool:
        """Go on with the handshake; True when it is done. `encrypt(b"")` has what is to be sent, also after
        an ssl.SSLError (an alert).
        """
        self.incoming.write(ciphertext)
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, plaintext: bytes | bytearray | memoryview) -> bytes:
        """The records for `plaintext`, and before them whatever TLS itself has to say (key updates,
        alerts).
        """
        if plaintext:
            self.object.write(plaintext)  # over a MemoryBIO it always takes everything
        return self.outgoing.read()

    def decrypt(self, ciphertext: bytes) -> bytes:
        """All plaintext that is there by now; sets `ended` at close_notify. Raises ssl.SSLError."""
        if ciphertext:
            self.incoming.write(ciphertext)
        parts = []
        try:
            while part := self.object.read(_RECORD_BYTES):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(parts)

    def close(self) -> bytes:
        """The close_notify to send. The other direction stays open (RFC 8446, 6.1)."""
        with contextlib.suppress(ssl.SSLError):  # its answer is not there yet, and nobody waits for it
            self.object.unwrap()
        return self.outgoing.read()


def check_peer(layer: TLSLayer, *, pin: str | None = None) -> None:
    """After the handshake with a proxy: the pin (SHA-256 of the certificate, hex), and that it chose
    HTTP/1.1.
    """
    if pin is not None:
        certificate = layer.object.getpeercert(binary_form=True) or b""
        found = hashlib.sha256(certificate).hexdigest()
        if found != pin.replace(":", "").lower():
            raise HopTLSError(f"its certificate is not the pinned one: its SHA-256 is {found}", who=YOU)
    if (protocol := layer.object.selected_alpn_protocol()) not in (None, "http/1.1", "http/1.0"):
        raise HopTLSError(
            f"it chose {protocol!r} by ALPN",
            advice='let the TLS context for proxies offer "http/1.1" only',
            who=YOU,
        )


def explain(error: ssl.SSLError, layer: TLSLayer | None, host: str, *, to_proxy: bool) -> HopTLSError:
    """A failure of TLS with `host`, a proxy or the destination, as a sentence, with who must act and what to try."""
    admin = PROXY_ADMIN if to_proxy else TARGET_ADMIN
    if isinstance(error, ssl.SSLCertVerificationError):
        names = _certificate_names(layer)
        who, advice = admin, ""
        match error.verify_code:
            case 10:
                fact = "its certificate has expired (or the clock of this machine is wrong)"
            case 9:
                fact = "its certificate is not valid yet (or the clock of this machine is wrong)"
            case 62 | 64:
                fact = f"its certificate is for another name than {host}"
                advice = "is the host name right? An address needs a certificate for the address"
            case 18 | 19 | 20 | 21:
                fact = f"its certificate is not issued by anyone we trust{names}"
                advice = "if it is your company's (inspection) CA, trust it here, or ask for an exemption"
                who = YOU
            case _:
                fact = f"its certificate was not accepted: {error.verify_message}{names}"
        return HopTLSError(fact, advice=advice, who=who)
    reason = (error.reason or str(error)).upper().replace(" ", "_")
    if "CERTIFICATE_REQUIRED" in reason or reason.endswith(("ALERT_BAD_CERTIFICATE", "ALERT_HANDSHAKE_FAILURE")):
        sure = "CERTIFICATE_REQUIRED" in reason
        return HopTLSError(
            "it requires a client certificate"
            if sure
            else f"it ended the handshake ({reason}): maybe it requires a client certificate",
            advice="load one into its TLS context",
        )
    if "UNKNOWN_CA" in reason or "CERTIFICATE_UNKNOWN" in reason or "ALERT_CERTIFICATE_EXPIRED" in reason:
        return HopTLSError(f"it does not accept our client certificate ({reason})")
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"):
        advice = "use http:// in the proxy URL, or another port" if to_proxy else "is TLS right for it, and the port?"
        return HopTLSError("it speaks no TLS on this port", advice=advice)
    if "PROTOCOL_VERSION" in reason or reason in ("UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"):
        return HopTLSError(
            "no TLS version in common",
            advice="ask for TLS 1.2 or newer there",
            who=admin,
        )
    return HopTLSError(f"TLS failed: {error.reason or error}")


def _certificate_names(layer: TLSLayer | None) -> str:
    """Who issued the certificate that was refused, if this Python can tell (public from 3.13 on)."""
    sslobject: Any = getattr(layer and layer.object, "_sslobj", None)
    with contextlib.suppress(Exception):  # only for the message: never a new failure
        info = sslobject.get_unverified_chain()[0].get_info()
        issuer = {key: value for entry in info["issuer"] for key, value in entry}
        name = issuer.get("commonName") or issuer.get("organizationName") or str(issuer)
        return f" (issuer: {printable(name.encode())})"
    return ""
