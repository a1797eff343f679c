"""accord brings a language model into accord with preferences, and shows that it worked.

    import accord
    accord.train(model="smollm2", data="pairs.jsonl", method="dpo", beta=0.1)

Heavy imports (torch, transformers) wait until something needs them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "AccordError",
    "AccordWarning",
    "DataWarning",
    "RedFlag",
    "advise",
    "audit",
    "compare",
    "convert",
    "dry_run",
    "evaluate",
    "export",
    "generate",
    "objectives",
    "pair",
    "report",
    "resume",
    "sample",
    "score",
    "split",
    "sweep",
    "train",
    "types",
]

# public name -> the module that has it; None: it is a module itself
_WHERE = {
    "AccordError": "accord.errors",
    "AccordWarning": "accord.errors",
    "DataWarning": "accord.errors",
    "RedFlag": "accord.errors",
    "advise": "accord.api.data",
    "audit": "accord.api.data",
    "compare": "accord.api.comparing",
    "convert": "accord.api.data",
    "dry_run": "accord.api.training",
    "evaluate": "accord.api.measuring",
    "export": "accord.api.measuring",
    "generate": "accord.api.measuring",
    "objectives": None,
    "pair": "accord.api.measuring",
    "report": "accord.api.measuring",
    "resume": "accord.api.training",
    "sample": "accord.api.measuring",
    "score": "accord.api.measuring",
    "split": "accord.api.data",
    "sweep": "accord.api.comparing",
    "train": "accord.api.training",
    "types": None,
}

if TYPE_CHECKING:
    from accord import objectives, types
    from accord.api.comparing import compare, sweep
    from accord.api.data import advise, audit, convert, split
    from accord.api.measuring import evaluate, export, generate, pair, report, sample, score
    from accord.api.training import dry_run, resume, train
    from accord.errors import AccordError, AccordWarning, DataWarning, RedFlag


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


class _Package(ModuleType):
    """The package itself, where `evaluate` is the function.

    Importing a module of the room `accord.evaluate` would put the room in its place.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "evaluate" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
