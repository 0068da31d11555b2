"""TLS of ports and of clients: certificates, keys and authorities, and the contexts made of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
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

    def client_context(self, *, http2: bool = False) -> ssl.SSLContext:
        """What a client needs, also when nothing is configured; anew each time. `http2`: for who speaks nothing else.

        Raises ConfigError.
        """
        import ssl

        context = _usual(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        if http2:
            context.set_alpn_protocols(["h2"])
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


class KeyPair(Section):
    cert: Annotated[FileName, "PEM certificate chain."] = ""
    key: Annotated[FileName, "PEM private key of the certificate."] = ""

    def verify(self) -> None:
        if not self.cert and not self.key:
            raise Defect("cert", "", "missing; expected cert and key")
        import ssl

        _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.cert, self.key)
        if not self.names():
            raise Defect("cert", self.cert, "has no DNS name (subjectAltName), so no client would ever be shown it")

    def names(self) -> list[str]:
        """The DNS names that the certificate is for (RFC 9525 looks at no others), wildcards as they are."""
        from cryptography import x509

        with open(self.cert, "rb") as file:
            try:
                leaf = x509.load_pem_x509_certificate(file.read())
                found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            except (ValueError, x509.ExtensionNotFound):
                return []
        return [name.lower() for name in found.get_values_for_type(x509.DNSName)]


class ServerTLS(Section):
    title: ClassVar[str] = "TLS"
    aside: ClassVar[bool] = True

    cert: Annotated[FileName, "PEM certificate chain; with it and its key, the port speaks TLS."] = ""
    key: Annotated[FileName, "PEM private key of the certificate."] = ""
    client_cas: Annotated[FileName, "PEM file of CAs; clients must then present a certificate of one of them."] = ""
    client: ClientTLS = field(default_factory=ClientTLS)
    certificates: list[KeyPair] = []  # ours: more of them, for who asks for their names

    def verify(self) -> None:
        if self.client_cas and not self.pairs:
            raise Defect("client_cas", self.client_cas, "needs TLS; expected cert and key as well")
        self.server_context()

    @property
    def pairs(self) -> list[KeyPair]:
        """All certificates; the first is for clients that ask for no name, or for one that none of them has."""
        own = [KeyPair(cert=self.cert, key=self.key)] if self.cert or self.key else []
        return own + self.certificates

    @property
    def chains(self) -> list[str]:
        """The files of all certificates."""
        return [pair.cert for pair in self.pairs]

    @property
    def files(self) -> list[str]:
        """All that the context is made of; "" for none."""
        return [*self.chains, *(pair.key for pair in self.pairs), self.client_cas]

    def server_context(self, *, http2: bool = False) -> ssl.SSLContext | None:
        """What the port needs to speak TLS, anew each time; None if it does not. `http2`: it offers HTTP/2 as well.

        Raises ConfigError.
        """
        pairs = self.pairs
        if not pairs:
            return None
        contexts = [self._context_of(pair) for pair in pairs]
        if http2:
            for context in contexts:
                context.set_alpn_protocols(["h2", "http/1.1"])
        if len(pairs) > 1:
            by_name: dict[str, ssl.SSLContext] = {}
            for pair, context in zip(pairs, contexts, strict=True):
                for name in pair.names():
                    by_name.setdefault(name, context)
            contexts[0].sni_callback = partial(_choose, by_name)
        return contexts[0]

    def _context_of(self, pair: KeyPair) -> ssl.SSLContext:
        import ssl

        context = _usual(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        # A client that asks for renegotiation again and again would cost a handshake each time.
        context.options |= ssl.OP_NO_RENEGOTIATION
        _load_pair(context, pair.cert, pair.key)
        if self.client_cas:
            # In each of them: what a client's certificate is verified by goes with the one that is chosen.
            _load_authorities(context, "client_cas", self.client_cas)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _choose(
    by_name: Mapping[str, ssl.SSLContext],
    connection: ssl.SSLObject | ssl.SSLSocket,
    name: str | None,
    _: ssl.SSLContext,
) -> None:
    """Go on with the certificate for the name that a client asks for (RFC 6066, 3), if there is one.

    A name itself comes before a wildcard, which stands for one label (RFC 9525, 6.3).
    """
    asked = (name or "").lower()
    context = by_name.get(asked) or by_name.get(f"*.{asked.partition('.')[2]}")
    if context is not None:
        connection.context = context


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
