"""`trioduct server config check --public`."""

from __future__ import annotations

import json
from pathlib import Path

from engine.cli import main
from tests.cli.command_line import Captured

ARGV = ["server", "config", "check", "--config.path", "server.yaml", "--public"]


def test_a_checklist_is_printed_and_a_must_that_is_missing_is_exit_code_1(capsys: Captured) -> None:
    Path("server.yaml").write_text("upstream: {auth: {audience: me}}")
    assert main(ARGV) == 1
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0].startswith("missing  proxy.tls ")
    assert lines[-1].endswith(" 3 missing")


def test_risks_alone_are_no_failure_and_programs_read_json(capsys: Captured) -> None:
    Path("server.yaml").write_text(
        "proxy: {bind_addr: '127.0.0.1:0'}\nupstream: {bind_addr: '127.0.0.1:0', tenants: []}"
    )
    assert main([*ARGV, "--json"]) == 1
    points = json.loads(capsys.readouterr().out)
    assert {"key": "upstream.auth", "state": "missing"}.items() <= points[
        [p["key"] for p in points].index("upstream.auth")
    ].items()
    assert main([*ARGV, "--json", "--upstream.auth.hmac-secret-key-file", "key"]) == 2
    key = Path("key")
    key.write_text("0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978")
    key.chmod(0o600)
    assert main([*ARGV, "--json", "--upstream.auth.hmac-secret-key-file", "key"]) == 0
