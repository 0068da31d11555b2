"""The files of pages that browsers are shown in place of errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.config.check import Defect, read_named_file

if TYPE_CHECKING:
    from engine.gateway.pages import Pages
    from engine.loop.renewed import Renewed

MAX_PAGE = 64 * 1024
KEY = "error_pages"
EXPECTED = f"an HTML document of at most {MAX_PAGE // 1024} KiB"

Named = Sequence[tuple[str, str]]
"""Statuses and files."""


def read_pages(named: Named) -> dict[str, bytes]:
    """The documents by their statuses. Raises Defect."""
    documents: dict[str, bytes] = {}
    for status, path in named:
        said = f"{status}={path}"
        if status in documents:
            raise Defect(KEY, said, "is the second page of that status; expected one for each")
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise Defect(KEY, said, f"is no file; expected {EXPECTED}")
        document = read_named_file(KEY, path, EXPECTED, most=MAX_PAGE + 1)
        if not 0 < len(document) <= MAX_PAGE:
            raise Defect(KEY, said, f"{'too long' if document else 'empty'}; expected {EXPECTED}")
        try:
            document.decode()
        except UnicodeDecodeError:
            raise Defect(KEY, said, "not UTF-8; expected an HTML document in UTF-8") from None
        documents[status] = document
    return documents


def open_pages(section: str, named: Named) -> tuple[Pages, Renewed]:
    """The pages, and what reads them again when a file has changed. Raises Defect."""
    from engine.gateway.pages import Pages
    from engine.loop.renewed import Renewed

    pages = Pages(read_pages(named))

    def read_again() -> None:
        pages.documents = read_pages(named)

    return pages, Renewed(f"{section}.{KEY}", [path for _, path in named], read_again)
