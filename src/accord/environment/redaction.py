"""Hide secrets in a text: tokens by their looks, and the values of secret environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

# Patterns of the tokens of widely used services, and of a password in a URL.
TOKEN = re.compile(
    r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.[\w-]{10,}\.|://[^/\s:@]+:[^/\s@]+@|-----BEGIN"
)
# Environment variables whose value is a secret of whatever shape. Shorter values ("false") stand in
# texts by chance.
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST = 12
HIDDEN = "***"


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Hide tokens, and the values of secret environment variables, in a text."""
    environment = os.environ if environment is None else environment
    for name, value in environment.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return TOKEN.sub(HIDDEN, text)
