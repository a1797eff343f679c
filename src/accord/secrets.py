"""A run's folder is made to be shared, so nothing secret may get into it: a config that holds a
token is refused.

Environment variables are never written down. What a config holds is: in config.yaml, in the model
card, in the recorded command. So a token in one of its values, or in a path, is an error before
anything is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from accord.errors import UsageError

if TYPE_CHECKING:  # a broken pydantic must not keep `faults` from hiding secrets
    from accord.config import Config

# What tokens of widely used services look like; and a password in a URL.
TOKEN = re.compile(
    r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.|://[^/\s:@]+:[^/\s@]+@|-----BEGIN"
)
# Environment variables whose value is a secret of whatever shape. Shorter values ("false") stand in
# texts by chance.
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST = 12
HIDDEN = "***"


def refuse_secrets(config: Config) -> None:
    """Raises:
    UsageError: a value of the config is or holds a token; names the field, and not the token.
    """
    for path, value in _texts(config.model_dump(mode="json")):
        if redacted(value) != value:
            raise UsageError(
                f"{path} holds what looks like a secret ({redacted(value)!r:.80}). It would be"
                " written into the run's folder.\nRename the file or folder; tokens belong into"
                " environment variables, which are never written down."
            )


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with tokens, and with the values of secret environment variables, hidden."""
    environment = os.environ if environment is None else environment
    for name, value in environment.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return TOKEN.sub(HIDDEN, text)


def _texts(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every string in a nest of sections and lists."""
    if isinstance(node, str):
        yield path, node
    children = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for name, child in children:
        yield from _texts(child, f"{path}.{name}".lstrip("."))
