"""A port on which tenants have keys of their own: a token is verified by those of the tenant that it is shown for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from engine.auth.verifier import Claims, Verifier, tenant_said
from engine.errors import Unauthorized
from engine.wire import piko

MAX_KNOWN: Final = 4096


class ByTenant:
    """Verifies as a Verifier does (see Verifies): by the keys `of` the tenant that a request or its token names.

    Who names a tenant that has none, or no tenant, is verified by the `others`; without those he is refused.
    """

    def __init__(self, of: Mapping[str, Verifier], others: Verifier | None) -> None:
        self._of = of
        self._others = others
        self._known: dict[bytes, str] = {}  # field value that was verified -> the tenant that its token names

    @property
    def on_revoked(self) -> Callable[[], None]:
        """See Verifier."""
        return next(iter(self._of.values())).on_revoked

    @on_revoked.setter
    def on_revoked(self, callback: Callable[[], None]) -> None:
        for verifier in (*self._of.values(), *([self._others] if self._others is not None else [])):
            verifier.on_revoked = callback

    def verify(self, own: Sequence[bytes], standard: Sequence[bytes], tenant: Sequence[bytes] = ()) -> Claims:
        """See Verifier."""
        values = own or standard
        alone = values[0] if len(values) == 1 and not tenant else b""
        said = self._known.get(alone)
        if said is None:
            said = tenant_said(own, standard, tenant)
        verifier = self._of.get(said, self._others)
        if verifier is None:
            raise Unauthorized(piko.UNKNOWN_TENANT)
        claims = verifier.verify(own, standard, tenant)
        if alone:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[alone] = said
        return claims

    def is_revoked(self, claims: Claims) -> bool:
        """See Verifier."""
        verifier = self._of.get(claims.tenant, self._others)
        return verifier is not None and verifier.is_revoked(claims)
