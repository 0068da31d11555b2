"""Where spans are sent, and what is said to the collector."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from engine.config import AgentConfig, Draft, Section, ServerConfig, to_yaml
from engine.config.tracing import TracingConfig
from tests.config.reading import Write, load, mistake

SECRET = "s3cret-of-the-collector"


def read(text: str, write: Write) -> TracingConfig:
    config = load(ServerConfig, write(text))
    assert isinstance(config, ServerConfig)
    return config.tracing


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
        ("https://otel.example.com/in/v1/traces", "https://otel.example.com/in/v1/traces"),
    ],
)
def test_a_url_without_a_path_has_that_of_otlp(url: str, endpoint: str, write: Write) -> None:
    assert read(f"tracing: {{url: '{url}'}}", write).endpoint() == endpoint


def test_it_is_off_and_an_agent_begins_no_trace_unless_it_is_told_to() -> None:
    assert (ServerConfig().tracing.url, AgentConfig().tracing.url) == ("", "")
    assert (ServerConfig().tracing.sample, AgentConfig().tracing.sample) == (1, 0)


def test_headers_are_secrets_from_the_environment_or_a_file(write: Write, tmp_path: Path) -> None:
    draft = Draft(ServerConfig)
    draft.read_environment({"TRIODUCT_TRACING_HEADERS": f"Authorization: Bearer {SECRET},X-Scope: a"})
    config = draft.finish()
    assert config.tracing.read_headers() == {"Authorization": f"Bearer {SECRET}", "X-Scope": "a"}
    assert SECRET not in to_yaml(config)
    assert SECRET not in repr(config)
    file = tmp_path / "headers"
    file.write_text(f"Authorization: Bearer {SECRET}\n\nX-Scope: a, b\n")
    file.chmod(0o600)
    tracing = read(f"tracing: {{url: 'http://localhost:4318', headers_file: {file}}}", write)
    assert tracing.read_headers() == {"Authorization": f"Bearer {SECRET}", "X-Scope": "a, b"}


WRONG = [
    (
        "tracing: {url: 'localhost:4318'}",
        "tracing.url: 'localhost:4318': expected an http:// or https:// URL without user and query; secrets go into "
        "headers",
    ),
    (
        "tracing: {url: 'https://otel.example.com/?api-key=x'}",
        "tracing.url: 'https://otel.example.com/?api-key=x': expected an http:// or https:// URL without user and "
        "query; secrets go into headers",
    ),
    ("tracing: {sample: 2}", "tracing.sample: '2': expected a number from 0 to 1"),
    ("tracing: {sample: nan}", "tracing.sample: 'nan': expected a number from 0 to 1"),
    ("tracing: {rate: -1}", "tracing.rate: '-1': expected a whole number, 0 or more"),
    ("tracing: {headers: [a]}", "tracing.headers: '***': expected a list of `Name: value`"),
    (
        "tracing: {headers: ['A: b'], headers_file: x}",
        "tracing.headers_file: 'x': set as well as headers; expected one of the two",
    ),
    (
        "tracing: {headers_file: /nowhere/x}",
        "tracing.headers_file: '/nowhere/x': No such file or directory; expected a file with the secret",
    ),
]


@pytest.mark.parametrize("root", [ServerConfig, AgentConfig])
@pytest.mark.parametrize(("text", "line"), WRONG, ids=[line[:40] for _, line in WRONG])
def test_what_is_wrong_is_told(text: str, line: str, root: type[Section], write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:1: {line}"


def test_a_user_in_the_url_is_refused_and_not_shown(write: Write) -> None:
    said = mistake(ServerConfig, write(f"tracing: {{url: 'https://me:{SECRET}@otel.example.com'}}"))
    assert "expected an http:// or https:// URL" in said
    assert SECRET not in said


def test_a_file_with_a_line_that_is_no_header_is_told_without_the_line(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    said = mistake(ServerConfig, write(f"tracing: {{headers_file: {file}}}"))
    assert said.endswith("has a line that is no header; expected `Name: value`")
    assert SECRET not in said


def test_what_is_not_installed_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = mistake(ServerConfig, write("tracing: {url: 'http://localhost:4318'}"))
    assert said == "file.yaml:1: tracing.url: needs OpenTelemetry; expected `pip install 'trioduct[otel]'`"


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("{}", []),
        ("{url: 'http://localhost:4318', headers: ['A: b']}", []),
        ("{url: 'https://otel.example.com', headers: ['A: b']}", []),
        ("{url: 'http://otel.example.com'}", []),
        (
            "{url: 'http://otel.example.com', headers: ['A: b']}",
            [
                "tracing.url http://otel.example.com: the headers are sent in clear text; https keeps them secret",
            ],
        ),
        ("{sample: 0.5, rate: 5}", ["tracing.sample, tracing.rate: of no effect without tracing.url"]),
    ],
)
@pytest.mark.parametrize("root", [ServerConfig, AgentConfig])
def test_what_may_not_be_meant_is_a_warning(
    text: str, warning: list[str], root: type[ServerConfig | AgentConfig], write: Write
) -> None:
    draft = Draft(root)
    draft.read_file(write(f"tracing: {text}"))
    draft.finish()
    assert [line for line in draft.warnings() if line.startswith("tracing.")] == warning
