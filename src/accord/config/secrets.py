"""Refusal of configs that hold a secret: a run's folder is made to be shared.

Environment variables are never written down. The values of a config are: in config.yaml, in the
model card, in the recorded command. So a token in a value, or in a path, is an error before
anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from accord.environment.redaction import redact
from accord.errors import UsageError

if TYPE_CHECKING:  # a broken pydantic must not keep `faults` from hiding secrets
    from accord.config.schema import Config


def refuse_secrets(config: Config) -> None:
    """Refuse a config that holds a token.

    Raises:
      UsageError: a value of the config is or holds a token; names the field, and not the token.
    """
    for path, value in _texts(config.model_dump(mode="json")):
        if redact(value) != value:
            raise UsageError(
                f"{path} holds what looks like a secret ({redact(value)!r:.80}). It would be"
                " written into the run's folder.\nRename the file or folder; tokens belong into"
                " environment variables, which are never written down."
            )


def _texts(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every string in nested sections and lists."""
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
