"""The optimizers that train.optimizer names, and the fields of `train` that only some of them read.

What each does stands in `accord.engine.optimizers`; this table needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

OptimizerName = Literal[
    "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor", "sgd"
]
ADAMW = {"betas": (0.9, 0.999)}

# name -> the fields that it reads and some other optimizer does not, with their values where none
# is given
OPTIMIZER_OPTIONS: dict[str, Mapping[str, Any]] = {
    "adamw": ADAMW,
    "adamw_8bit": ADAMW,
    "paged_adamw": ADAMW,
    "paged_adamw_8bit": ADAMW,
    "adafactor": {},
    "sgd": {"momentum": 0.9},
}
# Optimizers whose updates are as large as their gradients: no learning rate serves all models.
NEED_A_RATE = ("sgd",)


def fill_options(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Write the defaults of the chosen optimizer's own fields into a section `train`, so that a
    run's config says what it trained with.
    """
    name = raw.get("optimizer", "adamw")
    own = OPTIMIZER_OPTIONS.get(name, {}) if isinstance(name, str) else {}
    return {**raw, **{key: value for key, value in own.items() if raw.get(key) is None}}


def unread_option(name: str, values: Mapping[str, Any]) -> str | None:
    """Describe a field that is given and that the optimizer does not read; None if there is none.

    Args:
      values: the fields of `train`, by name; None where one is not given.
    """
    for other, options in OPTIMIZER_OPTIONS.items():
        for field in options:
            if field not in OPTIMIZER_OPTIONS[name] and values.get(field) is not None:
                readers = [n for n, own in OPTIMIZER_OPTIONS.items() if field in own]
                return (
                    f"{field} = {_shown(values[field])} is for {', '.join(readers)}, and"
                    f" train.optimizer is {name}, which does not read it. Leave it out, or --set"
                    f" train.optimizer={other}"
                )
    return None


def missing_rate(name: str, rate: float | None) -> str | None:
    """Ask for the learning rate that an optimizer cannot do without; None where all is well."""
    if rate is not None or name not in NEED_A_RATE:
        return None
    return (
        f"train.optimizer = {name} needs a learning rate: its updates are as large as the"
        " gradients, and the rates that objectives suggest are AdamW's. Give one, such as --set"
        " train.learning_rate=0.01, or leave the optimizer at adamw"
    )


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else f"{value:g}"
