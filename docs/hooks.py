"""What mkdocs calls while it builds the site. All of it is in `making`: markdown made from the code
and from results.
"""

from __future__ import annotations

from making.pages import expand


def on_page_markdown(markdown: str, **around: object) -> str:
    """A page before it becomes HTML, its `{{ … }}` replaced by what they name."""
    return expand(markdown)
