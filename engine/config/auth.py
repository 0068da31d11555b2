"""The tokens (JWT) that a port asks for, and the keys to verify them with."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import unquote, urlsplit

from msgspec import field

from engine.config.check import Defect, read_named_file
from engine.config.kinds import KeySetURL, SecondsOrDefault, Secret, Switch, Text
from engine.config.knob import Section
from engine.config.mask import MASK
from engine.errors import ConfigError


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
    audience: Annotated[Text, "Required `aud` claim; empty: not checked."] = ""
    issuer: Annotated[Text, "Required `iss` claim; empty: not checked."] = ""
    disable_disconnect_on_expiry: Annotated[Switch, "Keep a session when its token expires."] = False
    jwks: JWKSConfig = field(default_factory=JWKSConfig)

    @property
    def enabled(self) -> bool:
        """Whether there is anything to verify a token with, so that one is asked for."""
        return bool(self.hmac_secret_key or self.rsa_public_key or self.ecdsa_public_key or self.jwks.endpoint)

    def verify(self) -> None:
        names = ("hmac_secret_key", "rsa_public_key", "ecdsa_public_key")
        keys = {name: key for name in names if (key := getattr(self, name))}
        if not keys:
            return
        if self.jwks.endpoint:
            raise Defect(next(iter(keys)), MASK, "set as well as jwks.endpoint; expected one of the two")
        from engine.auth.verifier import Verifier  # which decides what a usable key is

        try:
            Verifier(
                hmac_secret_key=self.hmac_secret_key,
                rsa_public_key=self.rsa_public_key,
                ecdsa_public_key=self.ecdsa_public_key,
            )
        except ConfigError as error:
            name, _, problem = str(error).partition(": ")
            secret = name == "hmac_secret_key" or "PRIVATE" in keys[name]
            raise Defect(name, MASK if secret else keys[name], problem) from None
