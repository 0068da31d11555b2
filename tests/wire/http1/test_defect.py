"""What is said of a head that is refused."""

from __future__ import annotations

import pytest

from engine.errors import RemoteProtocolError
from tests.wire.http1.heads import request


def test_a_message_names_the_value_escaped_and_cut() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        request(b"Content-Length: \xe9\x80" + b"9" * 1000)
    assert r"\xe9\x80" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
