"""What other tools' defaults mean, from the tables that `accord import` reads by."""

from __future__ import annotations

from accord.environment.digests import flatten
from accord.migrate.common import READ_IN
from accord.migrate.reading import Without, read
from accord.migrate.run import TOOLS
from making.text import literal, plain, table


def defaults(tool: str) -> str:
    """What a tool does where its file is silent: key, value, what that means."""
    rows = [
        (literal(each.key), literal(each.value), plain(each.means) or "–")
        for each in TOOLS[tool].defaults({})
    ]
    return table(("where the file says nothing of", "it is", "note"), rows)


def read_in() -> str:
    """Name the versions whose sources were read."""
    *first, last = (f"{tool} {version}" for tool, version in READ_IN.items())
    return f"{', '.join(first)} and {last}"


def without(tool: str) -> str:
    """Keys that accord has nothing like, and what to do instead."""
    rows = [
        (literal(key), plain(rule.why))
        for key, rule in sorted(TOOLS[tool].rules.items())
        if isinstance(rule, Without)
    ]
    return table(("key", "instead"), rows)


# One small file for each loss, and for what changes a loss.
LOSSES = {
    "trl": (
        {"trainer": "dpo", "loss_type": "sigmoid"},
        {"trainer": "dpo", "loss_type": "sigmoid", "label_smoothing": 0.1},
        {"trainer": "dpo", "loss_type": "robust", "label_smoothing": 0.1},
        {"trainer": "dpo", "loss_type": "ipo"},
        {"trainer": "dpo", "loss_type": "hinge"},
        {"trainer": "dpo", "loss_type": "exo_pair", "label_smoothing": 0.001},
        {"trainer": "dpo", "loss_type": "nca_pair"},
        {"trainer": "dpo", "loss_type": "sppo_hard"},
        {"trainer": "dpo", "loss_type": "apo_zero"},
        {"trainer": "dpo", "loss_type": "apo_down"},
        {"trainer": "dpo", "loss_type": "sigmoid_norm", "beta": 5.0},
        {"trainer": "dpo", "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"trainer": "dpo", "rpo_alpha": 0.5},
        {"trainer": "dpo", "ld_alpha": 0.5},
        {"trainer": "dpo", "use_weighting": True},
        {"trainer": "dpo", "f_divergence_type": "js_divergence"},
        {"trainer": "dpo", "f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        {"trainer": "kto"},
        {"trainer": "bco"},
        {"trainer": "orpo"},
        {"trainer": "cpo", "loss_type": "sigmoid"},
        {"trainer": "cpo", "loss_type": "simpo"},
        {"trainer": "cpo", "loss_type": "simpo", "alpha": 0.25},
    ),
    "axolotl": (
        {"rl": "dpo"},
        {"rl": "dpo", "dpo_label_smoothing": 0.1},
        {"rl": "dpo", "dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0, 0.5]},
        {"rl": "dpo", "dpo_loss_type": ["apo_zero"]},
        {"rl": "ipo"},
        {"rl": "kto"},
        {"rl": "orpo"},
        {"rl": "simpo"},
    ),
    "llama-factory": (
        {"stage": "dpo", "pref_loss": "sigmoid"},
        {"stage": "dpo", "pref_loss": "sigmoid", "dpo_label_smoothing": 0.1},
        {"stage": "dpo", "pref_loss": "ipo"},
        {"stage": "dpo", "pref_loss": "hinge"},
        {"stage": "dpo", "pref_loss": "sigmoid", "pref_ftx": 0.5},
        {"stage": "kto"},
        {"stage": "dpo", "pref_loss": "orpo"},
        {"stage": "dpo", "pref_loss": "simpo"},
    ),
}


def losses(tool: str) -> str:
    """Show what `accord import` makes of each loss: read, not written down a second time."""
    return table(
        ("the file says", "the recipe says", "what to know"),
        [_loss(tool, settings) for settings in LOSSES[tool]],
    )


def _loss(tool: str, settings: dict) -> tuple[str, str, str]:
    found = read(TOOLS[tool], dict(settings))
    options = flatten(found.recipe["objective"])
    name = options.pop("name")
    notes = [
        line.text
        for line in found.lines
        if line.fate in ("to do", "no equivalent")
        and line.key in ("label_smoothing", "dpo_label_smoothing", "cpo_alpha")
    ]
    said = next(line.text for line in found.lines if line.text.startswith("objective.name = "))
    notes += [note for note in [said.partition("; ")[2]] if note]
    return (
        ", ".join(literal(f"{key}: {value}") for key, value in settings.items()),
        f"**{name}**: " + ", ".join(literal(f"{k}={_number(v)}") for k, v in options.items()),
        " · ".join(map(plain, notes)) or "–",
    )


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
