"""accord brings a language model into accord with preferences, and shows that it worked.

    import accord
    accord.train(model="smollm2", data="pairs.jsonl", method="dpo", beta=0.1)

Heavy imports (torch, transformers) wait until something needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["audit", "objectives", "resume", "train", "types"]

_WHERE = {
    "train": "accord.api",
    "resume": "accord.api",
    "audit": "accord.auditing.run",
    "objectives": None,
    "types": None,
}

if TYPE_CHECKING:
    from accord import objectives, types
    from accord.api import resume, train
    from accord.auditing.run import audit


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'accord' has no attribute {name!r}")
    module = _WHERE[name]
    return (
        importlib.import_module(f"accord.{name}")
        if module is None
        else getattr(importlib.import_module(module), name)
    )


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
