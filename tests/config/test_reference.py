"""The reference of all keys: docs/reference is what the declarations say."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import AgentConfig, ForwardConfig, Section, ServerConfig, knobs
from engine.config.reference import main, pages

FOLDER = Path(__file__).parents[2] / "docs/reference"


@pytest.mark.parametrize("name", pages())
def test_a_page_is_what_the_declarations_say(name: str) -> None:
    assert (FOLDER / name).read_text() == pages()[name], "python -m engine.config.reference docs/reference"


@pytest.mark.parametrize(
    ("name", "root"), [("server.md", ServerConfig), ("agent.md", AgentConfig), ("forward.md", ForwardConfig)]
)
def test_every_key_has_its_line_with_the_default_of_its_place(name: str, root: type[Section]) -> None:
    page = pages()[name]
    for knob in knobs(root):
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{knob.key}` |")]
        default = knob.default(root).replace("|", "\\|")
        assert f"| `{default}` |" in line if default else "|  |" in line


def test_keys_that_stand_in_lists_and_mappings_are_told() -> None:
    assert "| `listeners[].endpoint_id` |" in pages()["agent.md"]
    assert "| `ports[].addr` |" in pages()["forward.md"]
    assert "| `proxy.endpoints.NAME.allow` |" in pages()["server.md"]
    assert "| `--key-file` |" in pages()["commands.md"]


def test_the_pages_are_written_into_a_folder(tmp_path: Path) -> None:
    main(tmp_path / "reference")
    assert {path.name for path in (tmp_path / "reference").iterdir()} == set(pages())
