"""`{{ name words }}` on a page becomes markdown; a name or a figure that is not there ends the
build.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from making import commands, data, figures, files, methods, monitoring, moving, python

MACRO = re.compile(r"\{\{ (.+?) \}\}")

MACROS: dict[str, Callable[..., str]] = {
    "audit_scale": figures.audit_scale,
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
    "coverage": figures.coverage,
    "include": files.include,
    "kl_spent": methods.kl_spent,
    "losses": moving.losses,
    "marks": data.marks,
    "metadata": data.metadata,
    "metrics": monitoring.metrics,
    "moving": moving.defaults,
    "objectives": methods.needs,
    "paths": figures.paths,
    "permissions": commands.permissions,
    "python": python.reference,
    "read_in": moving.read_in,
    "reading": figures.reading,
    "recipes": files.recipes,
    "rules": monitoring.rules,
    "silentbench": figures.silentbench,
    "transcripts": data.transcripts,
    "vs_trl": figures.vs_trl,
    "without": moving.without,
    "writers": data.writers,
}


class PageError(Exception):
    """A page asks for what is not there."""


def expand(markdown: str) -> str:
    """The page with every macro replaced. What a macro gives is not looked at again.

    Raises:
      PageError: no such macro; or the macro itself found no such file, figure or field.
    """
    return MACRO.sub(lambda found: _made(found[1]), markdown)


def _made(call: str) -> str:
    name, *words = shlex.split(call)
    if name not in MACROS:
        raise PageError(
            f"{{{{ {call} }}}}: no macro is called {name!r}. Known: {', '.join(MACROS)}."
        )
    try:
        return MACROS[name](*words)
    except (AttributeError, ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise PageError(f"{{{{ {call} }}}}: {type(error).__name__}: {error}") from error
