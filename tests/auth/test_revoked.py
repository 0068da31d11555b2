"""The file of revoked tokens."""

from __future__ import annotations

import pytest

from engine.auth.revoked import parse_revoked


def test_names_stand_on_lines_of_their_own() -> None:
    assert parse_revoked(b"a\n#b\n\n c d \r\n\xc3\xa4") == {"a", "c d", "ä"}


@pytest.mark.parametrize(("content", "line"), [(b"a\n\xff", 2), (b"\x00", 1), (b"a\nb\n" + b"c" * 1025, 3)])
def test_a_line_that_is_no_name_is_told(content: bytes, line: int) -> None:
    with pytest.raises(ValueError, match=f"^line {line} is not"):
        parse_revoked(content)
