"""The tokens (JWT) that a port asks for, and the keys to verify them with."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import unquote, urlsplit

from msgspec import field

from engine.config.check import Defect, read_named_file, read_secret_file
from engine.config.kinds import FileName, KeySetURL, SecondsOrDefault, Secret, Switch, Text
from engine.config.knob import Section
from engine.config.mask import MASK
from engine.errors import ConfigError

NAMES = ("hmac_secret_key", "rsa_public_key", "ecdsa_public_key")


class JWKSConfig(Section):
    endpoint: Annotated[KeySetURL, "URL of a JSON Web Key Set to verify tokens with, instead of single keys."] = ""
    cache_ttl: Annotated[SecondsOrDefault, "How long a key set is cached."] = 3600.0
    timeout: Annotated[SecondsOrDefault, "Timeout for fetching the key set."] = 60.0

    def verify(self) -> None:
        if self.endpoint.lower().startswith("file:"):
            read_named_file("endpoint", unquote(urlsplit(self.endpoint).path), "a file with a JSON Web Key Set")


class AuthConfig(Section):
    title: ClassVar[str] = "Authentication by tokens (JWT), required as soon as there is a key to verify them"
    aside: ClassVar[bool] = True

    hmac_secret_key: Annotated[Secret, "Secret that HS256, HS384 and HS512 tokens are signed with."] = ""
    rsa_public_key: Annotated[Text, "Public key (the PEM text itself) of RS256, RS384 and RS512 tokens."] = ""
    ecdsa_public_key: Annotated[Text, "Public key (the PEM text itself) of ES256, ES384 and ES512 tokens."] = ""
    # The next three are ours; they are read again when the file changes.
    hmac_secret_key_file: Annotated[FileName, "File with the secret, which only its owner may read."] = ""
    rsa_public_key_file: Annotated[FileName, "File with the RSA key, in PEM."] = ""
    ecdsa_public_key_file: Annotated[FileName, "File with the EC key, in PEM."] = ""
    # Ours as well, and read again when it changes.
    revoked_file: Annotated[FileName, "File with the `jti` of revoked tokens, one on each line."] = ""
    audience: Annotated[Text, "Required `aud` claim; empty: not checked."] = ""
    issuer: Annotated[Text, "Required `iss` claim; empty: not checked."] = ""
    disable_disconnect_on_expiry: Annotated[Switch, "Keep a session when its token expires."] = False
    jwks: JWKSConfig = field(default_factory=JWKSConfig)

    @property
    def enabled(self) -> bool:
        """Whether there is anything to verify a token with, so that one is asked for."""
        return bool(self.jwks.endpoint) or any(getattr(self, name) or getattr(self, f"{name}_file") for name in NAMES)

    @property
    def files(self) -> list[str]:
        """The files that have keys."""
        return [path for name in NAMES if (path := getattr(self, f"{name}_file"))]

    def keys(self) -> dict[str, str]:
        """The keys, as Verifier takes them; those of files are read anew. Raises Defect."""
        keys: dict[str, str] = {}
        for name in NAMES:
            key, path = getattr(self, name), getattr(self, f"{name}_file")
            if key and path:
                raise Defect(f"{name}_file", path, f"set as well as {name}; expected one of the two")
            if not path:
                keys[name] = key
            elif not (key := read_key_file(f"{name}_file", path, secret=name == NAMES[0])):
                raise Defect(f"{name}_file", path, "is empty; expected a key")
            else:
                keys[name] = key
        return keys

    def revoked(self) -> frozenset[str]:
        """The `jti` of the tokens that are revoked, read anew. Raises Defect."""
        if not self.revoked_file:
            return frozenset()
        from engine.auth.revoked import parse_revoked

        document = read_named_file("revoked_file", self.revoked_file, "a file with the jti of a token on each line")
        try:
            return parse_revoked(document)
        except ValueError as error:
            raise Defect("revoked_file", self.revoked_file, str(error)) from None

    def verify(self) -> None:
        if self.revoked_file and not self.enabled:
            problem = "no token is asked for, so none can be revoked; expected a key to verify tokens with beside it"
            raise Defect("revoked_file", self.revoked_file, problem)
        self.revoked()
        keys = {name: key for name, key in self.keys().items() if key}
        if not keys:
            return
        if self.jwks.endpoint:
            raise Defect(self._said(next(iter(keys))), MASK, "set as well as jwks.endpoint; expected one of the two")
        from engine.auth.verifier import Verifier  # which decides what a usable key is

        try:
            Verifier(**keys)  # type: ignore[arg-type]  # texts by their names
        except ConfigError as error:
            name, _, problem = str(error).partition(": ")
            if path := getattr(self, f"{name}_file"):
                raise Defect(f"{name}_file", path, problem) from None
            secret = name == "hmac_secret_key" or "PRIVATE" in keys[name]
            raise Defect(name, MASK if secret else keys[name], problem) from None

    def _said(self, name: str) -> str:
        return f"{name}_file" if getattr(self, f"{name}_file") else name


def read_key_file(key: str, path: str, *, secret: bool) -> str:
    """The text of the file that `key` names; one with a secret only its owner may read. Raises Defect."""
    if secret:
        return read_secret_file(key, path).strip()
    try:
        return read_named_file(key, path, "a file with a public key in PEM").decode()
    except UnicodeDecodeError:
        raise Defect(key, path, "not UTF-8; expected a public key in PEM") from None
