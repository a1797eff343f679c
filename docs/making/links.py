"""Links: a page's links lead to the same place in the repository and on the site.

In a page they are those of the repository: relative to its file, out of docs/ where need be. The
site has the pages of docs/ and the documents of SITE_PAGES; a link to any other file becomes its
words there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

# Documents of the repository's root that are pages of the site.
SITE_PAGES = {"PAPERS.md": "papers.md", "BENCHMARKS.md": "benchmarks.md"}
LINK = re.compile(r"(?<!\\)(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"^(```+).*?^\1 *$|(?<!`)(`+)(?!`).*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def links(text: str) -> Iterator[str]:
    """Find the targets of a document's links, those in code left out."""
    for found in LINK.finditer(without_code(text)):
        yield found[3]


def without_code(text: str) -> str:
    """Blank out code, with every place kept: links and headings in it are none."""
    return CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def is_local(target: str) -> bool:
    """Tell a file or an anchor of the repository from an address elsewhere."""
    return not re.match(r"[a-z][a-z0-9+.-]*:|//", target)


def resolve(document: str, target: str) -> tuple[str, str]:
    """Name the file that a link leads to, from the repository's root, and the anchor in it."""
    path, _, anchor = target.partition("#")
    base = posixpath.dirname(document)
    return (posixpath.normpath(posixpath.join(base, path)) if path else document), anchor


def anchors(text: str) -> list[str]:
    """List the anchors of a document's headings, as GitHub and the site make them: small letters,
    no punctuation, a hyphen for a blank. A second heading of one name has none that both share.
    """
    blocks = re.sub(r"^(```+).*?^\1 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    return list(dict.fromkeys(slug(heading) for heading in HEADING.findall(blocks)))


def slug(heading: str) -> str:
    """Make the anchor of one heading."""
    words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    words = re.sub(r"\\(.)", r"\1", words).replace("`", "").replace("**", "")
    return re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")


def for_site(document: str, text: str) -> str:
    """Rewrite a document's links for its page of the site."""
    code = [found.span() for found in CODE.finditer(text)]
    here = posixpath.dirname(site_page(document) or "")

    def rewrite(found: re.Match) -> str:
        if any(start <= found.start() < end for start, end in code) or not is_local(found[3]):
            return found[0]
        file, anchor = resolve(document, found[3])
        page = site_page(file)
        if page is None:
            return found[2]
        if file == document:
            return f"{found[1]}[{found[2]}](#{anchor})"
        to = posixpath.relpath(page, here or ".")
        return f"{found[1]}[{found[2]}]({to}{'#' * bool(anchor)}{anchor})"

    return LINK.sub(rewrite, text)


def site_page(file: str) -> str | None:
    """Name the page or file of the site that a file of the repository becomes, if it does."""
    if file in SITE_PAGES:
        return SITE_PAGES[file]
    inside = file.startswith("docs/") and not file.endswith(".py")
    return file.removeprefix("docs/") if inside else None
