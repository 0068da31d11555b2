"""TLS of ports and of clients: certificates, keys and authorities, and the contexts made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import field

from engine.config.check import Defect, read_named_file
from engine.config.kinds import FileName, Switch, Word
from engine.config.knob import Section

if TYPE_CHECKING:
    import ssl  # imported where it is used, because it costs 20 ms


class TLSClient(Section):
    """What any client may be told about TLS, be it of a node, a service or a proxy."""

    aside: ClassVar[bool] = True

    cert: Annotated[FileName, "PEM client certificate chain, where one is required."] = ""
    key: Annotated[FileName, "PEM private key of the certificate."] = ""
    root_cas: Annotated[FileName, "PEM file of CAs to trust, instead of the system's."] = ""
    insecure_skip_verify: Annotated[Switch, "Do not verify the certificate: insecure."] = False

    def verify(self) -> None:
        if self.cert or self.key or self.root_cas:
            self.client_context()

    @property
    def files(self) -> tuple[str, ...]:
        """All that the context is made of; "" for none."""
        return self.cert, self.key, self.root_cas

    def client_context(self) -> ssl.SSLContext:
        """What a client needs, also when nothing is configured; anew each time. Raises ConfigError."""
        import ssl

        context = _usual(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        # As in Go: whatever stands in root_cas is believed, be it an intermediate authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.root_cas:
            _load_authorities(context, "root_cas", self.root_cas)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif not self.root_cas:
            context.load_default_certs()
        _load_pair(context, self.cert, self.key)
        return context


class ClientTLS(TLSClient):
    """Whoever uses `client_context` passes `server_name`, if there is one, as the host name to expect."""

    title: ClassVar[str] = "TLS as a client"

    # Piko has it between nodes only.
    server_name: Annotated[Word, "Host name expected in the certificate, if not that of the URL."] = ""


class ServerTLS(Section):
    title: ClassVar[str] = "TLS"
    aside: ClassVar[bool] = True

    cert: Annotated[FileName, "PEM certificate chain; with it and its key, the port speaks TLS."] = ""
    key: Annotated[FileName, "PEM private key of the certificate."] = ""
    client_cas: Annotated[FileName, "PEM file of CAs; clients must then present a certificate of one of them."] = ""
    client: ClientTLS = field(default_factory=ClientTLS)

    def verify(self) -> None:
        if self.client_cas and not self.cert:
            raise Defect("client_cas", self.client_cas, "needs TLS; expected cert and key as well")
        self.server_context()

    @property
    def files(self) -> tuple[str, ...]:
        """All that the context is made of; "" for none."""
        return self.cert, self.key, self.client_cas

    def server_context(self) -> ssl.SSLContext | None:
        """What the port needs to speak TLS, anew each time; None if it does not. Raises ConfigError."""
        if not self.cert and not self.key:
            return None
        import ssl

        context = _usual(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        # A client that asks for renegotiation again and again would cost a handshake each time.
        context.options |= ssl.OP_NO_RENEGOTIATION
        _load_pair(context, self.cert, self.key)
        if self.client_cas:
            _load_authorities(context, "client_cas", self.client_cas)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _usual(context: ssl.SSLContext) -> ssl.SSLContext:
    import ssl

    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    if not cert and not key:
        return
    if not key:
        raise Defect("cert", cert, "set without a key; expected key as well")
    if not cert:
        raise Defect("key", key, "set without a certificate; expected cert as well")
    import ssl

    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "cert", cert)  # is it a certificate at all?
    if b"ENCRYPTED" in read_named_file("key", key, "a PEM private key"):
        # OpenSSL would ask for the passphrase on the terminal.
        raise Defect("key", key, "encrypted; expected a private key without a passphrase")
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason is None:
            raise Defect("key", key, "contains no private key; expected a PEM private key") from None
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise Defect("key", key, f"does not match the certificate; expected the key of {cert}") from None
        problem = error.reason.replace("_", " ").lower()
        raise Defect("cert", cert, f"{problem}; expected a certificate that OpenSSL accepts") from None


def _load_authorities(context: ssl.SSLContext, key: str, path: str) -> None:
    import ssl

    read_named_file(key, path, "a file of PEM certificates")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise Defect(key, path, "contains no certificate; expected a file of PEM certificates") from None
