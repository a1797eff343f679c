"""Calls of mkdocs while it builds the site: the pages of the repository, with links that hold on
the site, and the playground shown where a page links to it.
"""

from __future__ import annotations

import re

from making.links import SITE_PAGES, for_site
from making.text import ROOT
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

PLAYGROUND = re.compile(r"^\[([^\]\n]+)\]\((playground\.html#[\w=]+)\)$", re.MULTILINE)
FRAME = '<iframe class="playground" src="{target}" title="{words}" loading="lazy"></iframe>'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that they have on the repository's page."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make pages of two documents of the repository's root."""
    for name, page in SITE_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **around: object) -> str:
    """Rewrite a page before it becomes HTML."""
    documents = {site: name for name, site in SITE_PAGES.items()}
    document = documents.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return PLAYGROUND.sub(_embedded, for_site(document, markdown))


def _embedded(found: re.Match) -> str:
    return f"{found[0]}\n\n{FRAME.format(words=found[1], target=found[2])}"
