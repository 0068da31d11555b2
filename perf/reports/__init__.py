"""Reports: tables on the terminal, Markdown, HTML, charts."""
