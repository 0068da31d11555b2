"""Negotiate (RFC 4559) with Kerberos: a ticket for the proxy in place of a password.

Tried in this order, each only if the one before it cannot even start: the ticket cache (or the client
keytab of the login), then user and password, for which the KDC gives a ticket. The service is named as the
user wrote the proxy's host; only if Kerberos does not know that name, by what DNS makes of it.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from proxy_adapters.auth.challenge import Challenge
from proxy_adapters.auth.login import Asked, CannotStart, Conversation
from proxy_adapters.gssapi import GSSError, Initiator
from proxy_adapters.handshake import Work

T = TypeVar("T")


def negotiate(asked: Asked) -> Conversation:
    context, token = yield from _first_token(asked)
    while token:
        asked.spent = True
        heard: Challenge = yield f"Negotiate {b64encode(token).decode('ascii')}"
        if heard.token:
            try:
                token = yield from _work(partial(context.step, b64decode(heard.token, validate=True)))
            except (GSSError, binascii.Error) as error:
                return f"the proxy's token makes no sense: {error}"
        elif not heard.final:
            return "the ticket was refused: another service name is wanted, or the proxy means NTLM"
        if heard.final:
            return None if context.mutual else "there is no token in its answer that would do it"
    return None


def _first_token(asked: Asked) -> Generator[Work, Any, tuple[Initiator, bytes]]:
    login, problems = asked.login, list[str]()
    host = asked.proxy.host
    # The principal with an empty realm is taken literally; the host-based name may be canonicalised by DNS.
    services = [login.service_principal] if login.service_principal else [f"HTTP/{host}@", f"HTTP@{host}"]
    for service in services:
        try:
            return (yield from _work(partial(_begin, service, keytab=login.client_keytab)))
        except GSSError as error:
            problems.append(str(error))
    if login.kerberos_password and login.user and login.password and login.client_keytab is None:
        password = yield from asked.password()
        user = login.user.rpartition("\\")[2]
        for service in services:
            try:
                return (yield from _work(partial(_begin, service, user=user, password=password)))
            except GSSError as error:
                problems.append(str(error))
                if "reauthentication failed" in str(error) or "ncorrect" in str(error):
                    asked.spent = True  # the KDC counts it as an attempt
                    break
    raise CannotStart("; ".join(dict.fromkeys(problems)))


def _begin(
    service: str, *, user: str | None = None, password: str | None = None, keytab: str | None = None
) -> tuple[Initiator, bytes]:
    context = Initiator(service, user=user, password=password, keytab=keytab)
    return context, context.step(b"")


def _work(function: Callable[[], T]) -> Generator[Work, Any, T]:
    try:
        result: T = yield Work(function)
    except TimeoutError as error:
        raise CannotStart(f"the KDC is silent: {error}") from error
    return result
