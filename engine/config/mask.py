"""What is printed in place of a secret."""

from __future__ import annotations

from engine.secret import MASK

__all__ = ["MASK", "mask_userinfo"]


def mask_userinfo(text: str) -> str:
    """A URL, or a chain of proxies joined by ->, without passwords; these may have been pasted raw."""
    parts = []
    for part in text.split("->"):
        front, at, place = part.rpartition("@")
        scheme, separator, userinfo = front.partition("://") if "://" in front else ("", "", front)
        user, colon, _ = userinfo.partition(":")
        parts.append(f"{scheme}{separator}{user}{colon and ':' + MASK}{at}{place}")
    return "->".join(parts)
