"""Who can do something about what stopped us, and what: in the words of our own configuration."""

from __future__ import annotations

import re
from typing import Final

from engine.doctor.node import YOU, Stopped
from proxy_adapters import AuthenticationFailed, TunnelError

# What proxy_adapters advises to any program, as it is called here.
_HERE: Final = (
    ("load one into its TLS context", "give one by connect.proxy.tls.cert and connect.proxy.tls.key"),
    ("trust it here", "trust it by connect.proxy.tls.root_cas"),
    ("give a user and a password", "give connect.proxy.user and connect.proxy.password_file"),
    ("in the proxy URL", "in connect.proxy.url"),
)
_LOGIN_HOSTS: Final = re.compile(r"add (\S+) to login_hosts")

# Attempts to log in that came to nothing for want of something, and what it is.
_MISSING: Final = {
    "no user and password given": "give connect.proxy.user and connect.proxy.password_file",
    "No Kerberos credentials": "run kinit, or give connect.proxy.auth.client_keytab",
}


def next_step(problem: TunnelError | Stopped) -> tuple[str, str]:
    """Who can act, and how."""
    who, advice = problem.who, problem.advice
    if isinstance(problem, TunnelError) and problem.leg.startswith("pac"):
        return YOU, advice or "is connect.proxy.pac right?"
    if isinstance(problem, TunnelError) and problem.leg.startswith("target") and "://" not in problem.hop:
        advice = f"{advice.rstrip('?')}; or is a proxy the only way out of this network (connect.proxy.url)?".lstrip(
            "; "
        )
    if isinstance(problem, TunnelError) and (seconds := problem.retry_after_seconds):
        advice = f"it asks for a pause of {seconds:g} s, which an agent makes"
    if isinstance(problem, AuthenticationFailed) and problem.attempts:
        missing = [words for words in _MISSING if any(words in attempt for attempt in problem.attempts)]
        if all(any(words in attempt for words in _MISSING) for attempt in problem.attempts):
            advice = ", or ".join(_MISSING[words] for words in missing)
    if isinstance(problem, AuthenticationFailed) and (_password_refused(problem) or not advice):
        advice = "check user and password: connect.proxy.user and connect.proxy.password_file, or those in the URL"
    for general, here in _HERE:
        advice = advice.replace(general, here)
    return who, _LOGIN_HOSTS.sub(r"trust that name by --connect.proxy.auth.login-hosts \1", advice)


def login_refused(error: AuthenticationFailed) -> bool:
    """Whether the proxy was told who we are, and did not like it."""
    return any(re.search(r"(?::|was) refused\b", attempt) for attempt in error.attempts)


def _password_refused(error: AuthenticationFailed) -> bool:
    """And it was a user and a password, not a ticket or a token."""
    return any(re.search(r"(?<!^GSSAPI): refused\b", attempt) for attempt in error.attempts)
