"""The beds of proxy_adapters, for the doctor as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import StringIO

import pytest
import trio

from engine.config import ConnectConfig, OutConfig
from engine.doctor.doctor import run_doctor
from engine.doctor.report import Report, Verdict
from tests.proxy_adapters.beds.conftest import (
    dead,
    inspector,
    lab,
    member,
    no_realm,
    realm,
    secure_web,
    squid_all_four,
    squid_basic,
    squid_digest,
    squid_inspecting,
    squid_kerberos,
    squid_ntlm,
    squid_open,
    squid_tls,
    web,
)
from tests.roles import roles

__all__ = [
    "dead",
    "inspector",
    "lab",
    "member",
    "no_realm",
    "realm",
    "roles",
    "secure_web",
    "squid_all_four",
    "squid_basic",
    "squid_digest",
    "squid_inspecting",
    "squid_kerberos",
    "squid_ntlm",
    "squid_open",
    "squid_tls",
    "web",
]


class Examined:
    """How an examination went: its verdict, its steps, and all that was printed."""

    def __init__(self, verdict: Verdict, report: Report, text: str) -> None:
        self.verdict = verdict
        self.steps = report.steps
        self.text = text

    def of(self, name: str) -> list[tuple[str, str]]:
        """State and text of the steps of that name."""
        return [(step.state, step.text) for step in self.steps if step.name == name]

    @property
    def names(self) -> list[str]:
        return [step.name for step in self.steps]


Examine = Callable[..., Awaitable[Examined]]


def connect_to(port: int, *proxies: str, scheme: str = "http", **proxy: object) -> ConnectConfig:
    """As an agent's configuration has it, checked; `proxy` are keys of connect.proxy, in which __ stands for a dot."""
    connect = ConnectConfig(url=f"{scheme}://127.0.0.1:{port}", proxy=OutConfig(url=list(proxies)))
    for key, value in proxy.items():
        section, _, name = key.rpartition("__")
        setattr(getattr(connect.proxy, section) if section else connect.proxy, name, value)
    return connect


@pytest.fixture(autouse=True)
def patient_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk through several real proxies may take longer than roles alone."""
    monkeypatch.setattr("tests.roles.HUNG_SECONDS", 50)


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Runs the doctor with nothing from the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    async def run(connect: ConnectConfig, endpoint: str = "", **options: object) -> Examined:
        out = StringIO()
        report = Report(out)
        with trio.fail_after(40):
            verdict = await run_doctor(connect, endpoint, report, **options)  # type: ignore[arg-type]  # a test's own
        return Examined(verdict, report, out.getvalue())

    return run
