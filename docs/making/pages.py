"""Pieces of a page that are made: what stands between `<!-- made: name words -->` and
`<!-- end -->` is written by the function of that name.

The comments are seen by nobody who reads the page, so that the page in the repository, in an
editor and on the site is one file (docs/decisions/0044-pages-that-read-anywhere.md).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from accord.play.build import page as playground
from making import commands, data, figures, files, methods, monitoring, moving, python, training
from making.text import ROOT

# What stands between the comments; an opening comment with nothing behind it begins a block.
# Comments between backticks are shown as code.
OPENING = r"(?<!`)<!-- made: (?P<call>[^\n]+?) -->"
CLOSING = r"<!-- end -->(?!`)"
MADE = re.compile(rf"{OPENING}(?P<body>.*?){CLOSING}", re.DOTALL)
COMMENT = re.compile(rf"{OPENING}|{CLOSING}")

# What `accord play` writes, so that pages can link to it and the site can show it.
PLAYGROUND = ROOT / "docs/playground.html"

MACROS: dict[str, Callable[..., str]] = {
    "audit_scale": figures.audit_scale,
    "scale": figures.scale,
    "audit_thresholds": data.thresholds,
    "checks": monitoring.checks,
    "code": files.code,
    "commands": commands.reference,
    "containers": data.containers,
    "content_names": data.content_names,
    "conventions": methods.conventions,
    "examples": files.examples,
    "exit_codes": commands.exit_codes,
    "fields": commands.fields,
    "figure": figures.figure,
    "fixes": data.fixes,
    "formats": data.formats,
    "guesses": data.guesses,
    "held_out": figures.held_out,
    "verdicts": figures.verdicts,
    "moved": figures.moved,
    "coverage": figures.coverage,
    "kl_spent": methods.kl_spent,
    "losses": moving.losses,
    "marks": data.marks,
    "metadata": data.metadata,
    "metrics": monitoring.metrics,
    "moving": moving.defaults,
    "objectives": methods.needs,
    "holding": methods.holding,
    "online_kills": figures.online_kills,
    "online_server": figures.online_server,
    "optimizers": training.optimizers,
    "paths": figures.paths,
    "quantized": figures.quantized,
    "permissions": commands.permissions,
    "python": python.reference,
    "policy_losses": methods.policy_losses,
    "read_in": moving.read_in,
    "reading": figures.reading,
    "recipes": files.recipes,
    "remedies_in_gallery": methods.remedies_in_gallery,
    "remedies_in_world": methods.remedies_in_world,
    "rules": monitoring.rules,
    "sharded_memory": figures.sharded_memory,
    "silentbench": figures.silentbench,
    "transcripts": data.transcripts,
    "two_nodes": figures.two_nodes,
    "vs_trl": figures.vs_trl,
    "without": moving.without,
    "writers": data.writers,
}


class PageError(Exception):
    """A page asks for what is not there."""


def pages() -> list[Path]:
    """List every page of docs/."""
    return sorted((ROOT / "docs").rglob("*.md"))


def stale() -> dict[Path, str]:
    """Find the pages whose made pieces are not what the code and the results say now, with the
    text that they should have; the playground among them.
    """
    fresh = {page: expand(page.read_text(encoding="utf-8")) for page in pages()}
    fresh[PLAYGROUND] = playground()
    return {
        page: text
        for page, text in fresh.items()
        if not page.is_file() or page.read_text(encoding="utf-8") != text
    }


def expand(markdown: str) -> str:
    """Write every made piece of a page anew; the rest is left as it is.

    Raises:
      PageError: no such macro; a comment without its partner; or the macro itself found no such
        file, figure or field.
    """
    written = MADE.sub(_piece, markdown)
    alone = COMMENT.search(without_made(written))
    if alone:
        raise PageError(f"{alone[0]} has no partner. A made piece: <!-- made: NAME --><!-- end -->")
    return written


def without_made(markdown: str) -> str:
    """The page without its made pieces: what was typed."""
    return MADE.sub("", markdown)


def _piece(found: re.Match) -> str:
    made = _made(found["call"])
    if COMMENT.search(made):
        raise PageError(f"{found['call']}: what it makes holds a comment of made pieces")
    # a block stands between blank lines: markdown reads a table right behind a comment as HTML
    body = f"\n\n{made}\n\n" if found["body"].startswith("\n") else made
    return f"<!-- made: {found['call']} -->{body}<!-- end -->"


def _made(call: str) -> str:
    name, *words = shlex.split(call)
    if name not in MACROS:
        raise PageError(f"{call}: no macro is called {name!r}. Known: {', '.join(MACROS)}.")
    try:
        return MACROS[name](*words)
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise PageError(f"{call}: {type(error).__name__}: {error}") from error
