"""The documentation as a site, of which every page is a file to be read as it is, too:

sphinx-build -c docs -W --keep-going -q . build/site
"""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]

project = "Trioduct"
author = copyright = "The Trioduct authors"
release = version = re.findall(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)[0]

# The root of the project, so that links between docs/ and what lies beside it are links of the site.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "deploy/README.md", "perf/README.md"]
exclude_patterns = [".*", "build", "dist", "engine", "examples", "perf-results", "proxy_adapters", "tests", "trioduct"]
html_additional_pages = {"index": "home.html"}  # leads to docs/index
templates_path = ["templates"]

extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"Trioduct {release}"
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
